"""Which of a pool's epochs are final on chain: noted with the units that they pay."""

from __future__ import annotations

from node.journal import AsyncJournal
from node.roles.orchestrator.journal_events import SETTLED
from node.roles.orchestrator.ledger.writes import PayUnits
from node.settlement.follower import SettlementFollower

AT_ONCE = 64
"""Epochs that are noted in one go; a node that was away for long has many to learn of."""


class SettlementWatch:
    """The settlement of the pool `pool_id`; without a chain (0) there is never any."""

    def __init__(self, follower: SettlementFollower, journal: AsyncJournal, pool_id: int) -> None:
        self._follower = follower
        self._journal = journal
        self._pool_id = pool_id
        self._final = 0

    @property
    def epoch(self) -> int:
        """The newest epoch whose root is on chain, 1 before there is one."""
        return max(self._follower.history(self._pool_id).last, 1)

    async def restore(self) -> None:
        """Go on where an earlier run of this node was."""
        self._final = int(await self._journal.state(self._state, 0))

    async def note_final(self) -> int:
        """Note the payments of epochs that became final since the last look, on disk on return;
        how many epochs. Time alone makes them so."""
        history = self._follower.history(self._pool_id)
        found: list[PayUnits] = []
        while (entry := history.get(self._final + len(found) + 1)) is not None:
            if not entry.filled or not self._follower.is_final(history, entry):
                break
            epoch = await self._follower.data(entry)
            if epoch is None:
                break
            units = tuple(dict.fromkeys(job for job, _ in epoch.work))
            found.append(PayUnits(entry.number, entry.transaction, units))
            if len(found) == AT_ONCE:
                break
        if found:
            newest = found[-1].epoch
            await self._journal.write(*found, state={self._state: newest})
            self._final = newest
        return len(found)

    @property
    def _state(self) -> str:
        return f"{SETTLED}:{self._pool_id}"
