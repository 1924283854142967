"""Auditing one posted root: waiting for its data, finding its faults, and whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from node.context import NodeContext
from node.roles.validator.settlement.chain_reads import ChainFacts
from node.roles.validator.settlement.turns import turn_of
from node.settlement.follower import SettlementFollower
from node.settlement.history import PoolHistory, PostedEpoch
from proofs.settlement.audit import Fault, audit

if TYPE_CHECKING:
    from chain.client import ChainClient


@dataclass(frozen=True)
class AuditTiming:
    """Seconds. Validators' turns lie `turn` apart. Nothing is slept on for longer than `look`, as
    the chain's clock may run differently from ours. A node that comes late to a root waits `grace`
    for its data if the window allows. What failed is tried again after `retry`, and what came too
    early for the chain's clock after `early`."""

    turn: float = 1.5
    look: float = 5.0
    grace: float = 10.0
    retry: float = 3.0
    early: float = 1.0


class Auditor:
    """What the guard and the answers share. Raises `ChainError`s."""

    def __init__(
        self,
        context: NodeContext,
        chain: ChainClient,
        follower: SettlementFollower,
        facts: ChainFacts,
        timing: AuditTiming | None = None,
    ) -> None:
        self._context = context
        self.chain = chain
        self._follower = follower
        self._facts = facts
        self.timing = timing or AuditTiming()

    def hash_of(self, entry: PostedEpoch) -> bytes:
        """The root's hash as the contract has it."""
        return entry.posted.hash(self._context.receipt_domain)

    def gone(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        """Whether the root no longer stands."""
        known = history.get(entry.number)
        return known is None or known.posted != entry.posted

    async def with_data(
        self, history: PoolHistory, entry: PostedEpoch, until: float
    ) -> PostedEpoch:
        """The entry with its data, once these and the data of all earlier epochs are here. Without
        them where the root is gone, or where they are still missing at `until` (Unix seconds)."""
        while not history.complete(entry.number) and not self.gone(history, entry):
            left = until - self._follower.now()
            if left <= 0:
                break
            version = self._follower.version
            with trio.move_on_after(min(left, self.timing.look)):
                await self._follower.wait_changed(version)
        known = history.get(entry.number)
        return known if known is not None and not self.gone(history, entry) else entry

    async def patience(self, entry: PostedEpoch) -> float:
        """Until when (Unix seconds) the data of a root are waited for: for half of its window or,
        where that is over, a while from now, though for no more than half of what is left."""
        terms = await self.chain.settlement.terms()
        now = self._follower.now()
        late = now + min(self.timing.grace, max(entry.claimable_at - now, 0.0) / 2)
        return max(entry.claimable_at - terms.challenge_window / 2, late)

    async def faults(self, history: PoolHistory, entry: PostedEpoch) -> list[Fault]:
        """What is wrong with a root; the data of the earlier epochs must be here."""
        epoch = entry.epoch
        receipts = [item.signed for item in epoch.data.receipts] if epoch is not None else []
        facts = await self._facts.before(history, entry.number, receipts)
        return await trio.to_thread.run_sync(audit, entry.posted.root, epoch, facts)

    async def delay(self, pool_id: int, epoch: int) -> float:
        """Seconds by which this node lets other validators go first."""
        validators = await self.chain.validators.addresses()
        return turn_of(self._context.address, validators, pool_id, epoch) * self.timing.turn
