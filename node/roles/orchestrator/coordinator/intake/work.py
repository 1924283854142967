"""Events of units: submitted, generated, proven and made into a bundle."""

from __future__ import annotations

from dataclasses import replace

from node.roles.orchestrator.coordinator.commands import (
    CollectClaims,
    Command,
    RecordUnit,
)
from node.roles.orchestrator.coordinator.events import (
    BundleMade,
    ClaimsFailed,
    Ending,
    EngineEnded,
    JobCancelled,
    PeerClaimed,
    PeerFinished,
    PeerTokens,
    QueueGrew,
    QueueRead,
    UnitRefused,
    UnitsFailed,
    WorkEvent,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.intake.failures import FailureEvents
from node.roles.orchestrator.coordinator.pool import Brought, PoolTables
from node.roles.orchestrator.coordinator.units import Unit, UnitState, WorkSequence


class WorkEvents:
    """Applies them to a pool's tables."""

    def __init__(self, tables: PoolTables) -> None:
        self._tables = tables
        self._failures = FailureEvents(tables)

    def apply(self, event: WorkEvent, now: float) -> list[Command]:
        """Change the units that the event is about; what must follow at once."""
        match event:
            case Ending():
                self._tables.notes.ending()
            case QueueGrew():
                self._tables.queue.grew()
            case QueueRead():
                self._read(event)
            case JobCancelled():
                self._tables.queue.cancelled.add(event.job_id)
            case PeerTokens():
                self._tokens(event, now)
            case PeerFinished():
                return self._finished(event, now)
            case PeerClaimed():
                self._claimed(event)
            case ClaimsFailed():
                self._claims_failed(event, now)
            case UnitRefused():
                return self._failures.refused(event, now)
            case UnitsFailed():
                return self._failures.failed(event, now)
            case EngineEnded():
                return self._failures.ended(event, now)
            case BundleMade():
                return self._bundled(event)
        return []

    def _read(self, event: QueueRead) -> None:
        self._tables.queue.read(len(event.units), event.arrivals)
        for unit in event.units:
            self._tables.add_unit(unit.cleared() if self._tables.tainted(unit) else unit)

    def _tokens(self, event: PeerTokens, now: float) -> None:
        unit = self._tables.assigned(event.unit_id, event.generation)
        if unit is None:
            return
        for sequence in unit.sequences:
            if sequence.sequence_id == event.sequence_id:
                grown = sequence.extended(event.generation, event.offset, event.ids)
                if grown is not sequence:
                    self._brought(unit, sequence, grown, now)
                    self._tables.units[unit.unit_id] = unit.with_sequence(grown, now)

    def _finished(self, event: PeerFinished, now: float) -> list[Command]:
        unit = self._tables.assigned(event.unit_id, event.generation)
        if unit is None:
            return []
        for sequence in unit.sequences:
            if sequence.sequence_id == event.sequence_id:
                ended = sequence.ended(event.generation, event.reason, event.ids)
                if ended is not sequence:
                    self._brought(unit, sequence, ended, now)
                    unit = unit.with_sequence(ended, now)
        self._tables.units[unit.unit_id] = unit
        if not unit.finished:
            return []
        self._tables.units[unit.unit_id] = unit.to(UnitState.PRODUCED)
        self._tables.crashes.cleared(unit.unit_id)
        return [CollectClaims(unit.unit_id, unit.generation)]

    def _brought(self, unit: Unit, before: WorkSequence, after: WorkSequence, now: float) -> None:
        fresh = len(after.output_ids) - len(before.output_ids)
        if fresh > 0:
            brought = self._tables.brought
            tokens = brought.get(unit.group_id, Brought()).tokens + fresh
            brought[unit.group_id] = Brought(tokens, now)
        self._tables.notes.brought(unit.unit_id, max(fresh, 1))

    def _claimed(self, event: PeerClaimed) -> None:
        unit = self._produced(event.unit_id, event.generation)
        if unit is not None:
            claims = {**unit.claims, event.stage: event.claim}
            self._tables.units[unit.unit_id] = replace(unit, claims=claims)

    def _claims_failed(self, event: ClaimsFailed, now: float) -> None:
        """Only another generation can prove the unit: its engines still know it in this one."""
        unit = self._produced(event.unit_id, event.generation)
        if unit is None:
            return
        self._tables.units[unit.unit_id] = replace(unit, claims={})
        group = self._tables.current(unit.group_id, event.generation, GroupState.RUNNING)
        if group is not None:
            self._tables.groups[group.group_id] = group.broken(event.reason, now)
            if len(event.suspects) == 1:
                self._tables.suspect(event.suspects[0], event.reason, now)
            else:
                self._tables.incident(event.suspects, event.reason, now)

    def _bundled(self, event: BundleMade) -> list[Command]:
        """A unit has one bundle for each attempt, and no other is ever sent; the claims are in
        there."""
        unit = self._tables.units.get(event.unit_id)
        if unit is None or unit.state is not UnitState.VERIFYING or unit.bundle_id:
            return []
        bundled = replace(unit, bundle_id=event.bundle_id, claims={})
        self._tables.units[unit.unit_id] = bundled
        return [RecordUnit(bundled)]

    def _produced(self, unit_id: bytes, generation: int) -> Unit | None:
        unit = self._tables.units.get(unit_id)
        if unit is None or unit.state is not UnitState.PRODUCED or unit.generation != generation:
            return None
        return unit
