"""An orchestrator's jobs and units on disk, and what it remembers of them.

All units of all jobs are rows of the journal's file. In memory are the counts of each job, and
which units validators have; the coordinator's tables hold the few that are at work or next. So
memory does not grow with the work that is done, or with the work that waits.

A job is taken in by batches: rows are written as its prompts come, and the last commit seals it.
What was not sealed when the node died is dropped at the next start.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import trio

from node.errors import InputError
from node.journal import AsyncJournal
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import Unit
from node.roles.orchestrator.jobs.beacon import Beacon
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.job import Job
from node.roles.orchestrator.ledger.rows import (
    STATES,
    RowState,
    UnitRow,
    pack_prompts,
    unpack_prompts,
    with_outcome,
)
from node.roles.orchestrator.ledger.writes import (
    AddUnits,
    CancelJob,
    DropUnits,
    OpenJob,
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
        self._arriving: set[str] = set()
        self.tokens = 0
        """Output tokens of all units that have ended."""

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
                job.beacon = beacons.get(row.job_id)
                self._keep(job)
            else:
                await self._drop(row.job_id)
        for tally in await self._journal.read(queries.tallies):
            job = self._numbers[tally.job]
            job.add(tally.state, tally.units, tally.sequences, tally.tokens)
            if tally.state > RowState.VERIFYING:
                self.tokens += tally.tokens
        return await self._verifying()

    async def submit(self, job_id: str, batches: AsyncIterable[Sequence[Prompt]]) -> bool:
        """Take a job in: on disk on return; False where it was there already. Every batch but the
        last must fill whole units. Raises `InputError` naming the first prompt that does not fit,
        and leaves nothing of the job."""
        if job_id in self.jobs:
            return False
        if job_id in self._arriving:
            raise JobUnderWay(f"job {job_id} is being submitted already", "wait for it")
        self._arriving.add(job_id)
        try:
            await self._drop(job_id)  # what an attempt that was cut short may have left
            await self._journal.write(OpenJob(job_id, self._cutter.model_id))
            job = Job(0, job_id, sampled=False)
            async for batch in batches:
                await self._add(job, batch)
            if not job.prompts:
                raise InputError("a job has at least one prompt")
            await self._journal.write(SealJob(job_id, job.sampled))
            job.number = next(
                row.number for row in await self._journal.read(queries.jobs) if row.job_id == job_id
            )
            self._keep(job)
        finally:
            self._arriving.discard(job_id)
            if job_id not in self.jobs:
                # A stalled disk must not keep the node from ending; the next start drops it, too.
                with trio.move_on_after(self._dropping, shield=True):
                    await self._drop(job_id)
        return True

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
        job = self.jobs.get(unit.job_id)
        state = STATES[unit.state]
        before = self._judged.pop(unit.unit_id, None)
        size, tokens = len(unit.sequences), sum(len(s.output_ids) for s in unit.sequences)
        if state is RowState.VERIFYING:
            self._judged[unit.unit_id] = (size, tokens)
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
            query = queries.in_state(job.number, RowState.QUEUED, job.read_to, limit)
            rows = await self._journal.read(query)
            if rows:
                job.read_to = rows[-1].cursor
                return tuple(await self.units(rows))
            job.exhausted = True
        return ()

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
        return await trio.to_thread.run_sync(
            lambda: [self._unit(row, paid.get(row.epoch, "")) for row in rows]
        )

    def _unit(self, row: UnitRow, transaction: str) -> Unit:
        job = self._numbers[row.job]
        unit = self._cutter.unit(job.job_id, row.first, unpack_prompts(row.prompts))
        if job.beacon is not None:
            unit = unit.drawn(job.beacon.value, job.beacon.block)
        return replace(with_outcome(unit, row), transaction=transaction)

    async def _add(self, job: Job, prompts: Sequence[Prompt]) -> None:
        first, size = job.prompts, self._cutter.unit_size

        def cut() -> tuple[list[Unit], list[tuple[bytes, int, int, bytes]]]:
            units = self._cutter.cut(job.job_id, first, prompts)
            rows = []
            for number, unit in enumerate(units):
                part = prompts[number * size : (number + 1) * size]
                at = first + number * size
                rows.append((unit.unit_id, at, len(part), pack_prompts(part)))
            return units, rows

        units, rows = await trio.to_thread.run_sync(cut)
        await self._journal.write(AddUnits(job.job_id, rows))
        job.add(RowState.QUEUED, len(units), len(prompts), 0)
        job.sampled = job.sampled or any(unit.awaiting_beacon for unit in units)

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
                units = await self.units(rows)
                found += units
                self._judged |= {row.unit_id: (row.size, row.tokens) for row in rows}
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
