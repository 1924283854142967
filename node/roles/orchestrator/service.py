"""The orchestrator role: the coordinator's hands.

Events come from peers' requests, from `workers/watch.py` and from the tasks that carry out
commands; each goes through `feed`, and one task (`transitions.py`) has the pure `Coordinator`
decide about it. What must be on disk is journaled (`recording.py`) before the tables show it, and
then the commands run as tasks of this role's nursery (`executing.py`). A task that fails reports an
event, never an exception.

What a restart makes of the journal is in `restore.py`; what peers may ask, in `requests.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import trio

from node.context import NodeContext
from node.prompts import Prompt
from node.roles.orchestrator.bundling.collecting import ClaimCollector
from node.roles.orchestrator.bundling.making import BundleMaker
from node.roles.orchestrator.chain_parts import ChainParts
from node.roles.orchestrator.coordinator.commands import (
    Command,
    RecordBundle,
    RecordSettled,
    RecordVerdict,
)
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import BeaconDrawn, Event, OperatorSubmitted, Tick
from node.roles.orchestrator.coordinator.units import Unit, UnitState, WorkSequence
from node.roles.orchestrator.executing import CommandExecutor, ExecutorParts
from node.roles.orchestrator.jobs.beacons import Beacons
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.jobs.dataset import dataset_rows
from node.roles.orchestrator.journal_events import JobSubmitted, UnitRejected
from node.roles.orchestrator.recording import Recorder
from node.roles.orchestrator.reporting import Reporter
from node.roles.orchestrator.requests import PeerRequests
from node.roles.orchestrator.restore import restore
from node.roles.orchestrator.settlement_watch import SettlementWatch
from node.roles.orchestrator.snapshot import PoolSnapshot, group_snapshots, worker_snapshots
from node.roles.orchestrator.timing import OrchestratorTiming
from node.roles.orchestrator.transitions import Transitions
from node.roles.orchestrator.workers.builder import Builder
from node.roles.orchestrator.workers.invites import Inviter
from node.roles.orchestrator.workers.validator_watch import ValidatorWatch
from node.roles.orchestrator.workers.watch import WorkerWatch
from node.settlement.follower import SettlementFollower
from node.storage.intake import check_storage

WRITTEN = (RecordVerdict, RecordBundle, RecordSettled)
"""Commands that are carried out once they are in the journal."""


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
        self.jobs: dict[str, tuple[bytes, ...]] = {}
        """Ids of each job's units, in the order of its prompts."""
        self.changed = trio.Event()
        """Set, and replaced by another, whenever more than time has passed."""
        self._context = context
        self._cutter = cutter
        self._builder = builder
        self._tick = timing.tick
        self._settlement = SettlementWatch(follower, pool_id)
        self._beacons = Beacons(parts.beacons, context.journal, log, timing.beacon)
        self._transitions = Transitions(
            coordinator, context.now, Recorder(context.journal).write, self._began
        )
        self.feed = self._transitions.feed
        """Tell the coordinator; see `Transitions.feed`."""
        self._states: dict[bytes, UnitState] = {}
        self._reporter = Reporter(pool, context.metrics, log, window=int(timing.rate / timing.tick))
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
        self._watch = WorkerWatch(context, pool, validators, self.feed, timing)
        inviter = Inviter(
            context,
            parts.membership,
            pool_id=pool_id,
            model_id=model_id,
            model_name=cutter.model_name,
        )
        self._requests = PeerRequests(context, pool, cutter, inviter, self._watch, self.feed)
        claims = ClaimCollector(
            context, pool, model_id=model_id, pool_id=pool_id, backoff=timing.claim
        )
        executor_parts = ExecutorParts(
            inviter, builder, claims, self._bundles, self._watch, self._settlement
        )
        self._executor = CommandExecutor(context, pool, executor_parts, self.feed)
        self._nursery: trio.Nursery | None = None
        self._leaving = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the journal is replayed and handlers are in place.
        Raises `InputError` where the journal's jobs are for another model."""
        recovered = await restore(self._context.journal, self._cutter)
        self.jobs |= recovered.jobs
        self._requests.rejections += recovered.rejections
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            keep = self._context.supervisor.keep
            keep(nursery, "pool: tables", self._transitions.run)
            await self.feed(recovered.event)
            self._requests.serve()
            keep(nursery, "pool: records", self._watch.records)
            keep(nursery, "pool: validators", self._watch.validators)
            keep(nursery, "pool: pings", self._watch.pings)
            keep(nursery, "pool: disconnects", self._watch.disconnects)
            for job_id in self.jobs:
                self._draw_if_needed(job_id)
            keep(nursery, "pool: clock", self._keep_time)
            task_status.started()

    async def _keep_time(self) -> None:
        while True:
            await self.feed(Tick(), *self._settlement.newly_final())
            self._reporter.meter(self._context.now())
            await trio.sleep(self._tick)

    async def submit(self, prompts: tuple[Prompt, ...], key: str) -> str:
        """Accept a job: on disk before the answer. The same key is the same job. Raises
        `InputError` naming the first prompt that does not fit, and `NoStorage`."""
        check_storage(self._context.journal)
        units = await trio.to_thread.run_sync(self._cutter.cut, key, prompts)
        job_id = units[0].job_id
        job = JobSubmitted(
            job_id=job_id,
            prompts=prompts,
            job_key=key,
            unit_size=self._cutter.unit_size,
            model_id=self._cutter.model_id,
        )
        (new,) = await self._context.journal.record(job)
        if new:
            self.jobs[job_id] = tuple(unit.unit_id for unit in units)
            await self.feed(OperatorSubmitted(units))
            self._draw_if_needed(job_id)
        return job_id

    async def drain(self) -> None:
        """Wait for the verdicts on what validators already have; the rest is in the journal."""
        self.stop_commands()
        while any(u.state is UnitState.VERIFYING for u in self.pool.units.values()):
            await self.changed.wait()

    def stop_commands(self) -> None:
        """From now on events are taken in and journaled, and nothing else is begun."""
        self._leaving = True

    def units(self, after: int, limit: int) -> list[Unit]:
        """At most `limit` units, in the order in which they were submitted, without the first
        `after`."""
        return list(islice(self.pool.units.values(), after, after + limit))

    def units_of(self, job_id: str) -> list[Unit]:
        """A job's units, in the order of its prompts. Raises KeyError for an unknown job."""
        return [self.pool.units[unit_id] for unit_id in self.jobs[job_id]]

    def dataset(self, job_id: str) -> list[dict[str, Any]]:
        """Rows of a job's accepted units; reads their bundles from disk. Raises KeyError."""
        units = self.units_of(job_id)
        return dataset_rows(units, self._bundles.bundle, self._cutter.text, self._cutter.model_name)

    def text(self, sequence: WorkSequence) -> str:
        """What a sequence's output says."""
        return self._cutter.text(sequence)

    @property
    def rejections(self) -> list[UnitRejected]:
        """Every rejection that a validator sent, in order."""
        return self._requests.rejections

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
        self._reporter.report(events, self._moved(units))
        for command in commands:
            if not isinstance(command, WRITTEN):
                self._start(command)
        if not all(isinstance(event, Tick) for event in events):
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

    def _draw_if_needed(self, job_id: str) -> None:
        """Have the beacon of a journaled job drawn, where a unit waits for one."""
        waiting = any(unit.awaiting_beacon for unit in self.units_of(job_id))
        if waiting and self._nursery is not None and not self._leaving:
            self._context.supervisor.keep(self._nursery, "pool: noise", self._draw, job_id)

    async def _draw(self, job_id: str) -> None:
        beacon = await self._beacons.draw(job_id)
        self._context.log.info("noise drawn", job=job_id, block=beacon.block)
        await self.feed(BeaconDrawn(job_id, beacon.value, beacon.block))
