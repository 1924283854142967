"""The alternative that `bench_scale.py` measures beside: a plain dict of units that is rescanned.

The rules, events and commands are the same. Units that have ended stay where they are, and whoever
asks for some of them looks through all: by state, by group, for their load and their tokens. That
is how a coordinator is written first, and how this one was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.tables import AT_WORK, Tracked, UnitTable
from node.roles.orchestrator.coordinator.units import ENDED, Unit, UnitState


class RescannedUnits(UnitTable):
    """Answers every question of `UnitTable` by a walk over all units."""

    def __init__(self) -> None:
        Tracked.__init__(self)

    def __setitem__(self, key: bytes, value: Unit) -> None:
        Tracked.__setitem__(self, key, value)

    def __delitem__(self, key: bytes) -> None:
        if self[key].state not in ENDED:
            Tracked.__delitem__(self, key)

    @property
    def load(self) -> Counter[bytes]:  # type: ignore[override]
        """Unfinished sequences by group."""
        found: Counter[bytes] = Counter()
        for unit in self.values():
            if unit.state in AT_WORK:
                found[unit.group_id] += sum(not s.finished for s in unit.sequences)
        return found

    @property
    def tokens(self) -> int:  # type: ignore[override]
        """Output tokens of all units."""
        return sum(len(s.output_ids) for unit in self.values() for s in unit.sequences)

    @property
    def reserved(self) -> int:  # type: ignore[override]
        """Positions that unfinished units may come to have."""
        return sum(unit.reserved for unit in self.values() if unit.state not in ENDED)

    def count(self, *states: UnitState) -> int:
        """How many units are in one of these states."""
        return sum(unit.state in states for unit in self.values())

    def in_state(self, *states: UnitState) -> list[Unit]:
        """The units in these states."""
        return [unit for unit in self.values() if unit.state in states]

    def queued(self) -> Iterator[Unit]:
        """QUEUED units."""
        return iter(self.in_state(UnitState.QUEUED))

    def in_group(self, group_id: bytes) -> list[Unit]:
        """The units that were last given to this group."""
        return [unit for unit in self.values() if unit.group_id == group_id]


def rescanning(pool: Coordinator) -> Coordinator:
    """The same coordinator over `RescannedUnits`; it must be new."""
    pool.pool._tables.units = RescannedUnits()
    return pool
