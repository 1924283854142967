"""What an event changes in the tables, and what must be done about it at once.

Whatever else follows is found by `reconcile.py`, which runs after every event. An event that does
not fit the tables (late, repeated, from an older build) changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from node.roles.orchestrator.coordinator.commands import (
    BanWorker,
    CollectClaims,
    Command,
    ForgetUnit,
    RecordSettled,
    RecordVerdict,
)
from node.roles.orchestrator.coordinator.events import (
    BeaconDrawn,
    ChainQuorum,
    ChainSettled,
    ClaimsFailed,
    Event,
    GroupBroken,
    GroupUp,
    OperatorSubmitted,
    PeerAnnounced,
    PeerClaimed,
    PeerDeclined,
    PeerFinished,
    PeerGone,
    PeerJoined,
    PeerPinged,
    PeerTokens,
    PeerValidates,
    PeerVerdict,
    Tick,
    UnitRefused,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.members import Member, MemberState
from node.roles.orchestrator.coordinator.pool import Pool
from node.roles.orchestrator.coordinator.units import Opinion, Unit, UnitState


class EventApplier:
    """Applies events to a pool's tables."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def apply(self, event: Event, now: float) -> list[Command]:
        match event:
            case OperatorSubmitted():
                for unit in event.units:
                    self.pool.add_unit(unit)
            case BeaconDrawn():
                for unit in list(self.pool.units.values()):
                    if unit.job_id == event.job_id and unit.awaiting_beacon:
                        self.pool.units[unit.unit_id] = unit.drawn(event.beacon, event.block)
            case PeerAnnounced():
                self._announced(event)
            case PeerValidates():
                if event.weight:
                    self.pool.validators[event.peer_id] = event.weight
                    self.pool.weights[event.peer_id] = event.weight
                else:
                    self.pool.validators.pop(event.peer_id, None)
                return self._decide_all(now)
            case ChainQuorum():
                self.pool.all_weight = event.all_weight
                self.pool.quorum = event.basis_points
                return self._decide_all(now)
            case PeerJoined():
                self._joined(event, now)
            case PeerDeclined():
                member = self.pool.members.get(event.peer_id)
                if member is not None and member.state is MemberState.INVITED:
                    self.pool.members[event.peer_id] = member.declines(now, event.reason)
            case PeerPinged():
                self._pinged(event, now)
            case PeerGone():
                self._lost(event.peer_id, event.reason, now)
            case GroupUp():
                group = self.pool.current(event.group_id, event.generation, GroupState.LOADING)
                if group is not None:
                    self.pool.groups[group.group_id] = group.to(GroupState.RUNNING, up_at=now)
            case GroupBroken():
                self._broken(event, now)
            case PeerTokens():
                self._tokens(event, now)
            case PeerFinished():
                return self._finished(event, now)
            case PeerClaimed():
                self._claimed(event)
            case ClaimsFailed():
                self._claims_failed(event, now)
            case UnitRefused():
                return self._refused(event)
            case PeerVerdict():
                return self._verdict(event, now)
            case ChainSettled():
                return self._settled(event)
            case Tick():
                return self._decide_all(now)
        return []

    def _announced(self, event: PeerAnnounced) -> None:
        if event.peer_id not in self.pool.members and not self.pool.room_for_member():
            return
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

    def _joined(self, event: PeerJoined, now: float) -> None:
        member = self.pool.members.get(event.peer_id)
        if member is None or member.state is not MemberState.INVITED:
            return
        self.pool.members[event.peer_id] = replace(
            member.to(MemberState.HEALTHY),
            address=event.address,
            provider=event.provider,
            declined=0,
        )
        if self.pool.first_usable is None:
            self.pool.first_usable = now

    def _pinged(self, event: PeerPinged, now: float) -> None:
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

    def _broken(self, event: GroupBroken, now: float) -> None:
        group = self.pool.groups.get(event.group_id)
        if group is None or group.generation != event.generation:
            return
        if group.state not in (GroupState.LOADING, GroupState.RUNNING):
            return
        young = group.state is GroupState.RUNNING and group.young(now)
        self.pool.groups[group.group_id] = group.broken(event.reason, now)
        self.pool.suspect(event.suspect, event.reason, now)
        reporter = self.pool.members.get(event.reporter)
        if reporter is not None and young:
            self.pool.members[event.reporter] = reporter.troubled(now, event.reason)

    def _tokens(self, event: PeerTokens, now: float) -> None:
        unit = self.pool.assigned(event.unit_id, event.generation)
        if unit is None:
            return
        for sequence in unit.sequences:
            if sequence.sequence_id == event.sequence_id:
                grown = sequence.extended(event.generation, event.offset, event.ids)
                if grown is not sequence:
                    self.pool.units[unit.unit_id] = unit.with_sequence(grown, now)

    def _finished(self, event: PeerFinished, now: float) -> list[Command]:
        unit = self.pool.assigned(event.unit_id, event.generation)
        if unit is None:
            return []
        for sequence in unit.sequences:
            if sequence.sequence_id == event.sequence_id:
                ended = sequence.ended(event.generation, event.reason, event.ids, event.text)
                if ended is not sequence:
                    unit = unit.with_sequence(ended, now)
        self.pool.units[unit.unit_id] = unit
        if not unit.finished:
            return []
        self.pool.units[unit.unit_id] = unit.to(UnitState.PRODUCED)
        group = self.pool.groups[unit.group_id]
        self.pool.groups[group.group_id] = replace(group, stalls=0)
        return [CollectClaims(unit.unit_id, unit.generation)]

    def _claimed(self, event: PeerClaimed) -> None:
        unit = self.pool.units.get(event.unit_id)
        if (
            unit is not None
            and unit.state is UnitState.PRODUCED
            and unit.generation == event.generation
        ):
            claims = {**unit.claims, event.stage: event.claim}
            self.pool.units[unit.unit_id] = replace(unit, claims=claims)

    def _claims_failed(self, event: ClaimsFailed, now: float) -> None:
        """Only another build can prove the unit: its engines still know it in this one."""
        unit = self.pool.units.get(event.unit_id)
        if (
            unit is None
            or unit.state is not UnitState.PRODUCED
            or unit.generation != event.generation
        ):
            return
        self.pool.units[unit.unit_id] = replace(unit, claims={})
        group = self.pool.current(unit.group_id, event.generation, GroupState.RUNNING)
        if group is not None:
            self.pool.groups[group.group_id] = group.broken(event.reason, now)
            for peer_id in event.suspects:
                self.pool.suspect(peer_id, event.reason, now)

    def _refused(self, event: UnitRefused) -> list[Command]:
        """Start the unit again from nothing: what an earlier stage 0 reported may be absurd."""
        unit = self.pool.assigned(event.unit_id, event.generation)
        if unit is None:
            return []
        self.pool.units[unit.unit_id] = unit.requeued(f"refused: {event.reason}")
        return [RecordVerdict(unit.unit_id)]

    def _verdict(self, event: PeerVerdict, now: float) -> list[Command]:
        unit = self.pool.units.get(event.unit_id)
        if (
            unit is None
            or unit.state is not UnitState.VERIFYING
            or unit.bundle_id != event.bundle_id
        ):
            return []
        opinion = Opinion(event.accepted, event.faulty, event.reason, event.summary, event.doubted)
        unit = replace(unit, opinions={**unit.opinions, event.validator: opinion})
        self.pool.units[unit.unit_id] = unit
        return self._decide(unit, now)

    def _decide_all(self, now: float) -> list[Command]:
        """Stakes changed or somebody is late: what was heard of a unit may be enough now."""
        waiting = [u for u in self.pool.units.values() if u.state is UnitState.VERIFYING]
        return [
            command
            for unit in waiting
            if unit.opinions and self.pool.units[unit.unit_id] is unit
            for command in self._decide(unit, now)
        ]

    def _decide(self, unit: Unit, now: float) -> list[Command]:
        accepting = {p: o for p, o in unit.opinions.items() if o.accepted}
        rejecting = {p: o for p, o in unit.opinions.items() if not o.accepted}
        if self._weight(accepting) >= self.pool.needed_weight:
            return self._accept(unit, list(accepting.values())[-1].summary)
        # Once so much stake rejects it that the rest carries no quorum, nothing can accept it. Who
        # was asked is heard all the same, unless late: a ban takes more stake than that.
        awaited = not unit.late and any(p in self.pool.validators for p in unit.pending_validators)
        spare = self.pool.total_weight - self.pool.needed_weight
        if self._weight(rejecting) > spare and (self._convicted(unit) or not awaited):
            return self._reject(unit, list(rejecting.values())[-1], now)
        return []

    def _convicted(self, unit: Unit) -> dict[str, str]:
        """Whom more than half of all stake convicts, and why."""
        return self._named(unit, lambda opinion: opinion.faulty)

    def _named(self, unit: Unit, whom: Callable[[Opinion], str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for opinion in unit.opinions.values():
            name = whom(opinion)
            against = [p for p, o in unit.opinions.items() if whom(o) == name]
            if name and 2 * self._weight(against) > self.pool.total_weight:
                found.setdefault(name, opinion.reason)
        return found

    def _weight(self, validators: Iterable[str]) -> int:
        """The stake behind these validators, those who have left included."""
        return sum(self.pool.weights.get(peer_id, 0) for peer_id in validators)

    def _accept(self, unit: Unit, summary: dict[str, object]) -> list[Command]:
        self.pool.units[unit.unit_id] = unit.to(UnitState.ACCEPTED, verdict=summary)
        self._credit(unit)
        forget = ForgetUnit(unit.unit_id, unit.generation)
        commands: list[Command] = [forget, RecordVerdict(unit.unit_id)]
        paid = self.pool.paid.get(unit.unit_id)
        if paid is not None:
            commands += self._settled(ChainSettled(*paid, (unit.unit_id,)))
        return commands

    def _reject(self, unit: Unit, last: Opinion, now: float) -> list[Command]:
        """Requeue the unit, ban whom it convicts, and let rest whom it doubts."""
        rejected = unit.to(UnitState.REJECTED, verdict=last.summary)
        self.pool.units[unit.unit_id] = rejected
        commands: list[Command] = [
            ForgetUnit(unit.unit_id, unit.generation),
            RecordVerdict(unit.unit_id),
        ]
        for faulty, reason in self._convicted(unit).items():
            member = self.pool.members.get(faulty)
            if member is not None and MemberState.BANNED in member.may:
                self.pool.members[faulty] = member.to(MemberState.BANNED, reason=reason)
                commands.append(BanWorker(faulty, reason))
                self._discard_work_with(faulty)
                self._release(faulty, f"{faulty} was convicted: {reason}", now)
        for doubted, reason in self._named(unit, lambda opinion: opinion.doubted).items():
            group = self.pool.current(unit.group_id, unit.generation, GroupState.RUNNING)
            if group is not None:  # another ring without it, as long as it rests
                self.pool.groups[group.group_id] = group.broken(reason, now)
            self.pool.suspect(doubted, reason, now)
        self.pool.units[unit.unit_id] = rejected.requeued(f"rejected: {last.reason}")
        return commands

    def _credit(self, unit: Unit) -> None:
        plan = self.pool.plan_of(unit)
        for stage in plan.stages if plan is not None else ():
            member = self.pool.members.get(stage.peer_id)
            if member is not None:
                self.pool.members[stage.peer_id] = member.proved()

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

    def _settled(self, event: ChainSettled) -> list[Command]:
        commands: list[Command] = []
        for unit_id in event.unit_ids:
            self.pool.paid[unit_id] = (event.epoch, event.transaction)
            unit = self.pool.units.get(unit_id)
            if unit is not None and unit.state is UnitState.ACCEPTED:
                self.pool.units[unit_id] = unit.to(
                    UnitState.SETTLED, transaction=event.transaction, epoch=event.epoch
                )
                commands.append(RecordSettled(unit_id))
        return commands
