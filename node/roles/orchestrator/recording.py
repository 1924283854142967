"""Writing the coordinator's decisions to the journal, before anybody is answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from node.journal import AsyncJournal
from node.journal.typed import JournalEvent
from node.roles.orchestrator.coordinator.commands import (
    BanWorker,
    BuildGroup,
    Command,
    RecordBundle,
    RecordSettled,
    RecordVerdict,
)
from node.roles.orchestrator.journal_events import (
    GENERATION,
    UnitBundled,
    UnitJudged,
    UnitSettled,
    WorkerBanned,
)


class Recorder:
    """Units go to the journal as the commands have them."""

    def __init__(self, journal: AsyncJournal) -> None:
        self._journal = journal

    async def write(self, commands: Sequence[Command]) -> None:
        """What of these must be on disk is on return, in one commit. Raises `JournalError`."""
        builds = [c.generation for c in commands if isinstance(c, BuildGroup)]
        state = {GENERATION: max(builds)} if builds else None
        await self._journal.record(*_events(commands), state=state)


def _events(commands: Sequence[Command]) -> Iterator[JournalEvent]:
    for command in commands:
        match command:
            case RecordBundle():
                yield UnitBundled(unit=command.unit)
            case RecordVerdict():
                yield UnitJudged(unit=command.unit)
            case RecordSettled():
                unit = command.unit
                yield UnitSettled(
                    unit_id=unit.unit_id, epoch=unit.epoch, transaction=unit.transaction
                )
            case BanWorker():
                yield WorkerBanned(peer_id=command.peer_id, reason=command.reason)
            case _:
                pass
