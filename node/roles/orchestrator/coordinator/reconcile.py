"""What is missing: compare the tables with what should be, and issue the commands.

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
    VerifyUnit,
)
from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.pool import PoolTables
from node.roles.orchestrator.coordinator.units import Unit, UnitState

WITHHELD_FACTOR = 5
"""Of the stall timeout: how long one unit may get nothing while its ring works on others."""


class Reconciler:
    """Turns the state of a pool into the next commands."""

    def __init__(self, tables: PoolTables) -> None:
        self._tables = tables

    def reconcile(self, now: float) -> list[Command]:
        """The commands that are missing at time `now` (seconds, monotonic)."""
        commands: list[Command] = []
        commands += self._invite(now)
        commands += self._form(now)
        self._stalled(now)
        commands += self._repair(now)
        commands += self._verify(now)
        commands += self._assign(now)
        return commands

    def _invite(self, now: float) -> list[Command]:
        commands: list[Command] = []
        open_invites = sum(m.state is MemberState.INVITED for m in self._tables.members.values())
        for member in self._tables.members.values():
            if open_invites + len(commands) >= self._tables.limits.invites:
                break
            if member.state is MemberState.DISCOVERED and now >= member.retry_at:
                self._tables.members[member.peer_id] = member.to(MemberState.INVITED)
                commands.append(InviteWorker(member.peer_id))
        return commands

    def _form(self, now: float) -> list[Command]:
        """Build a group out of workers that are in none, once enough of them are here."""
        free = self._tables.free(now)
        if not free or self._tables.first_usable is None:
            return []
        waited = now - self._tables.first_usable >= self._tables.policy.formation_wait
        enough = len(free) >= max(self._tables.policy.stages, 1)
        has_group = bool(self._tables.groups)
        if not enough and (has_group or not waited):
            return []
        if has_group and not self._tables.policy.stages:
            return []
        plan = self._tables.plan(free, None)
        if plan is None:
            return []
        generation = self._tables.next_generation()
        group_id = hashlib.sha256(self._tables.identity + generation.to_bytes(8, "big")).digest()
        self._tables.groups[group_id] = Group.first(group_id, generation, plan)
        return [BuildGroup(group_id, generation, plan)]

    def _stalled(self, now: float) -> None:
        """Break rings whose work brings no tokens, though every worker answers pings.

        Who holds a silent ring up cannot be told: the first stall only rebuilds it, and each that
        follows without a finished unit between rests the next stage in turn. Where other units
        get tokens and one does not, stage 0 withholds it, since it schedules and reports.
        """
        patience = self._tables.policy.stall_timeout
        waiting: dict[bytes, list[float]] = {}
        for unit in self._tables.units.values():
            group = self._tables.groups.get(unit.group_id)
            if unit.state is not UnitState.ASSIGNED or group is None:
                continue
            if group.state is GroupState.RUNNING and unit.generation == group.generation:
                waiting.setdefault(group.group_id, []).append(unit.progress_at)
        for group_id, times in waiting.items():
            group = self._tables.groups[group_id]
            silent, withheld = now - max(times), now - min(times)
            if silent < patience and withheld < patience * WITHHELD_FACTOR:
                continue
            if silent < patience:
                suspect, reason = group.peers[0], f"a unit got no token for {withheld:.0f} s"
            else:
                turn = group.stalls - 1
                suspect = group.peers[turn % len(group.peers)] if turn >= 0 else ""
                reason = f"the ring brought no token for {silent:.0f} s"
            broken = replace(group.broken(reason, now), stalls=group.stalls + 1)
            self._tables.groups[group_id] = broken
            self._tables.suspect(suspect, reason, now)

    def _repair(self, now: float) -> list[Command]:
        commands: list[Command] = []
        for group in list(self._tables.groups.values()):
            if group.state is not GroupState.REPAIRING or now < group.retry_at:
                continue
            survivors = [
                self._tables.members[p] for p in group.peers if self._tables.members[p].usable(now)
            ]
            plan = self._tables.plan([*survivors, *self._tables.free(now)], group.plan)
            if plan is None:
                continue
            generation = self._tables.next_generation()
            self._tables.groups[group.group_id] = group.loading(generation, plan)
            commands.append(BuildGroup(group.group_id, generation, plan))
        return commands

    def _assign(self, now: float) -> list[Command]:
        """Units of a rebuilt group go on in it; queued units fill running groups' windows."""
        commands: list[Command] = []
        running = {
            g.group_id: g for g in self._tables.groups.values() if g.state is GroupState.RUNNING
        }
        load = dict.fromkeys(running, 0)
        for unit in list(self._tables.units.values()):
            group = running.get(unit.group_id)
            if group is None or unit.state not in (UnitState.ASSIGNED, UnitState.PRODUCED):
                continue
            if unit.generation != group.generation:
                if unit.state is UnitState.PRODUCED:
                    if self._tables.all_claims(unit):
                        continue
                    unit = unit.reproven()
                unit = _moved(unit, group.generation, now)
                self._tables.units[unit.unit_id] = unit
                commands.append(AssignUnit(group.group_id, group.generation, unit.unit_id))
            load[group.group_id] += sum(not s.finished for s in unit.sequences)
        for unit in list(self._tables.units.values()):
            if unit.state is not UnitState.QUEUED or unit.awaiting_beacon or not load:
                continue
            group_id = min(load, key=lambda g: load[g])
            if load[group_id] >= self._tables.policy.sequences_in_flight:
                break
            group = running[group_id]
            self._tables.units[unit.unit_id] = unit.to(
                UnitState.ASSIGNED,
                group_id=group_id,
                generation=group.generation,
                progress_at=now,
            )
            load[group_id] += len(unit.sequences)
            commands.append(AssignUnit(group_id, group.generation, unit.unit_id))
        return commands

    def _verify(self, now: float) -> list[Command]:
        """Every validator judges every unit: enough of them must sign what it earns."""
        commands: list[Command] = []
        for unit in list(self._tables.units.values()):
            if unit.state is UnitState.PRODUCED and self._tables.all_claims(unit):
                if not self._tables.validators:
                    continue
                unit = unit.to(UnitState.VERIFYING)
            elif unit.state is not UnitState.VERIFYING:
                continue
            overdue = now >= unit.verify_by
            have = unit.opinions if overdue else {**dict.fromkeys(unit.asked), **unit.opinions}
            wanted = [peer_id for peer_id in self._tables.validators if peer_id not in have]
            if not wanted:
                continue
            self._tables.asked.update(wanted)
            self._tables.units[unit.unit_id] = replace(
                unit,
                asked=tuple(dict.fromkeys((*unit.asked, *wanted))),
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
