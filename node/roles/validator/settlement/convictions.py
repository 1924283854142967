"""Having cheats slashed: a node is punished for what a quorum of validators found, each on its own.

A validator whose verdict convicts a stage asks the others to sign the conviction. Each signs only
what its own verdict on the very same bundle says. That also holds for rows that were not shown:
each validator has asked for them itself. With the quorum's signatures anybody can have the node's
provider slashed, once for a unit. The word of a single validator does nothing.

Validators that have not judged the bundle yet are asked again for a while. A conviction that does
not find enough signatures is dropped: even so the unit is not paid and the node is out of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from chain.errors import ChainError
from node.context import NodeContext
from node.errors import InputError
from node.onchain.validators import StakedPeers
from node.retry import Backoff, tries
from node.roles.validator.journal_events import ConvictionFound, VerdictSigned
from node.roles.validator.settlement.quorum import NotEnough, collect
from node.roles.validator.settlement.turns import turn_of
from node.wire.messages.settlement import ConvictRequest
from node.wire.messages.verification import Countersigned
from node.wire.methods import CONVICT
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

SIGNATURE_TRIES = Backoff.every(10.0, most=6)
MAX_WAITING = 256
"""Convictions that wait for their turn; more are dropped."""
MAX_UNDER_WAY = 32
"""Convictions for which signatures are asked at a time."""


@dataclass(frozen=True)
class ConvictionTiming:
    """Validators' turns lie `turn` seconds apart. `attempts` says how often the others are asked
    for signatures."""

    turn: float = 3.0
    attempts: Backoff = SIGNATURE_TRIES


def conviction_of(bundle: UnitBundle, verdict: Verdict, domain: Domain) -> Conviction | None:
    """The conviction that follows from a verdict on a bundle. None if the verdict blames nobody, or
    if what it rests on is not bound by the signatures of the stage and its neighbour, since then
    anybody may have written it."""
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

    def __init__(
        self,
        context: NodeContext,
        chain: ChainClient,
        staked: StakedPeers,
        timing: ConvictionTiming | None = None,
    ) -> None:
        self._context = context
        self._chain = chain
        self._staked = staked
        self._timing = timing or ConvictionTiming()
        self._send, self._receive = trio.open_memory_channel[Conviction](MAX_WAITING)

    async def note(self, bundle: UnitBundle, verdict: Verdict) -> None:
        """Take in a verdict of this node that is journaled already; repeating is harmless."""
        domain = self._context.receipt_domain
        conviction = await trio.to_thread.run_sync(conviction_of, bundle, verdict, domain)
        if conviction is None:
            return
        await self._context.journal.record(
            ConvictionFound(bundle_id=verdict.bundle_id, conviction=conviction.to_bytes())
        )
        try:
            self._send.send_nowait(conviction)
        except trio.WouldBlock:
            self._context.log.warning("conviction dropped: too many wait")

    async def run(self) -> None:
        """See convictions through until cancelled."""
        serve(self._context.network, CONVICT, self._on_convict, self._staked.require)
        places = trio.Semaphore(MAX_UNDER_WAY)
        async with trio.open_nursery() as nursery:
            async for conviction in self._receive:
                await places.acquire()
                self._context.supervisor.task(
                    nursery, "validator: conviction", self._in_place, conviction, places
                )

    async def _in_place(self, conviction: Conviction, places: trio.Semaphore) -> None:
        try:
            await self._see_through(conviction)
        finally:
            places.release()

    async def _see_through(self, conviction: Conviction) -> None:
        """Have it signed and posted when this node's turn comes, if enough others found the
        same."""
        chain = self._chain
        request = ConvictRequest(conviction=conviction.to_bytes())

        async def ask(peer_id: str) -> bytes:
            return (await call(self._context, peer_id, CONVICT, request)).signature

        log = self._context.log.bind(node=conviction.node, unit=conviction.job_id.hex()[:12])
        digest = conviction.digest(self._context.receipt_domain)
        try:
            validators = await chain.validators.addresses()
            salt = int.from_bytes(conviction.job_id[:4], "big")
            turn = turn_of(self._context.address, validators, conviction.pool_id, salt)
            await trio.sleep(turn * self._timing.turn)
            async for _ in tries(self._timing.attempts):
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
        try:
            conviction = Conviction.from_bytes(request.conviction)
        except (ProofError, ValueError) as exc:
            raise Refused("bad_conviction", str(exc)) from exc
        key = conviction.evidence.hex()
        own = await self._context.journal.find(ConvictionFound, key)
        if own is None:
            event = await self._context.journal.find(VerdictSigned, key)
            known = event is not None and SignedVerdict.from_bytes(event.verdict).verdict.accepted
            code = "not_found_guilty" if known else "not_judged"
            raise Refused(code, "my own verdict does not say so")
        if own.conviction != request.conviction:
            raise Refused("not_found_guilty", "my own verdict convicts another node")
        digest = conviction.digest(self._context.receipt_domain)
        return Countersigned(signature=sign_digest(self._context.key, digest))
