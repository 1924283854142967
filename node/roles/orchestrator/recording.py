"""Writing the coordinator's decisions to the journal, before anybody is answered."""

from __future__ import annotations

from node.journal import AsyncJournal
from node.roles.orchestrator.coordinator.commands import (
    BanWorker,
    Record,
    RecordBundle,
    RecordSettled,
    RecordVerdict,
)
from node.roles.orchestrator.coordinator.pool import PoolView
from node.roles.orchestrator.journal_events import (
    UnitBundled,
    UnitJudged,
    UnitSettled,
    WorkerBanned,
)


class Recorder:
    """Units go to the journal as the tables have them at that moment."""

    def __init__(self, journal: AsyncJournal, pool: PoolView) -> None:
        self._journal = journal
        self._pool = pool

    async def write(self, command: Record) -> None:
        """On disk on return; writing the same again changes nothing. Raises `JournalError`."""
        match command:
            case RecordBundle():
                await self._journal.record(UnitBundled(unit=self._pool.units[command.unit_id]))
            case RecordVerdict():
                await self._journal.record(UnitJudged(unit=self._pool.units[command.unit_id]))
            case RecordSettled():
                unit = self._pool.units[command.unit_id]
                settled = UnitSettled(
                    unit_id=unit.unit_id, epoch=unit.epoch, transaction=unit.transaction
                )
                await self._journal.record(settled)
            case BanWorker():
                await self._journal.record(
                    WorkerBanned(peer_id=command.peer_id, reason=command.reason)
                )
