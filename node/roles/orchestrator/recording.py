"""Writing the coordinator's decisions to the journal, before anybody is answered."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from node.journal import AsyncJournal, OnlyNewest, Write
from node.roles.orchestrator.coordinator.commands import (
    BanWorker,
    BuildGroup,
    Command,
    RecordProgress,
    RecordUnit,
)
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.orchestrator.journal_events import (
    ASKED,
    GENERATION,
    SHOWN,
    RingBuilt,
    WorkerBanned,
)
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.roles.orchestrator.ledger.writes import PutUnit, ShowTokens

MAX_ASKED = 1024
MAX_RINGS = 1024
"""Rings whose workers are remembered."""


class Recorder:
    """Units go to their rows as the commands have them, and what they have on the way to the notes
    of `ledger`. `asked` are the validators that earlier runs asked for verdicts: their late ones
    are answered, not refused.

    With whatever could lower a count of tokens goes what was shown of it before."""

    def __init__(self, journal: AsyncJournal, ledger: WorkLedger) -> None:
        self.asked: dict[str, None] = {}
        self._journal = journal
        self._ledger = ledger
        self._shown = -1

    async def write(self, commands: Sequence[Command]) -> None:
        """What of these must be on disk is on return, in one commit. Raises `JournalError`."""
        writes, state = written(commands)
        asked = [p for c in commands if isinstance(c, RecordUnit) for p in c.unit.asked]
        if not self.asked.keys() >= set(asked):
            self.asked |= dict.fromkeys(asked)
            state[ASKED] = tuple(self.asked)[-MAX_ASKED:]
        noted = [c.units for c in commands if isinstance(c, RecordProgress)]
        book = self._ledger.book
        notes = [note for units in noted for unit in units if (note := book.note(unit))]
        shown = self._ledger.tokens_shown()
        if shown != self._shown:
            state[SHOWN] = shown
        writes += [note.put for note in notes]
        writes += self._shown_of({u.job_id for units in noted for u in units} | _again(commands))
        await self._journal.write(*writes, state=state)
        self._shown = shown
        for note in notes:
            book.noted(note)

    def _shown_of(self, job_ids: Collection[str]) -> list[Write]:
        jobs = [self._ledger.jobs[job_id] for job_id in job_ids if job_id in self._ledger.jobs]
        return [ShowTokens(job.job_id, self._ledger.tokens_of(job)) for job in jobs]


def _again(commands: Sequence[Command]) -> set[str]:
    """The jobs of units that are done again."""
    recorded = [c.unit for c in commands if isinstance(c, RecordUnit)]
    return {unit.job_id for unit in recorded if unit.state is UnitState.QUEUED}


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
                peers = tuple(stage.peer_id for stage in command.plan.stages)
                writes.append(RingBuilt(generation=command.generation, peers=peers).to_entry())
                writes.append(OnlyNewest(RingBuilt, MAX_RINGS).to_entry())
            case _:
                pass
    return writes, state
