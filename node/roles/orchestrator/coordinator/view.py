"""The tables of a pool as everybody but the coordinator sees them.

A `PoolView` shows them as they were last published and cannot write to them: what must be on disk
first is not to be seen before (`coordinator.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType

from node.roles.orchestrator.coordinator.groups import Group
from node.roles.orchestrator.coordinator.members import Member
from node.roles.orchestrator.coordinator.pool import PoolTables, assigned, plan_of
from node.roles.orchestrator.coordinator.units import Unit
from pipeline.planner import GroupPlan


class PoolView:
    """The tables as they were last published, to be read. What they hold is immutable too.

    `asked` are the validators that were ever asked for a verdict, `generation` is the newest of any
    group, and `unplannable` says why no group could be planned at the last try, "" where one could.
    `total_weight` is the stake of all validators, here or not, and `needed_weight` what must accept
    a unit. `tokens` counts the output tokens of the units that are in the tables.
    """

    def __init__(self, tables: PoolTables) -> None:
        self._tables = tables
        self._members: dict[str, Member] = {}
        self._groups: dict[bytes, Group] = {}
        self._units: dict[bytes, Unit] = {}
        self._validators: dict[str, int] = {}
        self._weights: dict[str, int] = {}
        self._unit_of: dict[bytes, bytes] = {}
        self.policy = tables.policy
        self.members: Mapping[str, Member] = MappingProxyType(self._members)
        self.groups: Mapping[bytes, Group] = MappingProxyType(self._groups)
        self.units: Mapping[bytes, Unit] = MappingProxyType(self._units)
        self.validators: Mapping[str, int] = MappingProxyType(self._validators)
        self.weights: Mapping[str, int] = MappingProxyType(self._weights)
        self.asked: AbstractSet[str] = frozenset()
        self.generation = 0
        self.unplannable = ""
        self.total_weight = 0
        self.needed_weight = 0
        self.tokens = 0

    def publish(self) -> dict[bytes, None]:
        """Show the tables as they are now; the ids of the units that have changed."""
        tables = self._tables
        units = tables.units.changed.copy()
        for unit_id in units:
            if (unit_id in self._units) != (unit_id in tables.units):
                self._index(unit_id)
        tables.units.publish(self._units)
        tables.members.publish(self._members)
        tables.groups.publish(self._groups)
        tables.validators.publish(self._validators)
        tables.weights.publish(self._weights)
        if len(self.asked) != len(tables.asked):
            self.asked = frozenset(tables.asked)
        self.generation = tables.generation
        self.unplannable = tables.unplannable
        self.total_weight = tables.total_weight
        self.needed_weight = tables.needed_weight
        self.tokens = tables.units.tokens
        return units

    def revert(self) -> None:
        """Bring the tables back to what is shown."""
        tables = self._tables
        tables.units.revert(self._units)
        tables.members.revert(self._members)
        tables.groups.revert(self._groups)
        tables.validators.revert(self._validators)
        tables.weights.revert(self._weights)
        tables.queue.lost()

    def unit_id_of(self, sequence_id: bytes) -> bytes:
        """The id of the unit that holds a sequence, b"" where none does."""
        return self._unit_of.get(sequence_id, b"")

    def plan_of(self, unit: Unit) -> GroupPlan | None:
        """The plan of the generation that the unit was last given to."""
        return plan_of(unit, self.groups)

    def assigned(self, unit_id: bytes, generation: int) -> Unit | None:
        """The unit, where it is being worked on by that generation."""
        return assigned(self.units.get(unit_id), generation)

    def _index(self, unit_id: bytes) -> None:
        """Note which sequences are in a unit that comes or goes."""
        gone = self._units.get(unit_id)
        for sequence in (gone or self._tables.units[unit_id]).sequences:
            if gone is None:
                self._unit_of[sequence.sequence_id] = unit_id
            else:
                self._unit_of.pop(sequence.sequence_id, None)
