"""Signing another validator's epoch: only what this node can rebuild from its own verdicts.

The proposer sends a root, and its data are fetched from the proposer by hash. The root is signed if
the data rebuild exactly that root, follow the last epoch, pay at the right rate and pass the audit,
and if this node's own verdicts accepted every receipt, to the byte. Anything else is refused with
its reason; units that were not accepted here are named, so that the proposer can leave them out.
This node keeps and serves the data itself before the signature leaves it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import trio

from node.context import NodeContext
from node.errors import InputError
from node.journal import OnlyNewest
from node.onchain.receipt_domain import chain_refusals
from node.onchain.validators import StakedPeers
from node.roles.validator.journal_events import EpochCosigned
from node.roles.validator.settlement.chain_reads import ChainFacts
from node.settlement.follower import SettlementFollower
from node.wire.messages.settlement import Cosigned, CosignRequest
from p2p.errors import Refused
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.receipts import EpochRoot
from proofs.encoding.signing import sign_digest
from proofs.errors import ProofError
from proofs.settlement.audit import audit
from proofs.settlement.epoch import rate_is_fair
from proofs.settlement.epoch_data import Epoch, rebuild

COSIGNED_KEPT = 4096
"""Epochs that this node signed which its journal remembers, for its operator. What is signed twice
is the same, and whether it may be signed is asked of the chain each time."""

Accepted = Mapping[bytes, tuple[SignedReceipt, ...]]
"""What this node has accepted in a pool and no epoch has paid: receipts by unit id."""


def unaccepted(epoch: Epoch, accepted: Accepted) -> tuple[bytes, ...]:
    """Units of an epoch that are not, receipt by receipt, what this node accepted."""
    known = {
        (unit_id, item.receipt.stage): item.receipt
        for unit_id, items in accepted.items()
        for item in items
    }
    foreign = {
        item.receipt.job_id: None
        for item in epoch.data.receipts
        if known.get((item.receipt.job_id, item.receipt.stage)) != item.receipt
    }
    return tuple(foreign)


def torn_apart(epoch: Epoch, accepted: Accepted) -> bool:
    """Whether a unit is paid without all of its receipts; the rest would never be paid."""
    counts = Counter(item.receipt.job_id for item in epoch.data.receipts)
    return any(len(accepted.get(unit_id, ())) != count for unit_id, count in counts.items())


class Cosigner:
    """Answers `cosign`, asked by whoever `staked` says validates."""

    def __init__(
        self,
        context: NodeContext,
        staked: StakedPeers,
        follower: SettlementFollower,
        facts: ChainFacts,
    ) -> None:
        self._context = context
        self.staked = staked
        self._follower = follower
        self._facts = facts
        self._busy = trio.Lock()
        self._asking: set[str] = set()

    async def on_cosign(
        self, peer_id: str, request: CosignRequest, accepted_in: Callable[[int], Accepted]
    ) -> Cosigned:
        """Sign, or name what is not accepted here. Raises `Refused`."""
        if peer_id in self._asking:
            raise Refused("busy", "one epoch at a time")
        try:
            root = EpochRoot.from_bytes(request.root)
        except (ProofError, ValueError) as exc:
            raise Refused("bad_root", str(exc)) from exc
        self._asking.add(peer_id)
        try:
            with chain_refusals():
                content = await self._content(peer_id, root)
                async with self._busy:  # an epoch is large once it is decoded
                    return await self._judge(root, content, accepted_in(root.pool_id))
        finally:
            self._asking.discard(peer_id)

    async def _content(self, peer_id: str, root: EpochRoot) -> bytes:
        """The epoch's data. Only the proposer is asked for them, so that one that withholds them
        keeps nobody waiting but itself. Raises `Refused`."""
        await self._require_next(root)
        content = await self._follower.blobs.fetch_from(peer_id, root.data_hash)
        if content is None:
            raise Refused("no_data", "you do not serve the epoch's data")
        return content

    async def _require_next(self, root: EpochRoot) -> None:
        history = self._follower.history(root.pool_id)
        if root.epoch != history.last + 1 or not history.complete(history.last):
            raise Refused("not_next", f"I know {history.last} epochs of pool {root.pool_id}")
        if not await self._facts.settled_until(history):
            raise Refused("not_final", f"epoch {history.last} of pool {root.pool_id} is not final")

    async def _judge(self, root: EpochRoot, content: bytes, accepted: Accepted) -> Cosigned:
        await self._require_next(root)  # still
        history = self._follower.history(root.pool_id)
        domain = self._context.receipt_domain
        try:
            epoch = await trio.to_thread.run_sync(rebuild, content, domain)
        except ProofError as exc:
            raise Refused("bad_data", str(exc)) from exc
        if epoch.root != root:
            raise Refused("bad_data", "the data do not make that root")
        unknown = unaccepted(epoch, accepted)
        if unknown:
            return Cosigned(signature=b"", unknown=unknown)
        if torn_apart(epoch, accepted):
            raise Refused("bad_epoch", "it pays a unit's stages in part")
        receipts = [item.signed for item in epoch.data.receipts]
        facts = await self._facts.before(history, root.epoch, receipts)
        faults = await trio.to_thread.run_sync(audit, root, epoch, facts)
        if faults:
            raise Refused("bad_epoch", f"{faults[0]}"[:400])
        committed = sum(facts.earned.values())
        budget = await self._facts.budget(root.pool_id, committed)
        if root.previous_total != committed or not rate_is_fair(
            root.rate, budget.price, budget.available, root.total_units
        ):
            raise Refused("bad_epoch", f"a rate of {root.rate} wei is not what the pool can pay")
        try:
            await self._follower.blobs.put(content)
        except InputError as exc:
            raise Refused("disk", str(exc)) from exc
        digest = root.digest(domain)
        signed = EpochCosigned(
            pool_id=root.pool_id, epoch=root.epoch, digest=digest, root=root.to_bytes()
        )
        await self._context.journal.record(signed, OnlyNewest(EpochCosigned, COSIGNED_KEPT))
        return Cosigned(signature=sign_digest(self._context.key, digest), unknown=())
