"""What the journaled facts of settlement amount to: histories of pools and open disputes.

Pure: changed by `apply` alone, one fact at a time, in the order in which they were journaled. The
published data of epochs come from elsewhere and are added by `PoolHistory.fill`.
"""

from __future__ import annotations

from node.settlement.events import (
    DisputeEndSeen,
    DisputeSeen,
    RewindSeen,
    RootSeen,
    RootVoidSeen,
    SettlementFact,
)
from node.settlement.history import PoolHistory, PostedEpoch
from proofs.encoding.eip712 import Domain


class SettlementState:
    """Histories by pool id; open disputes' ids and the hash of the root that each is about."""

    def __init__(self) -> None:
        self.histories: dict[int, PoolHistory] = {}
        self.disputes: dict[int, bytes] = {}
        self.rewinds = 0
        """How often the chain took back what was read."""
        self._dispute_steps: list[tuple[int, int, bytes | None]] = []
        """Block, dispute and (None: it ended) root, in order."""

    def history(self, pool_id: int) -> PoolHistory:
        """A pool's history; empty for one that was never settled."""
        return self.histories.setdefault(pool_id, PoolHistory(pool_id))

    def is_final(self, pool_id: int, entry: PostedEpoch, domain: Domain, now: float) -> bool:
        """Whether claims on a root are open at `now` (Unix seconds), as far as its events tell."""
        if entry.number < self.history(pool_id).last:
            return True
        disputed = entry.posted.hash(domain) in self.disputes.values()
        return now >= entry.claimable_at and not disputed

    def apply(self, fact: SettlementFact, *, fresh: bool = True) -> bool:
        """Take one fact in; whether it may have changed anything.

        Not `fresh` is one that is in the journal already: the chain is read again from where the
        cursor stands, so what came after that is undone and done once more.
        """
        match fact:
            case RootSeen(place=place):
                entry = PostedEpoch(
                    fact.posted, fact.claimable_at, place.block, "0x" + place.transaction.hex()
                )
                return self.history(fact.root.pool_id).post(entry)
            case RootVoidSeen(place=place):
                return self.history(fact.pool_id).void(fact.epoch, place.block) is not None
            case DisputeSeen(place=place):
                self._dispute_step(place.block, fact.dispute_id, fact.root)
            case DisputeEndSeen(place=place):
                self._dispute_step(place.block, fact.dispute_id, None)
            case RewindSeen(after_block=block):
                self.rewinds += fresh
                for history in self.histories.values():
                    history.rewind(block)
                self._rewind_disputes(block)
        return True

    def _dispute_step(self, block: int, dispute_id: int, root: bytes | None) -> None:
        self._dispute_steps.append((block, dispute_id, root))
        if root is None:
            self.disputes.pop(dispute_id, None)
        else:
            self.disputes[dispute_id] = root

    def _rewind_disputes(self, block: int) -> None:
        steps = [step for step in self._dispute_steps if step[0] <= block]
        self._dispute_steps.clear()
        self.disputes.clear()
        for step in steps:
            self._dispute_step(*step)
