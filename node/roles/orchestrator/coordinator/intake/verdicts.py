"""Events of validators and of their stakes: how much each word counts, and what they add up to.

A unit is accepted once enough stake accepts it, as much as must sign the epoch that pays it. It is
rejected once so much stake rejects it that the rest carries no quorum. More than half of all stake
must name the same worker to ban it, or to have it rest where its work was off by too little.

Whoever is seen anew is asked at once about all that it has not judged: what it was sent before may
be lost, and what it has it does not take twice. That is done again no sooner than `AGAIN`, so that
a connection that comes and goes does not make work; what could not be given to a validator is
offered again with any sign of life.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from node.roles.orchestrator.coordinator.commands import (
    BanWorker,
    Command,
    RecordUnit,
)
from node.roles.orchestrator.coordinator.events import (
    BundleMissed,
    ChainQuorum,
    PeerAppeared,
    PeerValidates,
    PeerVerdict,
    Tick,
    VerdictEvent,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.pool import PoolTables
from node.roles.orchestrator.coordinator.units import Opinion, Unit, UnitState

AGAIN = 10.0
"""Seconds after which a validator that appeared may appear again."""


class VerdictEvents:
    """Applies them to a pool's tables."""

    def __init__(self, tables: PoolTables) -> None:
        self._tables = tables
        self._appeared: dict[str, float] = {}

    def apply(self, event: VerdictEvent, now: float) -> list[Command]:
        """Weigh what was heard; what is decided now must be recorded at once."""
        match event:
            case PeerValidates():
                self._validates(event)
            case PeerAppeared():
                self._appears(event.peer_id, event.connected, now)
            case BundleMissed():
                self._missed(event)
            case ChainQuorum():
                self._tables.all_weight = event.all_weight
                self._tables.quorum = event.basis_points
            case PeerVerdict():
                return self._verdict(event, now)
            case Tick():
                pass
        return self._decide_all(now)

    def _validates(self, event: PeerValidates) -> None:
        if event.weight:
            if event.peer_id not in self._tables.validators:
                self._ask_again(event.peer_id, missed=False)
            self._tables.validators[event.peer_id] = event.weight
            self._tables.weights[event.peer_id] = event.weight
        else:
            self._tables.validators.pop(event.peer_id, None)

    def _appears(self, validator: str, connected: bool, now: float) -> None:
        if validator not in self._tables.validators:
            return
        known = self._appeared.keys() & self._tables.validators.keys()
        self._appeared = {p: at for p, at in self._appeared.items() if p in known}
        anew = connected and now - self._appeared.get(validator, now - AGAIN) >= AGAIN
        if anew:
            self._appeared[validator] = now
        self._ask_again(validator, missed=not anew)

    def _ask_again(self, validator: str, *, missed: bool) -> None:
        """Have the reconciliation ask it about what it has not judged; `missed`: only about what it
        could not be given."""
        for unit in self._tables.units.in_state(UnitState.VERIFYING):
            among = unit.missed if missed else unit.pending_validators
            if validator in among:
                self._tables.units[unit.unit_id] = unit.offered_again(validator)

    def _missed(self, event: BundleMissed) -> None:
        unit = self._tables.units.get(event.unit_id)
        if unit is None or event.validator not in unit.pending_validators:
            return
        missed = tuple(dict.fromkeys((*unit.missed, event.validator)))
        self._tables.units[unit.unit_id] = replace(unit, missed=missed)

    def _verdict(self, event: PeerVerdict, now: float) -> list[Command]:
        unit = self._tables.units.get(event.unit_id)
        if (
            unit is None
            or unit.state is not UnitState.VERIFYING
            or unit.bundle_id != event.bundle_id
        ):
            return []
        opinion = Opinion(event.accepted, event.faulty, event.reason, event.summary, event.doubted)
        unit = replace(unit, opinions={**unit.opinions, event.validator: opinion})
        self._tables.units[unit.unit_id] = unit
        return self._decide(unit, now)

    def _decide_all(self, now: float) -> list[Command]:
        """Stakes changed or somebody is late: what was heard of a unit may be enough now."""
        waiting = self._tables.units.in_state(UnitState.VERIFYING)
        return [
            command
            for unit in waiting
            if unit.opinions and self._tables.units[unit.unit_id] is unit
            for command in self._decide(unit, now)
        ]

    def _decide(self, unit: Unit, now: float) -> list[Command]:
        accepting = {p: o for p, o in unit.opinions.items() if o.accepted}
        rejecting = {p: o for p, o in unit.opinions.items() if not o.accepted}
        if self._tables.weight_of(accepting) >= self._tables.needed_weight:
            return self._accept(unit, list(accepting.values())[-1].summary, now)
        # Once so much stake rejects it that the rest carries no quorum, nothing can accept it. Who
        # was asked is heard all the same, unless late: a ban takes more stake than that.
        awaited = not unit.late and any(
            p in self._tables.validators for p in unit.pending_validators
        )
        spare = self._tables.total_weight - self._tables.needed_weight
        if self._tables.weight_of(rejecting) > spare and (self._convicted(unit) or not awaited):
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
            if name and 2 * self._tables.weight_of(against) > self._tables.total_weight:
                found.setdefault(name, opinion.reason)
        return found

    def _accept(self, unit: Unit, summary: dict[str, object], now: float) -> list[Command]:
        """What stages said of the unit before was wrong: it can be worked on."""
        for failure in unit.failures:
            self._tables.incident(failure.suspects, f"it was wrong: {failure.reason}", now)
            self._tables.rebuilds.earn(unit.job_id, 1.0)
        self._tables.rebuilds.earn(unit.job_id)
        accepted = unit.to(UnitState.ACCEPTED, verdict=summary)
        self._tables.units[unit.unit_id] = accepted
        plan = self._tables.plan_of(unit)
        self._tables.not_paid(unit)
        self._tables.served(stage.peer_id for stage in (plan.stages if plan else ()))
        return [self._tables.forget(unit), RecordUnit(accepted)]

    def _reject(self, unit: Unit, last: Opinion, now: float) -> list[Command]:
        """Requeue the unit, ban whom it convicts, and rest whom it doubts."""
        rejected = unit.to(UnitState.REJECTED, verdict=last.summary)
        self._tables.units[unit.unit_id] = rejected
        again = rejected.requeued(f"rejected: {last.reason}")
        commands: list[Command] = [self._tables.forget(unit), RecordUnit(again)]
        for faulty, reason in self._convicted(unit).items():
            member = self._tables.members.get(faulty)
            if member is not None and MemberState.BANNED in member.may:
                self._tables.members[faulty] = member.to(MemberState.BANNED, reason=reason)
                commands.append(BanWorker(faulty, reason))
                self._discard_work_with(faulty)
                self._tables.release(faulty, f"{faulty} was convicted: {reason}", now)
        for doubted, reason in self._named(unit, lambda opinion: opinion.doubted).items():
            group = self._tables.current(unit.group_id, unit.generation, GroupState.RUNNING)
            if group is not None:  # another ring without it, as long as it rests
                self._tables.groups[group.group_id] = group.broken(reason, now)
            self._tables.suspect(doubted, reason, now)
        self._tables.units[unit.unit_id] = again
        return commands

    def _discard_work_with(self, peer_id: str) -> None:
        """Units under way in a convicted worker's group start again from scratch."""
        past = {g for g, peers in self._tables.past.items() if peer_id in peers}
        for unit in [u for u in self._tables.units.queued() if u.generations & past]:
            self._tables.units[unit.unit_id] = unit.cleared()
        for group in self._tables.groups.values():
            tainted = past | {
                generation
                for generation, plan in group.generations
                if any(stage.peer_id == peer_id for stage in plan.stages)
            }
            for unit in self._tables.units.in_group(group.group_id):
                if unit.state not in (UnitState.ASSIGNED, UnitState.PRODUCED):
                    continue
                if {unit.generation, *unit.generations} & tainted:
                    clean = unit.returned("its group held a convicted worker")
                    self._tables.units[unit.unit_id] = clean
