"""Units that a stage says it cannot work on: tried in other rings, then given up by themselves.

A stage that finds a sequence's hidden states not finite, or has no room for it, says so; the ring
goes on with the others. What it says cannot be checked at once. It may lie, or an earlier stage may
have sent it something absurd, so all stages up to it are suspects, and the unit is tried again
where that stage is not: in another ring that runs, or else its ring is rebuilt, without the stage
where the others can do without it, and with all of them again when there is time. Once it has
failed in `Policy.attempts` rings, or its job may have no more rebuilt (`rebuilds.py`), the unit is
given up, with the reason, and nobody is blamed.

If it is accepted after all, what was said before was wrong: each time goes on the account of its
suspects (`blame.py`). So a stage that lies about honest work makes itself known, and costs the pool
a rebuild each time; it makes a unit fail for good only where no ring can do without it, or together
with others.

A unit whose content ends engine processes cannot say so; how it is found is in `crashes.py`.

A unit never runs twice in one generation: what it left there could be taken for the second run's.
"""

from __future__ import annotations

from dataclasses import replace

from node.roles.orchestrator.coordinator.commands import Command, RecordUnit
from node.roles.orchestrator.coordinator.events import EngineEnded, UnitRefused, UnitsFailed
from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.pool import PoolTables
from node.roles.orchestrator.coordinator.tables import AT_WORK
from node.roles.orchestrator.coordinator.units import Failure, Unit, UnitState


class FailureEvents:
    """Applies them to a pool's tables."""

    def __init__(self, tables: PoolTables) -> None:
        self._tables = tables

    def refused(self, event: UnitRefused, now: float) -> list[Command]:
        """Stage 0 did not take the unit; what cannot even be sent is given up at once."""
        unit = self._tables.assigned(event.unit_id, event.generation)
        if unit is None:
            return []
        if event.impossible:
            return self._over(unit, unit.given_up(event.reason))
        failed = UnitsFailed(unit.group_id, event.generation, 0, (unit.unit_id,), event.reason)
        return self.failed(failed, now)

    def failed(self, event: UnitsFailed, now: float) -> list[Command]:
        """Try these units elsewhere, or give them up."""
        group = self._tables.groups.get(event.group_id)
        plan = None if group is None else group.plan_at(event.generation)
        if group is None or plan is None or event.stage >= len(plan.stages):
            return []
        suspects = tuple(stage.peer_id for stage in plan.stages[: event.stage + 1])
        failure = Failure(event.reason, event.generation, suspects)
        commands: list[Command] = []
        for unit_id in event.unit_ids:
            unit = self._tables.units.get(unit_id)
            if unit is None or unit.state not in AT_WORK or unit.generation != event.generation:
                continue
            again = unit.failed(failure)
            tries = len(again.failures)
            if tries >= self._tables.policy.attempts or not self._another_ring(again, group, now):
                again = unit.given_up(event.reason, failure)
            commands += self._over(unit, again)
        return commands

    def ended(self, event: EngineEnded, now: float) -> list[Command]:
        """An engine's process ended: the ring is broken, and a unit in it may be why. Until another
        one has started and loaded its slice, a worker that stands by has long taken its place."""
        tables = self._tables
        group = tables.groups.get(event.group_id)
        if group is None or group.generation != event.generation:
            return []
        ended = group.peers[event.stage : event.stage + 1]
        without = ended if tables.free(now) else ()
        if group.state is GroupState.REPAIRING:
            tables.groups[group.group_id] = replace(group, without=without)
        else:
            tables.groups[group.group_id] = group.broken(event.reason, now, without)
            tables.incident(ended, event.reason, now)
        there = [
            unit
            for unit in tables.units.in_group(group.group_id)
            if unit.state is UnitState.ASSIGNED and unit.generation == event.generation
        ]
        tables.crashes.note([unit.unit_id for unit in there], tables.units)
        commands: list[Command] = []
        for unit in there:
            times = tables.crashes.times(unit.unit_id)
            if len(there) == 1 and times >= tables.policy.attempts:
                why = f"an engine ended in each of {times} rings that had it, the last time alone"
                tables.crashes.cleared(unit.unit_id)
                commands += self._over(unit, unit.given_up(f"{why}: {event.reason}"))
            elif tables.crashes.suspected(unit.unit_id):
                tables.units[unit.unit_id] = unit.set_aside(f"set aside: {event.reason}")
        return commands

    def _another_ring(self, unit: Unit, group: Group, now: float) -> bool:
        """Whether there is, or will be, a ring in which the unit has not failed. Builds one where
        there is none, if the job may have it."""
        rings = self._tables.groups.values()
        if any(ring.state is not GroupState.RUNNING or unit.may_run_in(ring) for ring in rings):
            return True
        if not self._tables.rebuilds.spend(unit.job_id):
            return False
        failure = unit.failures[-1]
        without = (failure.claimant,)
        self._tables.groups[group.group_id] = group.broken(failure.reason, now, without)
        return True

    def _over(self, before: Unit, after: Unit) -> list[Command]:
        self._tables.units[after.unit_id] = after
        return [self._tables.forget(before), RecordUnit(after)]
