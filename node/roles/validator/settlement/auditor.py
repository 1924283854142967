"""Looking at one posted root: waiting for its data, finding its faults, taking turns about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from node.context import NodeContext
from node.errors import InputError
from node.roles.validator.settlement.chain_reads import ChainFacts
from node.roles.validator.settlement.pending import turn_of
from node.settlement.follower import SettlementFollower
from node.settlement.history import PoolHistory, PostedEpoch
from proofs.settlement.audit import Fault, audit

if TYPE_CHECKING:
    from chain.client import ChainClient

TURN_SECONDS = 1.5
LOOK_SECONDS = 5.0
"""How long is slept at most: the chain's clock need not go like ours."""
GRACE_SECONDS = 10.0
"""How long a node that comes late to a root waits for its data, if the window allows."""


class Auditor:
    """What the guard and the answers share. Raises `ChainError`s."""

    def __init__(
        self, context: NodeContext, follower: SettlementFollower, facts: ChainFacts
    ) -> None:
        self._context = context
        self._follower = follower
        self._facts = facts

    @property
    def chain(self) -> ChainClient:
        chain = self._context.chain
        if chain is None:
            raise InputError("this network has no chain")
        return chain

    def hash_of(self, entry: PostedEpoch) -> bytes:
        """As the contract has it."""
        return entry.posted.hash(self._context.receipt_domain)

    def gone(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        """Whether the root stands no more."""
        known = history.get(entry.number)
        return known is None or known.posted != entry.posted

    async def with_data(
        self, history: PoolHistory, entry: PostedEpoch, until: float
    ) -> PostedEpoch:
        """The entry with its data, once they and those of all epochs before it are here; without
        them when the root is gone, or they are not here at `until` (Unix seconds)."""
        while not history.complete(entry.number) and not self.gone(history, entry):
            left = until - self._follower.now()
            if left <= 0:
                break
            version = self._follower.version
            with trio.move_on_after(min(left, LOOK_SECONDS)):
                await self._follower.wait_changed(version)
        known = history.get(entry.number)
        return known if known is not None and not self.gone(history, entry) else entry

    async def patience(self, entry: PostedEpoch) -> float:
        """Until when (Unix seconds) the data of a root are waited for: half of its window, or a
        while from now where that is over, but never beyond the half of what is left."""
        terms = await self.chain.settlement.terms()
        now = self._follower.now()
        late = now + min(GRACE_SECONDS, max(entry.claimable_at - now, 0.0) / 2)
        return max(entry.claimable_at - terms.challenge_window / 2, late)

    async def faults(self, history: PoolHistory, entry: PostedEpoch) -> list[Fault]:
        """What is wrong with a root; the data of the epochs before it must be here."""
        epoch = entry.epoch
        receipts = [item.signed for item in epoch.data.receipts] if epoch is not None else []
        facts = await self._facts.before(history, entry.number, receipts)
        return await trio.to_thread.run_sync(audit, entry.posted.root, epoch, facts)

    async def delay(self, pool_id: int, epoch: int) -> float:
        """Seconds by which this node lets other validators go first."""
        validators = await self.chain.validators.addresses()
        return turn_of(self._context.address, validators, pool_id, epoch) * TURN_SECONDS
