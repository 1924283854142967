"""When the tokens of units under way go to disk, so that a restart need not make them again.

Tokens come by the thousand, and each report waits for the tables. So they are noted together: at
most every `every` seconds, all units that have new ones in one commit, and of each only what is
new. A restart has everything but the last such interval. While the node ends, all is noted at once.

One note has a bound: what is beyond it follows with the next event.
"""

from __future__ import annotations

from node.roles.orchestrator.coordinator.commands import Command, RecordProgress
from node.roles.orchestrator.coordinator.tables import UnitTable
from node.roles.orchestrator.coordinator.units import Unit, UnitState

NOTE_TOKENS = 2**17
"""Tokens of one note, and those of the unit that goes over it; one takes at most 5 bytes."""
UNDER_WAY = (UnitState.ASSIGNED, UnitState.PRODUCED, UnitState.VERIFYING)


class Notes:
    """Which units have tokens that are not on disk. Seconds are monotonic."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._fresh: dict[bytes, int] = {}
        self._next = float("-inf")

    def brought(self, unit_id: bytes, tokens: int) -> None:
        """The unit has so many more."""
        self._fresh[unit_id] = self._fresh.get(unit_id, 0) + tokens

    def ending(self) -> None:
        """The node ends: from now on nothing waits."""
        self._every, self._next = 0.0, float("-inf")

    def undone(self, units: UnitTable) -> None:
        """What was decided last is not on disk, so perhaps a note is not."""
        for unit in units.in_state(*UNDER_WAY):
            if _to_note(unit):
                self._fresh[unit.unit_id] = sum(len(s.output_ids) for s in unit.sequences)
        self._next = float("-inf")

    def due(self, units: UnitTable, now: float) -> list[Command]:
        """The note that must be written at `now`, if one must."""
        if not self._fresh or now < self._next:
            return []
        chosen, room = list[Unit](), NOTE_TOKENS
        while self._fresh and room > 0:
            unit_id = next(iter(self._fresh))
            fresh = self._fresh.pop(unit_id)
            unit = units.get(unit_id)
            if unit is not None and _to_note(unit):
                chosen.append(unit)
                room -= fresh
        if not self._fresh:
            self._next = now + self._every
        return [RecordProgress(tuple(chosen))] if chosen else []


def _to_note(unit: Unit) -> bool:
    """Whether a group has it, and its row does not say more than a note could."""
    return unit.state in UNDER_WAY and not unit.bundle_id
