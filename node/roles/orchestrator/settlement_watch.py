"""Which of a pool's epochs are final on chain, as far as this node knows."""

from __future__ import annotations

from node.roles.orchestrator.coordinator.events import ChainSettled
from node.settlement.follower import SettlementFollower


class SettlementWatch:
    """The settlement of the pool `pool_id`; without a chain (0) there is never any."""

    def __init__(self, follower: SettlementFollower, pool_id: int) -> None:
        self._follower = follower
        self._pool_id = pool_id
        self._final = 0

    @property
    def epoch(self) -> int:
        """The newest epoch whose root is on chain, 1 before there is one."""
        return max(self._follower.history(self._pool_id).last, 1)

    def newly_final(self) -> list[ChainSettled]:
        """Epochs that became final since the last look. Time alone makes them so."""
        history = self._follower.history(self._pool_id)
        found: list[ChainSettled] = []
        while (entry := history.get(self._final + 1)) is not None:
            if entry.epoch is None or not self._follower.is_final(history, entry):
                break
            units = tuple(dict.fromkeys(job for job, _ in entry.epoch.work))
            found.append(ChainSettled(entry.number, entry.transaction, units))
            self._final = entry.number
        return found
