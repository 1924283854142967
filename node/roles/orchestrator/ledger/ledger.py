"""An orchestrator's jobs and units on disk, and what it remembers of them.

All units of all jobs are rows of the journal's file. In memory are the counts of each job, and
which units validators have; the coordinator's tables hold the few that are at work or next. So
memory does not grow with the work that is done, or with the work that waits.

A job is taken in by batches (`taking.py`): rows are written as its prompts come, and the last
commit seals it. What was not sealed when the node died is dropped at the next start. A job's key
stands for its prompts: the same again is the same job, others are refused.

Prompts were checked when they were taken in. A unit that cannot be cut any more all the same (the
pool's room for a sequence was lowered, the template speaks of today's date, the row is damaged) is
given up with the reason, and holds nothing up.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

import trio

from node.errors import InputError
from node.journal import AsyncJournal
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.jobs.beacon import Beacon
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.jobs.refusals import KeyTaken, PromptsRefused, PromptUnfit, Submission
from node.roles.orchestrator.journal_events import SHOWN
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.job import Job
from node.roles.orchestrator.ledger.progress import ProgressBook, resumed
from node.roles.orchestrator.ledger.rows import (
    STATES,
    UNIT_STATES,
    RowState,
    UnitRow,
    unpack_prompts,
    with_outcome,
)
from node.roles.orchestrator.ledger.taking import Taking
from node.roles.orchestrator.ledger.writes import (
    AddUnits,
    CancelJob,
    DropUnits,
    OpenJob,
    PutUnit,
    SealJob,
)

PAGE = 256
DROPPING = 10.0
T = TypeVar("T")


class JobUnderWay(InputError):
    """A job of this key is being submitted already."""


class WorkLedger:
    """`jobs` has every sealed job by its id, the oldest first. A submission that failed is cleared
    away within `dropping` seconds, or at the next start."""

    def __init__(
        self, journal: AsyncJournal, cutter: JobCutter, dropping: float = DROPPING
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self._numbers: dict[int, Job] = {}
        self._journal = journal
        self._cutter = cutter
        self._dropping = dropping
        self._judged: dict[bytes, tuple[int, int]] = {}
        """Sequences and tokens of the units that are VERIFYING on disk."""
        self._judged_tokens = 0
        self._arriving: set[str] = set()
        self.tokens = 0
        """Output tokens of all units that have ended."""
        self.book = ProgressBook()
        self._left: set[bytes] = set()
        """Units that wait, of which an earlier run left notes."""
        self._shown = 0

    async def load(self, beacons: dict[str, Beacon]) -> list[Unit]:
        """Read what earlier runs left; the units that validators have. `beacons` are the jobs'.
        Raises `InputError` where a job is for another model than the one configured."""
        for row in await self._journal.read(queries.jobs):
            if row.model_id != self._cutter.model_id:
                raise InputError(
                    f"job {row.job_id} was accepted for another model than"
                    f" {self._cutter.model_name}",
                    "set orchestrator.model back, or use another data folder",
                )
            if row.sealed:
                job = Job(row.number, row.job_id, row.sampled, row.cancelled)
                job.refused, job.content = row.refused, row.content
                job.most_tokens = row.shown
                job.beacon = beacons.get(row.job_id)
                self._keep(job)
            else:
                await self._drop(row.job_id)
        for tally in await self._journal.read(queries.tallies):
            job = self._numbers[tally.job]
            job.add(tally.state, tally.units, tally.sequences, tally.tokens)
            if tally.state > RowState.VERIFYING:
                self.tokens += tally.tokens
        noted = await self._journal.read(queries.under_way)
        self._left = set(noted)
        for number, tokens in noted.values():
            if number in self._numbers:
                self.book.tokens[self._numbers[number].job_id] += tokens
        on_disk = sum(map(self.tokens_of, self.jobs.values()))
        self._shown = max(await self._journal.state(SHOWN, 0), on_disk)
        self.book.tokens.clear()
        return await self._verifying()

    def tokens_of(self, job: Job) -> int:
        """Output tokens of a job, as far as they are on disk. Never falls: those of a unit that is
        done again stay counted."""
        on_disk = job.tokens.total() + self.book.tokens[job.job_id]
        job.most_tokens = max(job.most_tokens, on_disk)
        return job.most_tokens

    def tokens_shown(self) -> int:
        """The same, of all jobs that there ever were."""
        on_disk = self.tokens + self._judged_tokens + self.book.tokens.total()
        self._shown = max(self._shown, on_disk)
        return self._shown

    async def submit(
        self,
        job_id: str,
        batches: AsyncIterable[Sequence[Prompt]],
        *,
        all_or_nothing: bool = False,
    ) -> tuple[Submission, bool]:
        """Take a job in: on disk on return; and whether it is new. Prompts that cannot be run are
        left out; with `all_or_nothing` there must be none. Raises `PromptsRefused`, `KeyTaken`,
        `JobUnderWay`, and what `batches` raises, and leaves nothing of the job."""
        taking = Taking(self._cutter, job_id)
        if job_id in self.jobs:
            return await self._again(self.jobs[job_id], batches, taking, all_or_nothing), False
        if job_id in self._arriving:
            raise JobUnderWay(f"job {job_id} is being submitted already", "wait for it")
        self._arriving.add(job_id)
        try:
            await self._drop(job_id)  # what an attempt that was cut short may have left
            await self._journal.write(OpenJob(job_id, self._cutter.model_id))
            async for batch in batches:
                units = await trio.to_thread.run_sync(taking.take, batch)
                if units and not (all_or_nothing and taking.refused):
                    await self._journal.write(AddUnits(job_id, units))
            if taking.refused and (all_or_nothing or not taking.sequences):
                raise PromptsRefused(taking.refused, taking.refusals)
            if not taking.sequences:
                raise InputError("a job has at least one prompt")
            content = taking.content
            await self._journal.write(SealJob(job_id, taking.sampled, taking.refused, content))
            number = next(
                row.number for row in await self._journal.read(queries.jobs) if row.job_id == job_id
            )
            job = Job(number, job_id, taking.sampled, refused=taking.refused, content=content)
            job.add(RowState.QUEUED, taking.units, taking.sequences, 0)
            self._keep(job)
        finally:
            self._arriving.discard(job_id)
            if job_id not in self.jobs:
                # A stalled disk must not keep the node from ending; the next start drops it, too.
                with trio.move_on_after(self._dropping, shield=True):
                    await self._drop(job_id)
        return taking.submission(), True

    async def cancel(self, job_id: str) -> bool:
        """Begin nothing more of the job; False where that is so already. Raises KeyError."""
        job = self.jobs[job_id]
        (new,) = await self._journal.write(CancelJob(job_id))
        job.cancelled = True
        return new

    def forget(self, job_id: str) -> None:
        """The job goes: its rows are about to be deleted."""
        job = self.jobs.pop(job_id, None)
        if job is not None:
            del self._numbers[job.number]

    def drawn(self, job_id: str, beacon: Beacon) -> None:
        """The job's noise is there, and journaled."""
        self.jobs[job_id].beacon = beacon

    def recorded(self, unit: Unit) -> None:
        """A unit was written to disk as it stands now."""
        self.book.forget(unit.unit_id)
        self._left.discard(unit.unit_id)
        job = self.jobs.get(unit.job_id)
        state = STATES[unit.state]
        before = self._judged.pop(unit.unit_id, None)
        self._judged_tokens -= before[1] if before else 0
        size, tokens = len(unit.sequences), sum(len(s.output_ids) for s in unit.sequences)
        if state is RowState.VERIFYING:
            self._judged[unit.unit_id] = (size, tokens)
            self._judged_tokens += tokens
        if job is None:
            return
        if before is None:
            job.add(RowState.QUEUED, -1, -size, 0)
        else:
            job.add(RowState.VERIFYING, -1, -before[0], -before[1])
        job.add(state, 1, size, 0 if state is RowState.QUEUED else tokens)
        if state > RowState.VERIFYING:
            self.tokens += tokens

    async def next_queued(self, limit: int) -> tuple[Unit, ...]:
        """The next units to be worked on, of the oldest job that has any; none: there are no
        more."""
        for job in [job for job in self.jobs.values() if job.readable]:
            while True:
                query = queries.in_state(job.number, RowState.QUEUED, job.read_to, limit)
                rows = await self._journal.read(query)
                if not rows:
                    break
                job.read_to = rows[-1].cursor
                if units := await self._sound(rows):
                    return tuple(units)
            job.exhausted = True
        return ()

    def read_again(self, job_ids: Collection[str]) -> None:
        """Units of these jobs were read and not taken: begin with their first ones again."""
        for job_id in job_ids:
            self.jobs[job_id].read_to, self.jobs[job_id].exhausted = 0, False

    async def rows(self, query: queries.Query) -> list[UnitRow]:
        """A page of rows of sealed jobs."""
        return [row for row in await self._journal.read(query) if row.job in self._numbers]

    async def read(self, query: Callable[..., T]) -> T:
        """What a query of `queries` finds."""
        return await self._journal.read(query)

    def job_of(self, row: UnitRow) -> Job:
        """The job that a row is of."""
        return self._numbers[row.job]

    async def units(self, rows: Sequence[UnitRow]) -> list[Unit]:
        """The units of these rows, as they stand on disk."""
        epochs = {row.epoch for row in rows if row.epoch}
        paid = await self._journal.read(queries.payments(epochs)) if epochs else {}
        left = [row.unit_id for row in rows if row.unit_id in self._left]
        notes = await self._journal.read(queries.progress(left)) if left else {}
        return await trio.to_thread.run_sync(
            lambda: [
                self._unit(row, paid.get(row.epoch, ""), notes.get(row.unit_id, ())) for row in rows
            ]
        )

    def _unit(self, row: UnitRow, transaction: str, notes: Sequence[tuple[int, bytes]]) -> Unit:
        job = self._numbers[row.job]
        waits = row.state == RowState.QUEUED
        try:
            unit = self._cutter.unit(job.job_id, unpack_prompts(row.prompts), waits=waits)
            if job.beacon is not None:
                unit = unit.drawn(job.beacon.value, job.beacon.block)
            unit = replace(with_outcome(unit, row), transaction=transaction)
            return resumed(unit, notes, self._cutter.unfinished_fault) if notes else unit
        except (PromptUnfit, ValueError, TypeError) as exc:
            state = UNIT_STATES[RowState(row.state)]
            why = (f"it cannot be read from disk as it was taken in: {exc}",)
            return Unit(row.unit_id, job.job_id, (), state, row.attempt, history=why)

    async def _sound(self, rows: Sequence[UnitRow]) -> list[Unit]:
        """The units of these rows; those that cannot be cut any more are given up on disk."""
        units = await self.units(rows)
        unsound = [
            (row, replace(unit, state=UnitState.EXPIRED))
            for row, unit in zip(rows, units, strict=True)
            if not unit.sequences
        ]
        if unsound:
            await self._journal.write(*(PutUnit.of(unit) for _, unit in unsound))
        for row, _ in unsound:
            job = self._numbers[row.job]
            job.add(RowState(row.state), -1, -row.size, -row.tokens)
            job.add(RowState.EXPIRED, 1, row.size, 0)
        return [unit for unit in units if unit.sequences]

    async def _again(
        self,
        job: Job,
        batches: AsyncIterable[Sequence[Prompt]],
        taking: Taking,
        all_or_nothing: bool,
    ) -> Submission:
        """The same job once more. Its prompts are looked through to tell whether it is, and which
        of them were left out."""
        look = taking.take if job.refused else taking.note
        async for batch in batches:
            await trio.to_thread.run_sync(look, batch)
        if taking.content != job.content:
            raise KeyTaken
        if all_or_nothing and taking.refused:
            raise PromptsRefused(taking.refused, taking.refusals)
        return Submission(job.job_id, job.prompts, job.refused, tuple(taking.refusals))

    async def _verifying(self) -> list[Unit]:
        found: list[Unit] = []
        for job in self.jobs.values():
            after = 0
            while job.units[RowState.VERIFYING]:
                query = queries.in_state(job.number, RowState.VERIFYING, after, PAGE)
                rows = await self._journal.read(query)
                if not rows:
                    break
                after = rows[-1].cursor
                units = await self._sound(rows)
                found += units
                sound = {unit.unit_id for unit in units}
                self._judged |= {r.unit_id: (r.size, r.tokens) for r in rows if r.unit_id in sound}
                self._judged_tokens += sum(r.tokens for r in rows if r.unit_id in sound)
        return found

    async def _drop(self, job_id: str) -> None:
        """Delete a job's rows, a batch at a time."""
        while True:
            (more,) = await self._journal.write(DropUnits(job_id))
            if not more:
                return

    def _keep(self, job: Job) -> None:
        self.jobs[job.job_id] = job
        self._numbers[job.number] = job
