"""Writing the coordinator's decisions to the journal, before anybody is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from node.journal import AsyncJournal, Write
from node.roles.orchestrator.coordinator.commands import (
    BanWorker,
    BuildGroup,
    Command,
    RecordUnit,
)
from node.roles.orchestrator.journal_events import ASKED, GENERATION, WorkerBanned
from node.roles.orchestrator.ledger.writes import PutUnit

MAX_ASKED = 1024


class Recorder:
    """Units go to their rows as the commands have them. `asked` are the validators that earlier
    runs asked for verdicts: their late ones are answered, not refused."""

    def __init__(self, journal: AsyncJournal) -> None:
        self.asked: dict[str, None] = {}
        self._journal = journal

    async def write(self, commands: Sequence[Command]) -> None:
        """What of these must be on disk is on return, in one commit. Raises `JournalError`."""
        writes, state = written(commands)
        asked = [p for c in commands if isinstance(c, RecordUnit) for p in c.unit.asked]
        if not self.asked.keys() >= set(asked):
            self.asked |= dict.fromkeys(asked)
            state[ASKED] = tuple(self.asked)[-MAX_ASKED:]
        await self._journal.write(*writes, state=state)


def written(commands: Sequence[Command]) -> tuple[list[Write], dict[str, Any]]:
    """The writes and the state that these commands come to."""
    writes: list[Write] = []
    state: dict[str, Any] = {}
    for command in commands:
        match command:
            case RecordUnit():
                writes.append(PutUnit.of(command.unit))
            case BanWorker():
                ban = WorkerBanned(peer_id=command.peer_id, reason=command.reason)
                writes.append(ban.to_entry())
            case BuildGroup():
                state[GENERATION] = max(command.generation, state.get(GENERATION, 0))
            case _:
                pass
    return writes, state
