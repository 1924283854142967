"""The orchestrator role: the coordinator's hands.

Events come from peers' requests, from `workers/watch.py` and from the tasks that carry out
commands; each goes through `feed`, and one task (`transitions.py`) has the pure `Coordinator`
decide about it. What must be on disk is journaled (`recording.py`) before the tables show it, and
then the commands run as tasks of this role's nursery (`executing.py`). A task that fails reports an
event, never an exception.

What a restart makes of the journal is in `restore.py`; what peers may ask, in `requests.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import trio

from node.context import NodeContext
from node.prompts import Prompt
from node.roles.orchestrator.bundling.collecting import ClaimCollector
from node.roles.orchestrator.bundling.making import BundleMaker
from node.roles.orchestrator.chain_parts import ChainParts
from node.roles.orchestrator.coordinator.commands import Command, RecordProgress, RecordUnit
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import Ending, Event, JobCancelled, QueueGrew, Tick
from node.roles.orchestrator.coordinator.units import ENDED, Unit, UnitState, WorkSequence
from node.roles.orchestrator.executing import CommandExecutor, ExecutorParts
from node.roles.orchestrator.jobs.beacons import Beacons
from node.roles.orchestrator.jobs.cutting import JobCutter, job_id_of
from node.roles.orchestrator.jobs.dataset import dataset_rows
from node.roles.orchestrator.jobs.prompt_batches import BATCH
from node.roles.orchestrator.jobs.refusals import Submission
from node.roles.orchestrator.journal_events import UnitRejected
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.job import Job
from node.roles.orchestrator.ledger.ledger import PAGE, WorkLedger
from node.roles.orchestrator.ledger.queries import Query
from node.roles.orchestrator.ledger.rows import RowState
from node.roles.orchestrator.ledger.writes import ExportJob
from node.roles.orchestrator.recording import Recorder
from node.roles.orchestrator.reporting import Reporter
from node.roles.orchestrator.requests import PeerRequests
from node.roles.orchestrator.restore import restore
from node.roles.orchestrator.settlement_watch import SettlementWatch
from node.roles.orchestrator.snapshot import (
    JobSnapshot,
    PoolSnapshot,
    group_snapshots,
    job_snapshot,
    worker_snapshots,
)
from node.roles.orchestrator.timing import OrchestratorTiming
from node.roles.orchestrator.transitions import Transitions
from node.roles.orchestrator.workers.builder import Builder
from node.roles.orchestrator.workers.invites import Inviter
from node.roles.orchestrator.workers.validator_watch import ValidatorWatch
from node.roles.orchestrator.workers.watch import WorkerWatch
from node.settlement.follower import SettlementFollower
from node.storage.intake import check_storage, while_well

DATASET_PAGE = 64


class Orchestrator:
    """Runs a pool. `cutter` makes units of prompts, `builder` builds groups, `parts` know who may
    join and judge, and `follower` what is settled."""

    def __init__(
        self,
        context: NodeContext,
        coordinator: Coordinator,
        cutter: JobCutter,
        builder: Builder,
        parts: ChainParts,
        follower: SettlementFollower,
        timing: OrchestratorTiming | None = None,
    ) -> None:
        timing = timing or OrchestratorTiming()
        pool, log, model_id = coordinator.pool, context.log, cutter.model_id
        pool_id = builder.terms.pool_id
        self.pool = pool
        self.changed = trio.Event()
        """Set, and replaced by another, whenever more than time has passed."""
        self._context = context
        self._cutter = cutter
        self._builder = builder
        self._tick = timing.tick
        self._settlement = SettlementWatch(follower, context.journal, pool_id)
        self.ledger = WorkLedger(context.journal, cutter)
        self._beacons = Beacons(parts.beacons, context.journal, log, timing.beacon)
        self._recorder = Recorder(context.journal, self.ledger)
        self._transitions = Transitions(
            coordinator, context.now, self._recorder.write, self._began, self._surprised
        )
        self.feed = self._transitions.feed
        """Tell the coordinator; see `Transitions.feed`."""
        self._states: dict[bytes, UnitState] = {}
        self._reporter = Reporter(
            pool,
            lambda: self.ledger.tokens,
            self.ledger.tokens_shown,
            context.metrics,
            log,
            window=int(timing.rate / timing.tick),
        )
        self._bundles = BundleMaker(
            context,
            pool,
            parts.commit_block,
            self.feed,
            pool_id=pool_id,
            model_id=model_id,
            backoff=timing.bundle,
        )
        validators = ValidatorWatch(parts.stakes, self.feed, log)
        self._watch = WorkerWatch(context, pool, validators, parts.membership, self.feed, timing)
        inviter = Inviter(
            context,
            parts.membership,
            pool_id=pool_id,
            model_id=model_id,
            model_name=cutter.model_name,
        )
        self._requests = PeerRequests(
            context, pool, cutter, inviter, self._watch, self.feed, timing.hearsay
        )
        claims = ClaimCollector(
            context, pool, model_id=model_id, pool_id=pool_id, backoff=timing.claim
        )
        executor_parts = ExecutorParts(
            inviter,
            builder,
            claims,
            self._bundles,
            self._watch,
            self._settlement,
            self.ledger,
        )
        self._executor = CommandExecutor(context, pool, executor_parts, self.feed)
        self._nursery: trio.Nursery | None = None
        self._leaving = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the journal is replayed and handlers are in place.
        Raises `InputError` where the journal's jobs are for another model."""
        # Workers serve no generation twice. A pool whose journal is lost must not use its numbers
        # again, so the count begins with the minutes since 1970: there are fewer builds.
        minutes = int(self._context.wall() // 60)
        recovered = await restore(self._context.journal, self.ledger, minutes)
        await self._settlement.restore()
        self._requests.rejections.extend(recovered.rejections)
        self._recorder.asked |= dict.fromkeys(recovered.event.asked)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            keep = self._context.supervisor.keep
            keep(nursery, "pool: tables", self._transitions.run)
            await self.feed(recovered.event, QueueGrew())
            self._requests.serve()
            keep(nursery, "pool: records", self._watch.records)
            keep(nursery, "pool: validators", self._watch.validators)
            keep(nursery, "pool: pings", self._watch.pings)
            keep(nursery, "pool: connections", self._watch.connections)
            keep(nursery, "pool: stakes", self._watch.stakes)
            for job in self.ledger.jobs.values():
                self._draw_if_needed(job)
            keep(nursery, "pool: clock", self._keep_time)
            task_status.started()

    async def _keep_time(self) -> None:
        while True:
            if await self._settlement.note_final():
                self._announce()
            await self.feed(Tick())
            self._reporter.meter(self._context.now())
            await trio.sleep(self._tick)

    async def submit(
        self, prompts: Sequence[Prompt], key: str, *, all_or_nothing: bool = False
    ) -> Submission:
        """Accept a job: on disk before the answer. The same prompts under the same key are the same
        job. What cannot be run is left out, unless all of it was wanted. Raises `PromptsRefused`,
        `KeyTaken`, `JobUnderWay` and `NoStorage`."""
        job_id = await trio.to_thread.run_sync(job_id_of, key, prompts)

        async def batches() -> AsyncIterator[Sequence[Prompt]]:
            size = max(BATCH // self.unit_size, 1) * self.unit_size
            for at in range(0, len(prompts), size):
                yield prompts[at : at + size]

        return await self._submit(job_id, batches(), all_or_nothing)

    async def submit_stream(
        self, batches: AsyncIterable[Sequence[Prompt]], key: str, *, all_or_nothing: bool = False
    ) -> Submission:
        """Accept a job of any length as it comes. Raises as `submit`, and whatever `batches`
        raises; then there is no such job."""
        return await self._submit(job_id_of(key), batches, all_or_nothing)

    async def _submit(
        self, job_id: str, batches: AsyncIterable[Sequence[Prompt]], all_or_nothing: bool
    ) -> Submission:
        check_storage(self._context.journal)
        take = partial(self.ledger.submit, job_id, batches, all_or_nothing=all_or_nothing)
        if self._nursery is None:
            taken, new = await take()
        else:
            taken, new = await while_well(self._context.journal, self._nursery, take)
        if new:
            self._draw_if_needed(self.ledger.jobs[job_id])
            await self.feed(QueueGrew())
        return taken

    async def cancel(self, job_id: str) -> None:
        """Begin nothing more of a job; what is at work is finished, judged and paid. On disk on
        return. Raises KeyError."""
        await self.ledger.cancel(job_id)
        await self.feed(JobCancelled(job_id))

    @property
    def unit_size(self) -> int:
        """Prompts of one unit."""
        return self._cutter.unit_size

    async def drain(self) -> None:
        """Wait for the verdicts on what validators already have; the rest is in the journal."""
        self.stop_commands()
        await self.feed(Ending())
        while any(u.state is UnitState.VERIFYING for u in self.pool.units.values()):
            await self.changed.wait()

    def stop_commands(self) -> None:
        """From now on events are taken in and journaled, and nothing else is begun."""
        self._leaving = True

    async def work(self, query: Query) -> list[tuple[int, Unit]]:
        """Units of a page of the ledger with their cursors, as the tables have those that are at
        work and the disk all others."""
        rows = await self.ledger.rows(query)
        units = await self.ledger.units(rows)
        live = self.pool.units
        return [
            (row.cursor, live.get(unit.unit_id, unit))
            for row, unit in zip(rows, units, strict=True)
        ]

    async def unit(self, unit_id: bytes) -> Unit:
        """One unit as it stands. Raises KeyError."""
        for _, unit in await self.work(queries.one(unit_id)):
            return unit
        raise KeyError(unit_id)

    async def units_of(self, job_id: str, first: int = 0, limit: int = PAGE) -> list[Unit]:
        """At most `limit` units of a job that hold its prompt number `first` or later ones, in the
        order of its prompts. Raises KeyError for an unknown job."""
        job = self.ledger.jobs[job_id]
        return [unit for _, unit in await self.work(queries.of_job(job.number, first, limit))]

    def job(self, job_id: str) -> JobSnapshot:
        """How far a job is. Raises KeyError."""
        job = self.ledger.jobs[job_id]
        return job_snapshot(job, self.pool, self.ledger.tokens_of(job))

    async def error_of(self, job_id: str) -> str:
        """Why a unit of a job was given up, "" where none was. Raises KeyError."""
        job = self.ledger.jobs[job_id]
        if not job.units[RowState.EXPIRED]:
            return ""
        query = queries.in_state(job.number, RowState.EXPIRED, 0, 1)
        for _, unit in await self.work(query):
            return unit.why
        return ""

    async def dataset(self, job_id: str) -> AsyncIterator[list[dict[str, Any]]]:
        """Rows of a job's accepted units, page by page; reads their bundles from disk. That all of
        a job that has ended were read is noted. Raises KeyError."""
        job, first = self.ledger.jobs[job_id], 0
        whole = job.finished
        model = self._cutter.model_name, self._cutter.model_id
        while True:
            rows = await self.ledger.rows(queries.accepted(job.number, first, DATASET_PAGE))
            if not rows:
                if whole:
                    await self._context.journal.write(ExportJob(job_id))
                return
            first = rows[-1].last + 1
            units = await self.ledger.units(rows)
            yield await trio.to_thread.run_sync(
                dataset_rows, units, self._bundles.bundle, self._cutter.text, model
            )

    def text(self, sequence: WorkSequence) -> str:
        """What a sequence's output says."""
        return self._cutter.text(sequence)

    @property
    def rejections(self) -> list[UnitRejected]:
        """The newest rejections that validators sent, the oldest of them first."""
        return list(self._requests.rejections)

    def snapshot(self) -> PoolSnapshot:
        """The pool as it is now."""
        pongs = self._watch.pongs
        return PoolSnapshot(
            model_name=self._cutter.model_name,
            model_id=self._cutter.model_id,
            tokens=self._reporter.tokens,
            tokens_per_second=self._reporter.tokens_per_second,
            workers=worker_snapshots(self.pool, pongs),
            groups=group_snapshots(self.pool, self._builder.loaded, pongs),
        )

    def _began(
        self, events: Sequence[Event], commands: Sequence[Command], units: Iterable[bytes]
    ) -> None:
        """The tables show what followed from events: tell of it, and do what is to be done."""
        recorded = [command.unit for command in commands if isinstance(command, RecordUnit)]
        for unit in recorded:
            self.ledger.recorded(unit)
        over = [unit.state for unit in recorded if unit.state in ENDED]
        self._reporter.report(events, [*self._moved(units), *over])
        for command in commands:
            if not isinstance(command, RecordUnit | RecordProgress):
                self._start(command)
        if not all(isinstance(event, Tick) for event in events):
            self._announce()

    def _surprised(self, surprise: Exception) -> None:
        """Events were not taken in: logged, and shown among the parts that failed."""

        async def fail() -> None:
            raise surprise

        if self._nursery is not None:
            self._context.supervisor.task(self._nursery, "pool: events", fail)

    def _announce(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def _moved(self, units: Iterable[bytes]) -> Iterator[UnitState]:
        """States that units have come to, as it was not told before."""
        for unit_id in units:
            unit = self.pool.units.get(unit_id)
            if unit is None:
                self._states.pop(unit_id, None)
            elif self._states.get(unit_id) is not unit.state:
                self._states[unit_id] = unit.state
                yield unit.state

    def _start(self, command: Command) -> None:
        if self._nursery is not None and not self._leaving:
            name = f"pool: {type(command).__name__}"
            self._context.supervisor.task(self._nursery, name, self._executor.carry_out, command)

    def _draw_if_needed(self, job: Job) -> None:
        """Have the beacon of a journaled job drawn, where it waits for one."""
        waiting = job.sampled and job.beacon is None
        if waiting and self._nursery is not None and not self._leaving:
            self._context.supervisor.keep(self._nursery, "pool: noise", self._draw, job.job_id)

    async def _draw(self, job_id: str) -> None:
        beacon = await self._beacons.draw(job_id)
        self._context.log.info("noise drawn", job=job_id, block=beacon.block)
        self.ledger.drawn(job_id, beacon)
        await self.feed(QueueGrew())
