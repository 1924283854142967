"""Having cheats slashed: what a quorum of validators found, each by its own replay, is punished.

A validator whose verdict convicts a stage asks the others to sign the conviction; each signs only
what its own verdict on the very same bundle says. Rows that were not shown are not taken on
another's word either: each asked for them itself. With the quorum's signatures anybody can have the
node's provider slashed, once for a unit. One validator's word does nothing.

Validators that have not judged the bundle yet are asked again for a while. What did not find enough
signatures is dropped: the unit is not paid and the node is out of the pool all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from node.context import NodeContext
from node.errors import InputError
from node.onchain.receipt_domain import chain_refusals
from node.roles.validator.settlement.pending import turn_of
from node.roles.validator.settlement.quorum import NotEnough, collect
from node.wire.messages.settlement import ConvictRequest
from node.wire.messages.verification import Countersigned
from node.wire.methods import CONVICT
from node.wire.peer_addresses import address_of_peer
from node.wire.rpc import call, serve
from p2p.errors import Refused
from proofs.encoding.eip712 import Domain
from proofs.encoding.receipts import Conviction
from proofs.encoding.signing import sign_digest
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle, check_claims
from proofs.verdict.message import SignedVerdict, Verdict

if TYPE_CHECKING:
    from chain.client import ChainClient

TRIES = 6
RETRY_SECONDS = 10.0
TURN_SECONDS = 3.0
MAX_WAITING = 256


def conviction_of(bundle: UnitBundle, verdict: Verdict, domain: Domain) -> Conviction | None:
    """What a verdict on a bundle convicts, None where it blames nobody, or a stage by what is not
    bound by its own signature and its neighbour's: that may be anybody's writing."""
    if verdict.first_faulty is None or check_claims(bundle, domain):
        return None
    claim = bundle.stages[verdict.first_faulty]
    if claim.receipt is None:
        return None
    return Conviction(
        pool_id=claim.receipt.pool_id,
        node=claim.address,
        job_id=verdict.unit_id,
        evidence=verdict.bundle_id,
    )


class Convictions:
    """Collects, gives and posts signatures on convictions."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._send, self._receive = trio.open_memory_channel[Conviction](MAX_WAITING)

    async def note(self, bundle: UnitBundle, verdict: Verdict) -> None:
        """Take a verdict of this node's in, which is journaled already; repeating is harmless."""
        chain = self._context.chain
        if chain is None:
            return
        conviction = conviction_of(bundle, verdict, self._context.receipt_domain)
        if conviction is None:
            return
        await self._context.journal.append(
            "self.conviction", bundle.content_id.hex(), conviction.to_bytes()
        )
        try:
            self._send.send_nowait(conviction)
        except trio.WouldBlock:
            self._context.log.warning("conviction dropped: too many wait")

    async def run(self) -> None:
        """See convictions through until cancelled."""
        chain = self._context.chain
        if chain is None:
            return
        serve(self._context.network, CONVICT, self._on_convict)
        async with trio.open_nursery() as nursery:
            async for conviction in self._receive:
                nursery.start_soon(self._see_through, chain, conviction)

    async def _see_through(self, chain: ChainClient, conviction: Conviction) -> None:
        from chain.errors import ChainError

        request = ConvictRequest(conviction=conviction.to_bytes())

        async def ask(peer_id: str) -> bytes:
            return (await call(self._context, peer_id, CONVICT, request)).signature

        log = self._context.log.bind(node=conviction.node, unit=conviction.job_id.hex()[:12])
        digest = conviction.digest(chain.domain("ReceiptSettlement"))
        try:
            validators = await chain.validators.addresses()
            salt = int.from_bytes(conviction.job_id[:4], "big")
            turn = turn_of(self._context.address, validators, conviction.pool_id, salt)
            for attempt in range(TRIES):
                await trio.sleep(RETRY_SECONDS if attempt else turn * TURN_SECONDS)
                try:
                    signatures = await collect(self._context, chain, digest, ask)
                except NotEnough as exc:
                    log.info("not convicted yet", reason=str(exc))
                    continue
                if await chain.settlement.convict(conviction, list(signatures.items())) is not None:
                    log.warning("convicted and slashed", signers=len(signatures))
                return
            log.warning("not convicted: too few validators found the same")
        except (ChainError, InputError, ProofError) as exc:
            log.error("not convicted", reason=str(exc))

    async def _on_convict(self, peer_id: str, request: ConvictRequest) -> Countersigned:
        """Sign what this node's own verdict says. Raises `Refused`."""
        chain = self._context.chain
        if chain is None:
            raise Refused("no_chain", "this network slashes nobody")
        with chain_refusals():
            if not await chain.validators.weight_of(address_of_peer(peer_id)):
                raise Refused("not_a_validator", "only validators ask for convictions")
        try:
            conviction = Conviction.from_bytes(request.conviction)
        except (ProofError, ValueError) as exc:
            raise Refused("bad_conviction", str(exc)) from exc
        key = conviction.evidence.hex()
        own = await self._context.journal.get("self.conviction", key)
        if own is None:
            verdict = await self._context.journal.get("self.verdict", key)
            known = verdict is not None and SignedVerdict.from_bytes(verdict.body).verdict.accepted
            code = "not_found_guilty" if known else "not_judged"
            raise Refused(code, "my own verdict does not say so")
        if own.body != request.conviction:
            raise Refused("not_found_guilty", "my own verdict convicts another node")
        digest = conviction.digest(chain.domain("ReceiptSettlement"))
        return Countersigned(signature=sign_digest(self._context.key, digest))
