"""What an event changes in the tables, and what must be done about it at once.

Whatever else follows is found by `reconcile.py`, which runs after every event. An event that does
not fit the tables (late, repeated, from an older build) changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from node.roles.orchestrator import events as ev
from node.roles.orchestrator.groups import GroupState
from node.roles.orchestrator.members import INVITE_RETRY_SECONDS, Member, MemberState
from node.roles.orchestrator.pool import Pool
from node.roles.orchestrator.units import UnitState

REST_SECONDS = 20.0
REPAIR_DELAY = 0.25
REPAIR_DELAY_LIMIT = 10.0


class Intake:
    """Applies events to a pool's tables."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def apply(self, event: ev.Event, now: float) -> list[ev.Command]:
        match event:
            case ev.OperatorSubmitted():
                for unit in event.units:
                    self.pool.units.setdefault(unit.unit_id, unit)
            case ev.PeerAnnounced():
                self._announced(event)
            case ev.PeerValidates():
                if event.present:
                    self.pool.validators.setdefault(event.peer_id)
                else:
                    self.pool.validators.pop(event.peer_id, None)
            case ev.PeerJoined():
                self._joined(event, now)
            case ev.PeerDeclined():
                member = self.pool.members.get(event.peer_id)
                if member is not None and member.state is MemberState.INVITED:
                    self.pool.members[event.peer_id] = member.to(
                        MemberState.DISCOVERED,
                        reason=event.reason,
                        retry_at=now + INVITE_RETRY_SECONDS,
                    )
            case ev.PeerPinged():
                self._pinged(event, now)
            case ev.PeerGone():
                self._lost(event.peer_id, event.reason, now)
            case ev.GroupUp():
                group = self.pool.current(event.group_id, event.generation, GroupState.LOADING)
                if group is not None:
                    self.pool.groups[group.group_id] = replace(
                        group.to(GroupState.RUNNING), failures=0
                    )
            case ev.GroupBroken():
                self._broken(event, now)
            case ev.PeerTokens():
                self._tokens(event)
            case ev.PeerFinished():
                return self._finished(event)
            case ev.PeerClaimed():
                self._claimed(event)
            case ev.ClaimsFailed():
                self._claims_failed(event)
            case ev.PeerVerdict():
                return self._verdict(event, now)
            case ev.ChainSettled():
                return self._settled(event)
            case ev.Tick():
                pass
        return []

    def _announced(self, event: ev.PeerAnnounced) -> None:
        known = self.pool.members.get(event.peer_id, Member(event.peer_id))
        if known.state is MemberState.DEAD:
            known = known.to(MemberState.DISCOVERED)
        self.pool.members[event.peer_id] = replace(
            known,
            memory_bytes=event.memory_bytes,
            layer_seconds=event.layer_seconds,
            location=event.location,
            region=event.region,
        )

    def _joined(self, event: ev.PeerJoined, now: float) -> None:
        member = self.pool.members.get(event.peer_id)
        if member is None or member.state is not MemberState.INVITED:
            return
        self.pool.members[event.peer_id] = replace(
            member.to(MemberState.HEALTHY), address=event.address, provider=event.provider
        )
        if self.pool.first_usable is None:
            self.pool.first_usable = now

    def _pinged(self, event: ev.PeerPinged, now: float) -> None:
        member = self.pool.members.get(event.peer_id)
        if member is None:
            return
        after = member.pinged(event.ok)
        self.pool.members[event.peer_id] = after
        if after.state is MemberState.DEAD and member.state is not MemberState.DEAD:
            self._release(event.peer_id, after.reason, now)

    def _lost(self, peer_id: str, reason: str, now: float) -> None:
        member = self.pool.members.get(peer_id)
        if member is None or MemberState.DEAD not in member.may:
            return
        self.pool.members[peer_id] = member.to(MemberState.DEAD, reason=reason)
        self._release(peer_id, reason, now)

    def _release(self, peer_id: str, reason: str, now: float) -> None:
        """Send every live group of a lost or banned worker into repair, at once."""
        for group in self.pool.groups.values():
            if peer_id in group.peers and group.state in (GroupState.LOADING, GroupState.RUNNING):
                repaired = group.to(GroupState.REPAIRING, reason=reason, retry_at=now)
                self.pool.groups[group.group_id] = repaired

    def _broken(self, event: ev.GroupBroken, now: float) -> None:
        group = self.pool.groups.get(event.group_id)
        if group is None or group.generation != event.generation:
            return
        if group.state not in (GroupState.LOADING, GroupState.RUNNING):
            return
        delay = min(REPAIR_DELAY * 2**group.failures, REPAIR_DELAY_LIMIT)
        self.pool.groups[group.group_id] = group.broken(event.reason, now + delay)
        suspect = self.pool.members.get(event.suspect)
        if suspect is not None:
            self.pool.members[event.suspect] = replace(
                suspect, rest_until=now + REST_SECONDS, reason=event.reason
            )

    def _tokens(self, event: ev.PeerTokens) -> None:
        unit = self.pool.assigned(event.unit_id, event.generation)
        if unit is None:
            return
        for sequence in unit.sequences:
            if sequence.sequence_id == event.sequence_id:
                grown = sequence.extended(event.generation, event.offset, event.ids)
                self.pool.units[unit.unit_id] = unit.with_sequence(grown)

    def _finished(self, event: ev.PeerFinished) -> list[ev.Command]:
        unit = self.pool.assigned(event.unit_id, event.generation)
        if unit is None:
            return []
        for sequence in unit.sequences:
            if sequence.sequence_id == event.sequence_id:
                unit = unit.with_sequence(
                    sequence.ended(event.generation, event.reason, event.ids, event.text)
                )
        self.pool.units[unit.unit_id] = unit
        if not unit.finished:
            return []
        self.pool.units[unit.unit_id] = unit.to(UnitState.PRODUCED)
        return [ev.CollectClaims(unit.unit_id, unit.generation)]

    def _claimed(self, event: ev.PeerClaimed) -> None:
        unit = self.pool.units.get(event.unit_id)
        if (
            unit is not None
            and unit.state is UnitState.PRODUCED
            and unit.generation == event.generation
        ):
            claims = {**unit.claims, event.stage: event.claim}
            self.pool.units[unit.unit_id] = replace(unit, claims=claims)

    def _claims_failed(self, event: ev.ClaimsFailed) -> None:
        unit = self.pool.units.get(event.unit_id)
        if (
            unit is not None
            and unit.state is UnitState.PRODUCED
            and unit.generation == event.generation
        ):
            self.pool.units[unit.unit_id] = self.pool.reproven(unit)

    def _verdict(self, event: ev.PeerVerdict, now: float) -> list[ev.Command]:
        unit = self.pool.units.get(event.unit_id)
        if (
            unit is None
            or unit.state is not UnitState.VERIFYING
            or unit.bundle_id != event.bundle_id
        ):
            return []
        commands: list[ev.Command] = [ev.ForgetUnit(unit.unit_id, unit.generation)]
        if event.accepted:
            self.pool.units[unit.unit_id] = unit.to(UnitState.ACCEPTED, verdict=event.summary)
            return [*commands, ev.RecordVerdict(unit.unit_id)]
        rejected = unit.to(UnitState.REJECTED, verdict=event.summary)
        self.pool.units[unit.unit_id] = rejected
        commands.append(ev.RecordVerdict(unit.unit_id))
        member = self.pool.members.get(event.faulty)
        if member is not None and MemberState.BANNED in member.may:
            self.pool.members[event.faulty] = member.to(MemberState.BANNED, reason=event.reason)
            commands.append(ev.BanWorker(event.faulty, event.reason))
            self._discard_work_with(event.faulty)
            self._release(event.faulty, f"{event.faulty} was convicted: {event.reason}", now)
        self.pool.units[unit.unit_id] = rejected.requeued(f"rejected: {event.reason}")
        return commands

    def _discard_work_with(self, peer_id: str) -> None:
        """Units under way in a convicted worker's group start again from nothing."""
        for group in self.pool.groups.values():
            tainted = {
                generation
                for generation, plan in group.builds
                if any(stage.peer_id == peer_id for stage in plan.stages)
            }
            for unit in list(self.pool.units.values()):
                if unit.group_id != group.group_id:
                    continue
                if unit.state not in (UnitState.ASSIGNED, UnitState.PRODUCED):
                    continue
                touched = {unit.generation} | {g for s in unit.sequences for _, g in s.segments}
                if touched & tainted:
                    clean = replace(unit, attempt=max(unit.attempt - 1, 0))
                    self.pool.units[unit.unit_id] = clean.requeued(
                        "its group held a convicted worker"
                    )

    def _settled(self, event: ev.ChainSettled) -> list[ev.Command]:
        commands: list[ev.Command] = []
        for unit_id in event.unit_ids:
            unit = self.pool.units.get(unit_id)
            if unit is not None and unit.state is UnitState.ACCEPTED:
                self.pool.units[unit_id] = unit.to(
                    UnitState.SETTLED, transaction=event.transaction, epoch=event.epoch
                )
                commands.append(ev.RecordSettled(unit_id))
        return commands
