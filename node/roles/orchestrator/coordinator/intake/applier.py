"""What an event changes in the tables, and what must be done about it at once.

Whatever else follows is found by `reconcile.py`, which runs after every event. An event that does
not fit the tables (late, repeated, from an older generation) changes nothing.
"""

from __future__ import annotations

from node.roles.orchestrator.coordinator.commands import Command
from node.roles.orchestrator.coordinator.events import Event, Restored, WorkerEvent, WorkEvent
from node.roles.orchestrator.coordinator.intake.verdicts import VerdictEvents
from node.roles.orchestrator.coordinator.intake.work import WorkEvents
from node.roles.orchestrator.coordinator.intake.workers import WorkerEvents
from node.roles.orchestrator.coordinator.members import Member, MemberState
from node.roles.orchestrator.coordinator.pool import PoolTables


class EventApplier:
    """Applies every kind of event to a pool's tables."""

    def __init__(self, tables: PoolTables) -> None:
        self._tables = tables
        self._workers = WorkerEvents(tables)
        self._work = WorkEvents(tables)
        self._verdicts = VerdictEvents(tables)

    def apply(self, event: Event, now: float) -> list[Command]:
        """Change the tables; the commands that cannot wait for the reconciliation."""
        if isinstance(event, WorkerEvent):
            self._workers.apply(event, now)
            return []
        if isinstance(event, WorkEvent):
            return self._work.apply(event, now)
        if isinstance(event, Restored):
            self._restore(event)
            return []
        return self._verdicts.apply(event, now)

    def _restore(self, event: Restored) -> None:
        for unit in event.units:
            self._tables.add_unit(unit.resumed())
        self._tables.asked.update(event.asked)
        self._tables.queue.cancelled.update(event.cancelled)
        self._tables.past.update(event.rings)
        for peer_id in event.banned:
            banned = Member(peer_id, MemberState.BANNED, reason="banned earlier")
            self._tables.members[peer_id] = banned
        self._tables.generation = max(self._tables.generation, event.generation)
