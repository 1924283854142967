"""Tables that know what changed: for whoever publishes them, and for the reconciliation.

`Tracked` is a dict that remembers the keys it was written under: `changed` since it was last
published, `touched` since it was last reconciled. `UnitTable` also keeps its units sorted by state
and by group and counts what they hold, so that no event has to walk over all of them to find the
few that it is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

from node.roles.orchestrator.coordinator.units import Unit, UnitState

K = TypeVar("K")
V = TypeVar("V")

AT_WORK = frozenset({UnitState.ASSIGNED, UnitState.PRODUCED})
"""A group works on the unit, or has its evidence."""


class Tracked(dict[K, V]):
    """A dict that remembers which keys were written. Writing what is there already is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: dict[K, None] = {}
        self.touched: dict[K, None] = {}

    def __setitem__(self, key: K, value: V) -> None:
        old = self.get(key)
        if old is value or (old is not None and self._same(old, value)):
            return
        super().__setitem__(key, value)
        self._wrote(key)

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self._wrote(key)

    def pop(self, key: K, *default: Any) -> Any:
        """As a dict's; its own versions of this and of those below write past `__delitem__`."""
        if key not in self and default:
            return default[0]
        value = self[key]
        del self[key]
        return value

    popitem: Any = MutableMapping.popitem
    clear: Any = MutableMapping.clear
    update: Any = MutableMapping.update
    setdefault: Any = MutableMapping.setdefault

    def publish(self, to: dict[K, V]) -> None:
        """Bring a copy that was up to date at the last call up to date again."""
        for key in self.changed:
            if key in self:
                to[key] = self[key]
            else:
                to.pop(key, None)
        self.changed.clear()

    def revert(self, to: Mapping[K, V]) -> None:
        """Undo what was written since the last call of `publish`, which brought that copy up to
        date. It counts as touched."""
        for key in list(self.changed):
            if key in to:
                self[key] = to[key]
            elif key in self:
                del self[key]
        self.changed.clear()

    @staticmethod
    def _same(old: V, new: V) -> bool:
        return old == new

    def _wrote(self, key: K) -> None:
        self.changed[key] = None
        self.touched[key] = None


class UnitTable(Tracked[bytes, Unit]):
    """Units by id. `load` counts the unfinished sequences that each group has, `tokens` the output
    tokens of all units, `reserved` the positions that their sequences may come to have."""

    def __init__(self) -> None:
        super().__init__()
        self.load: dict[bytes, int] = {}
        self.tokens = 0
        self.reserved = 0
        self._by_state: dict[UnitState, dict[bytes, None]] = {state: {} for state in UnitState}
        self._by_group: dict[bytes, dict[bytes, None]] = {}

    def __setitem__(self, key: bytes, value: Unit) -> None:
        old = self.get(key)
        if old is value:
            return
        if old is None:
            self.reserved += value.reserved
        else:
            self._account(old, -1)
            if old.state is not value.state:
                del self._by_state[old.state][key]
            if old.group_id != value.group_id:
                self._leave(old)
        self._account(value, 1)
        self._by_state[value.state][key] = None
        if value.group_id:
            self._by_group.setdefault(value.group_id, {})[key] = None
        super().__setitem__(key, value)

    def __delitem__(self, key: bytes) -> None:
        old = self[key]
        self._account(old, -1)
        self.reserved -= old.reserved
        del self._by_state[old.state][key]
        self._leave(old)
        super().__delitem__(key)

    def count(self, *states: UnitState) -> int:
        """How many units are in one of these states."""
        return sum(len(self._by_state[state]) for state in states)

    def in_state(self, *states: UnitState) -> list[Unit]:
        """The units in these states, a state's in the order in which they came to it."""
        return [self[unit_id] for state in states for unit_id in self._by_state[state]]

    def queued(self) -> Iterator[Unit]:
        """QUEUED units, the first first; the table must not change while this is read."""
        return map(self.__getitem__, self._by_state[UnitState.QUEUED])

    def in_group(self, group_id: bytes) -> list[Unit]:
        """The units that were last given to this group."""
        return [self[unit_id] for unit_id in self._by_group.get(group_id, ())]

    @staticmethod
    def _same(old: Unit, new: Unit) -> bool:
        return False  # to compare all tokens of two units costs more than to publish one again

    def _account(self, unit: Unit, sign: int) -> None:
        unfinished = 0
        for sequence in unit.sequences:
            self.tokens += sign * len(sequence.output_ids)
            unfinished += not sequence.finished
        if unit.state in AT_WORK:
            load = self.load.get(unit.group_id, 0) + sign * unfinished
            self.load[unit.group_id] = load
            if not load:
                del self.load[unit.group_id]

    def _leave(self, unit: Unit) -> None:
        members = self._by_group.get(unit.group_id)
        if members is not None:
            members.pop(unit.unit_id, None)
            if not members:
                del self._by_group[unit.group_id]
