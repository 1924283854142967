"""The orchestrator's decisions: `handle(event, now)` returns the commands that follow.

One event changes the tables of members, groups and units (`intake/`); then `reconcile.py` compares
what is with what should be and issues what is missing: invite who is new, build groups out of
healthy workers, repair what broke, hand out units, and send what is proven to a validator.
Reconciling after every event, not in the event's own branch, is what makes any order of events end
in the same place: a death during a repair, a verdict on a unit whose group is gone, a worker that
comes back.

What is ugly: a unit that was PRODUCED but whose evidence died with a stage is generated again by
one token, so that the rebuilt group proves all of it.

What was decided is not to be seen before it is on disk: `decide` changes the coordinator's own
tables, and `publish` shows them in `pool` once the commands of `Record` are carried out; where that
cannot be, `undo` takes it back. Whoever has nothing to write calls `handle`, which does both.

Pure: no clock, no I/O, and chance is an argument; group ids come from the generation counter.
Nobody else holds the tables: `pool` shows them and cannot change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from node.roles.orchestrator.coordinator.commands import Command
from node.roles.orchestrator.coordinator.events import Event
from node.roles.orchestrator.coordinator.intake.applier import EventApplier
from node.roles.orchestrator.coordinator.pool import (
    Planner,
    Policy,
    PoolLimits,
    PoolTables,
)
from node.roles.orchestrator.coordinator.reconcile import Reconciler
from node.roles.orchestrator.coordinator.view import PoolView


class Coordinator:
    """A pool's tables and the rules that move them. `identity` tells its groups' ids from those of
    other orchestrators; `draw` gives numbers in [0, 1) by chance, for whom to invite next."""

    def __init__(
        self,
        policy: Policy,
        planner: Planner,
        *,
        identity: bytes,
        draw: Callable[[], float],
        limits: PoolLimits | None = None,
    ) -> None:
        tables = PoolTables(policy, planner, identity, limits or PoolLimits(), draw)
        self.pool = PoolView(tables)
        self._tables = tables
        self._applier = EventApplier(tables)
        self._reconciler = Reconciler(tables)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event at time `now` (seconds, monotonic) and say what to do."""
        commands = self.decide((event,), now)
        self.publish()
        return commands

    def decide(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take events of one moment, in order; reconciled once, after the last. `pool` stays as it
        is."""
        commands = [command for event in events for command in self._applier.apply(event, now)]
        return commands + self._reconciler.reconcile(now)

    def undo(self) -> None:
        """Forget what was decided since the last `publish`: it could not be carried out. Workers,
        groups, units and validators are again as they are shown. What the accounts of blame and of
        pairs have noted stays; an event that comes once more weighs twice."""
        self.pool.revert()
        self._reconciler.look_again()
        self._tables.notes.undone(self._tables.units)

    def publish(self) -> dict[bytes, None]:
        """Have `pool` show what was decided; the ids of the units that changed."""
        return self.pool.publish()
