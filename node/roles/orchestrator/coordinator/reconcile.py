"""What is missing: compare the tables with what should be, and issue the commands.

Units that have ended leave the tables here: what became of them is in the journal.

Running it twice in a row issues nothing the second time: every command leaves its mark in the
tables (INVITED, LOADING, ASSIGNED, VERIFYING) as it is issued.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from node.roles.orchestrator.coordinator.commands import (
    AssignUnit,
    BuildGroup,
    Command,
    InviteWorker,
    ReadQueue,
    RecordUnit,
    VerifyUnit,
)
from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.pool import PoolTables
from node.roles.orchestrator.coordinator.stalls import StallWatch
from node.roles.orchestrator.coordinator.tables import AT_WORK
from node.roles.orchestrator.coordinator.units import ENDED, Unit, UnitState

TO_JUDGE = (UnitState.PRODUCED, UnitState.VERIFYING)
COMPLETE_IDLE = 30.0
COMPLETE_BUSY = 600.0
"""Seconds that a ring without work, or with work, goes on without those whom its plan left out."""
LOOK = 0.25
"""Seconds after which everything is looked at again, whatever the events were about."""


class Reconciler:
    """Turns the state of a pool into the next commands.

    Most events are about a unit, and such an event costs no more than that unit. What waits for
    time, or follows from workers, groups and validators, is looked at when one of those changed,
    and every `LOOK` seconds.
    """

    def __init__(self, tables: PoolTables) -> None:
        self._tables = tables
        self._running: dict[bytes, Group] = {}
        self._next_look = 0.0
        self._stalls = StallWatch(tables)

    def look_again(self) -> None:
        """The tables were brought back: look at everything the next time."""
        self._next_look = 0.0

    def reconcile(self, now: float) -> list[Command]:
        """The commands that are missing at time `now` (seconds, monotonic)."""
        tables, commands = self._tables, list[Command]()
        everything = now >= self._next_look or self._structure_changed()
        touched = list(tables.units.touched)
        if everything:
            self._next_look = now + LOOK
            commands += self._invite(now)
            commands += self._form(now)
            self._overdue(now)
            self._stalls.look(now)
            self._complete(now)
            commands += self._repair(now)
            self._give_up(now)
            self._cancel()
            commands += self._strand()
            self._running = {
                g.group_id: g for g in tables.groups.values() if g.state is GroupState.RUNNING
            }
            commands += self._verify(tables.units.in_state(*TO_JUDGE), now)
            commands += self._move(tables.units.in_state(*AT_WORK), now)
        else:
            found = [tables.units[unit_id] for unit_id in touched if unit_id in tables.units]
            commands += self._verify([u for u in found if u.state in TO_JUDGE], now)
            commands += self._move([u for u in found if u.state in AT_WORK], now)
        commands += self._assign(now)
        commands += self._read()
        commands += tables.notes.due(tables.units, now)
        for unit in tables.units.in_state(*ENDED):
            del tables.units[unit.unit_id]
        for table in (tables.units, tables.members, tables.groups, tables.validators):
            table.touched.clear()
        return commands

    def _structure_changed(self) -> bool:
        tables = self._tables
        return bool(tables.members.touched or tables.groups.touched or tables.validators.touched)

    def _invite(self, now: float) -> list[Command]:
        commands: list[Command] = []
        while (peer_id := self._tables.inviting.next(now)) is not None:
            self._tables.members[peer_id] = self._tables.members[peer_id].to(MemberState.INVITED)
            commands.append(InviteWorker(peer_id))
        return commands

    def _form(self, now: float) -> list[Command]:
        """Build a group out of workers that are in none, once enough of them are here."""
        free = self._tables.free(now)
        if not free or self._tables.first_usable is None:
            return []
        waited = now - self._tables.first_usable >= self._tables.policy.formation_wait
        enough = len(free) >= max(self._tables.policy.stages, 1)
        groups = self._tables.groups.values()
        has_group = any(not self._tables.stuck(group, now) for group in groups)
        if not enough and (has_group or not waited):
            return []
        if has_group and not self._tables.policy.stages:
            return []
        plan = self._tables.plan(free, None, now)
        if plan is None:
            return []
        generation = self._tables.next_generation()
        group_id = hashlib.sha256(self._tables.identity + generation.to_bytes(8, "big")).digest()
        self._tables.groups[group_id] = Group.first(group_id, generation, plan, now)
        return [BuildGroup(group_id, generation, plan)]

    def _overdue(self, now: float) -> None:
        """Whatever should have come back from a task by now will not: go on without it."""
        tables, policy = self._tables, self._tables.policy
        for group in list(tables.groups.values()):
            waited = now - group.since
            if group.state is GroupState.LOADING and waited >= policy.load_timeout:
                broken = group.broken(f"it was not up after {waited:.0f} s", now)
                tables.groups[group.group_id] = broken
        for unit in tables.units.in_state(UnitState.PRODUCED):
            current = tables.current(unit.group_id, unit.generation, GroupState.RUNNING)
            waited = now - unit.progress_at
            if current is None or waited < policy.claim_timeout or tables.all_claims(unit):
                continue
            broken = current.broken(f"a unit was not proven after {waited:.0f} s", now)
            tables.groups[current.group_id] = broken

    def _give_up(self, now: float) -> None:
        """End groups that nothing repairs; what they worked on starts anew, maybe elsewhere.

        A bundle that is yet to be made names the group's plan, so that group has to wait for it.
        """
        tables = self._tables
        for group in list(tables.groups.values()):
            waited = now - group.down_since
            repairing = group.state is GroupState.REPAIRING
            if not repairing or waited < tables.policy.repair_timeout:
                continue
            units = tables.units.in_group(group.group_id)
            if any(u.state is UnitState.VERIFYING and not u.bundle_id for u in units):
                continue
            for unit in units:
                if unit.state in AT_WORK:
                    tables.units[unit.unit_id] = unit.returned("its group could not be repaired")
            del tables.groups[group.group_id]
            tables.brought.pop(group.group_id, None)

    def _cancel(self) -> None:
        """Drop what waits of cancelled jobs."""
        units, cancelled = self._tables.units, self._tables.queue.cancelled
        for unit in units.in_state(UnitState.QUEUED) if cancelled else ():
            if unit.job_id in cancelled:
                del units[unit.unit_id]

    def _strand(self) -> list[Command]:
        """Give up what was to be tried in another ring that never came to be."""
        tables, commands = self._tables, list[Command]()
        groups = tables.groups.values()
        if any(group.state is not GroupState.RUNNING for group in groups) or not groups:
            return []
        for unit in [u for u in tables.units.queued() if u.failures]:
            if not any(unit.may_run_in(group) for group in groups):
                over = unit.given_up(unit.failures[-1].reason)
                tables.units[unit.unit_id] = over
                commands.append(RecordUnit(over))
        return commands

    def _complete(self, now: float) -> None:
        """Plan rings anew that were built without somebody, once they have nothing to do, or have
        been going on like that for long."""
        for group in list(self._tables.groups.values()):
            most = max(len(plan.stages) for _, plan in group.generations)
            replaced = len(group.plan.stages) == most  # others took the places of those left out
            if group.state is not GroupState.RUNNING or not group.without or replaced:
                continue
            units = self._tables.units
            at_work = any(u.state in AT_WORK for u in units.in_group(group.group_id))
            busy = at_work or units.count(UnitState.QUEUED) > 0
            if now - group.up_at >= (COMPLETE_BUSY if busy else COMPLETE_IDLE):
                whole = group.lost("it may have all of its workers again", now)
                self._tables.groups[group.group_id] = whole

    def _repair(self, now: float) -> list[Command]:
        commands: list[Command] = []
        for group in list(self._tables.groups.values()):
            if group.state is not GroupState.REPAIRING or now < group.retry_at:
                continue
            survivors = [
                self._tables.members[p] for p in group.peers if self._tables.members[p].usable(now)
            ]
            able = [*survivors, *self._tables.free(now)]
            kept = [m for m in able if m.peer_id not in group.without]
            plan = None
            if len(kept) < len(able):
                plan = self._tables.plan(kept, group.plan, now)
            plan = plan or self._tables.plan(able, group.plan, now)
            if plan is None:
                continue
            generation = self._tables.next_generation()
            self._tables.groups[group.group_id] = group.loading(generation, plan, now)
            commands.append(BuildGroup(group.group_id, generation, plan))
        return commands

    def _move(self, units: list[Unit], now: float) -> list[Command]:
        """Units of a rebuilt group go on in it."""
        commands: list[Command] = []
        for unit in units:
            group = self._running.get(unit.group_id)
            if group is None or unit.generation == group.generation:
                continue
            if unit.state is UnitState.PRODUCED:
                if self._tables.all_claims(unit):
                    continue
                unit = unit.reproven()
            unit = _moved(unit, group.generation, now)
            self._tables.units[unit.unit_id] = unit
            commands.append(AssignUnit(group.group_id, group.generation, unit.unit_id))
        return commands

    def _assign(self, now: float) -> list[Command]:
        """Queued units fill running groups' windows, as long as there is room for more work."""
        tables, commands = self._tables, list[Command]()
        chosen: list[tuple[Unit, Group]] = []
        load = {
            group_id: tables.units.load.get(group_id, 0)
            for group_id, group in self._running.items()
            if not any(tables.members[peer_id].busy for peer_id in group.peers)
        }
        room = min(
            tables.limits.units_at_work - tables.units.count(*AT_WORK, UnitState.VERIFYING),
            tables.policy.units_unjudged - tables.units.count(*TO_JUDGE),
        )
        full = tables.policy.sequences_in_flight
        if room > 0:
            chosen += self._alone(load)
        for unit in tables.units.queued() if load else ():
            if unit.job_id in tables.queue.cancelled or tables.crashes.suspected(unit.unit_id):
                continue
            if len(chosen) >= room or min(load.values()) >= full:
                break
            group_id = self._ring_for(unit, load)
            if load.get(group_id, full) >= full:
                continue
            chosen.append((unit, self._running[group_id]))
            load[group_id] += len(unit.sequences)
        for unit, group in chosen:
            tables.units[unit.unit_id] = unit.to(
                UnitState.ASSIGNED,
                group_id=group.group_id,
                generation=group.generation,
                progress_at=now,
            )
            commands.append(AssignUnit(group.group_id, group.generation, unit.unit_id))
        return commands

    def _alone(self, load: dict[bytes, int]) -> list[tuple[Unit, Group]]:
        """A suspect of `crashes` for a ring that has nothing to do. That ring, or one that is to
        have nothing to do, goes out of `load`; so does one that works on a suspect."""
        tables = self._tables
        units = [tables.units.get(unit_id) for unit_id in tables.crashes.suspects()]
        suspects = [u for u in units if u and u.job_id not in tables.queue.cancelled]
        at_work = [u.group_id for u in suspects if u.state in AT_WORK]
        for group_id in at_work:
            load.pop(group_id, None)
        for unit in suspects if not at_work else ():
            may = [g for g in load if unit.may_run_in(self._running[g])]
            if unit.state is UnitState.QUEUED and may:
                group_id = min(may, key=lambda g: load[g])
                idle = load.pop(group_id) == 0
                return [(unit, self._running[group_id])] if idle else []
        return []

    def _ring_for(self, unit: Unit, load: dict[bytes, int]) -> bytes:
        """The group with the least load; of a unit that failed, one where it has not failed, and
        without those who said so if there is one. b"" where there is none."""
        if not unit.failures:
            return min(load, key=lambda g: load[g])
        claimants = {failure.claimant for failure in unit.failures}
        may = [g for g in load if unit.may_run_in(self._running[g])]
        met = {g: len(claimants.intersection(self._running[g].peers)) for g in may}
        return min(may, key=lambda g: (met[g], load[g]), default=b"")

    def _read(self) -> list[Command]:
        """Have the next units read from disk, in good time before the last one is given away."""
        tables, queue = self._tables, self._tables.queue
        limits, have = tables.limits, tables.units.count(UnitState.QUEUED)
        full = 2 * have > limits.units_queued or tables.units.reserved >= limits.positions
        if not queue.waiting or queue.reading or full:
            return []
        queue.reading = True
        return [ReadQueue(limits.units_queued - have, queue.arrivals)]

    def _verify(self, units: list[Unit], now: float) -> list[Command]:
        """Every validator judges every unit: enough of them must sign what it earns."""
        commands: list[Command] = []
        for unit in units:
            if unit.state is UnitState.PRODUCED:
                if not self._tables.validators or not self._tables.all_claims(unit):
                    continue
                unit = unit.to(UnitState.VERIFYING)
            overdue = now >= unit.verify_by
            have = unit.opinions if overdue else {**dict.fromkeys(unit.asked), **unit.opinions}
            again = [peer_id for peer_id in unit.again if peer_id not in unit.opinions]
            here = self._tables.validators
            wanted = [p for p in here if p not in have or p in again]
            if not wanted:
                continue
            self._tables.asked.update(wanted)
            self._tables.units[unit.unit_id] = replace(
                unit,
                asked=tuple(dict.fromkeys((*unit.asked, *wanted))),
                again=tuple(p for p in unit.again if p not in wanted),
                verify_by=now + self._tables.policy.verify_timeout if overdue else unit.verify_by,
                late=unit.late or (overdue and bool(unit.pending_validators)),
            )
            commands += [VerifyUnit(unit.unit_id, peer_id) for peer_id in wanted]
        return commands


def _moved(unit: Unit, generation: int, now: float) -> Unit:
    """The unit in another generation. Sequences that were finished go one token back: the new
    generation proves them, and may end them elsewhere."""
    return replace(
        unit,
        sequences=tuple(s.reopened() if s.finished else s for s in unit.sequences),
        generation=generation,
        claims={},
        progress_at=now,
    )
