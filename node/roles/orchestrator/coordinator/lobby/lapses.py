"""How often newcomers from a subnet came to nothing: they let an invite lapse, were lost or put to
rest before they had ever served. Work that is accepted clears its subnet."""

from __future__ import annotations

from node.roles.orchestrator.coordinator.decaying import Decaying

HALF_LIFE = 3600.0
MAX_SUBNETS = 4096
WORST = 3
"""Beyond so many lapses one subnet is as bad as another."""


class Lapses:
    """By subnet; times are monotonic seconds."""

    def __init__(self) -> None:
        self._counts: dict[str, Decaying] = {}

    def note(self, subnet: str, now: float) -> None:
        """A newcomer from there came to nothing."""
        count = self._counts.pop(subnet, None) or Decaying(at=now)
        count.add(now, HALF_LIFE)
        self._counts[subnet] = count
        if len(self._counts) > MAX_SUBNETS:
            del self._counts[next(iter(self._counts))]  # the one that was last noted longest ago

    def clear(self, subnet: str) -> None:
        """Somebody from there has served."""
        self._counts.pop(subnet, None)

    def rank(self, subnet: str, now: float) -> int:
        """0 for a subnet without lapses that still count, at most `WORST`."""
        count = self._counts.get(subnet)
        return 0 if count is None else min(round(count.now(now, HALF_LIFE)), WORST)
