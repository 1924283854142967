"""Whom to invite next, out of those that are known and have not joined.

An invite takes a place until it is answered, and it costs nothing not to answer. So of the places
for open invites a quarter is kept for each level (strangers, the proven, the staked) against the
others, and no subnet holds more than its share; the last of what a level has is for subnets that
hold none yet. Higher levels go first; within one, subnets where
fewer newcomers came to nothing (`lapses`), then those with fewer invites open and fewer workers
idle; and within a subnet chance decides: identities are free, and so is a place in any fixed order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node.roles.orchestrator.coordinator.lobby.lapses import Lapses
from node.roles.orchestrator.coordinator.lobby.table import MemberTable
from p2p.admission.standing import Standing

RESERVED = 4
"""A place in so many is kept for each level."""
LOOKED_AT = 256
"""Subnets among which one choice is made, drawn by chance where there are more."""
FIRST = 8
"""A place in so many is for a subnet's first invite."""
PER_SUBNET = 16
"""Strangers of one subnet may hold a place in so many, the staked twice as many; and when no place
is left for idle workers, those of one subnet keep theirs up to the same share."""


@dataclass(frozen=True)
class Inviting:
    """`invites` that may be open, `idle` workers without a stake that may have joined and never
    served; `draw` gives numbers in [0, 1) by chance."""

    table: MemberTable
    lapses: Lapses
    invites: int
    idle: int
    draw: Callable[[], float]

    def next(self, now: float) -> str | None:
        """Who is invited next; None while nobody may be."""
        self.table.wake(now)
        for level in reversed(Standing):
            places = self._places(level)
            if self.table.ready[level].size and places > 0:
                some = self.table.ready[level].subnets(LOOKED_AT, self.draw)
                subnets = [s for s in some if self._may(level, s, places)]
                if subnets:
                    best = min(subnets, key=lambda s: self._order(level, s, now))
                    return self.table.ready[level].any_of(best, self.draw)
        return None

    def _places(self, level: Standing) -> int:
        """How many more invites those of this level may have open."""
        reserve, open_now = self.invites // RESERVED, self.table.open
        kept = sum(max(reserve - open_now[other], 0) for other in Standing if other is not level)
        return self.invites - sum(open_now.values()) - kept

    def _may(self, level: Standing, subnet: str, places: int) -> bool:
        share, held = max(self.invites // PER_SUBNET, 1), self.table.open_from[level, subnet]
        if held and places <= self.invites // FIRST:
            return False
        if level is Standing.STAKED:
            return held < 2 * share
        idle = self.table.idle
        if idle.size >= self.idle and idle.count(subnet) >= max(self.idle // PER_SUBNET, 1):
            return False
        return held < share

    def _order(self, level: Standing, subnet: str, now: float) -> tuple[float, ...]:
        held = self.table.open_from[level, subnet] + self.table.idle.count(subnet)
        return (self.lapses.rank(subnet, now), held, self.draw())
