"""The orchestrator role: the coordinator's hands.

Events come from peers' requests, from `watch.py` and from the tasks that carry out commands; each
goes through `feed`, which asks the pure `Coordinator` what to do. Commands that must be on disk
before anybody is answered are journaled right there; all others run as tasks of this role's
nursery. A task that fails reports an event, never an exception.

What the journal holds, and what a restart makes of it, is in `restore.py`; what peers may ask, in
`requests.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import trio

from node.context import NodeContext
from node.prompts import Prompt
from node.roles.orchestrator.bundling.collecting import Evidence
from node.roles.orchestrator.coordinator.commands import (
    AssignUnit,
    BanWorker,
    BuildGroup,
    CollectClaims,
    Command,
    ForgetUnit,
    InviteWorker,
    RecordSettled,
    RecordVerdict,
    VerifyUnit,
)
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import (
    BeaconDrawn,
    ChainSettled,
    ClaimsFailed,
    Event,
    GroupBroken,
    OperatorSubmitted,
    PeerDeclined,
    PeerFinished,
    PeerGone,
    PeerVerdict,
    Tick,
    UnitRefused,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.jobs.beacons import Beacons
from node.roles.orchestrator.jobs.cutting import JobCutter, unit_to_body
from node.roles.orchestrator.requests import PeerRequests
from node.roles.orchestrator.restore import job_body, restore
from node.roles.orchestrator.workers.builder import Build, Builder
from node.roles.orchestrator.workers.invites import Inviter
from node.roles.orchestrator.workers.watch import WorkerWatch
from node.settlement.follower import SettlementFollower
from node.wire.protocol import ASSIGN, FORGET, Assign, Forget, StageRef
from node.wire.rpc import call
from p2p.errors import P2PError, RemoteRefused
from pipeline.engine.control.messages import Sampling, SequenceSpec

TICK_SECONDS = 0.5
RATE_SECONDS = 10.0


class Orchestrator:
    """Runs a pool. `cutter` makes units of prompts, `builder` and `evidence` do their parts."""

    def __init__(
        self,
        context: NodeContext,
        coordinator: Coordinator,
        cutter: JobCutter,
        builder: Builder,
        inviter: Inviter,
        follower: SettlementFollower,
    ) -> None:
        self._context = context
        self._follower = follower
        self._coordinator = coordinator
        self.pool = coordinator.pool
        self._cutter = cutter
        self.builder = builder
        self._inviter = inviter
        self.evidence = Evidence(context, self.pool, cutter.model_id, builder.pool_id)
        self._beacons = Beacons(context, follower.confirmations)
        self.watch = WorkerWatch(context, self.pool, self.feed)
        self.requests = PeerRequests(context, self.pool, cutter, inviter, self.watch, self.feed)
        self._nursery: trio.Nursery | None = None
        self._builds: dict[bytes, trio.CancelScope] = {}
        self.changed = trio.Event()
        self.jobs: dict[str, tuple[bytes, ...]] = {}
        self._rate = deque([(context.now(), 0)], maxlen=int(RATE_SECONDS / TICK_SECONDS))
        self._counted: dict[bytes, UnitState] = {}
        self._leaving = False
        self._final = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the journal is replayed and handlers are in place."""
        restored = await restore(self._context, self._cutter, self.pool)
        self.jobs |= restored.jobs
        self.requests.rejections += restored.rejections
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.requests.serve()
            nursery.start_soon(self.watch.records)
            nursery.start_soon(self.watch.judges)
            nursery.start_soon(self.watch.pings)
            nursery.start_soon(self.watch.disconnects)
            for job_id in self.jobs:
                self._draw_if_needed(job_id)
            task_status.started()
            while True:
                await self.feed(Tick(), *self._newly_final())
                self._meter()
                await trio.sleep(TICK_SECONDS)

    @property
    def model_id(self) -> bytes:
        return self._cutter.model_id

    @property
    def model_name(self) -> str:
        return self._cutter.model_name

    @property
    def tokens_per_second(self) -> float:
        """New tokens a second over the last `RATE_SECONDS`."""
        (first, before), (last, now) = self._rate[0], self._rate[-1]
        return (now - before) / (last - first) if last > first else 0.0

    @property
    def tokens(self) -> int:
        """Output tokens of all units as they stand."""
        return sum(len(s.output_ids) for u in self.pool.units.values() for s in u.sequences)

    @property
    def rejections(self) -> list[dict[str, Any]]:
        return self.requests.rejections

    def units_of(self, job_id: str) -> list[Unit]:
        """A job's units, in the order of its prompts."""
        return [self.pool.units[unit_id] for unit_id in self.jobs[job_id]]

    async def drain(self) -> None:
        """Wait for the verdicts on what validators already have; the rest is in the journal."""
        self._leaving = True
        while any(u.state is UnitState.VERIFYING for u in self.pool.units.values()):
            await self.changed.wait()

    async def feed(self, *events: Event) -> None:
        """Let the coordinator decide about events of one moment and carry out what follows."""
        before = {group.group_id: group.state for group in self.pool.groups.values()}
        obstacle = self.pool.unplannable
        commands = self._coordinator.handle_all(events, self._context.now())
        if self.pool.unplannable not in ("", obstacle):
            self._context.log.warning("no group can be planned", reason=self.pool.unplannable)
        self._log(events, before)
        for command in commands:
            if isinstance(command, RecordVerdict | RecordSettled | BanWorker):
                await self._record(command)
            elif self._nursery is not None and not self._leaving:
                self._nursery.start_soon(self._carry_out, command)
        if not all(isinstance(event, Tick) for event in events):
            self.changed.set()
            self.changed = trio.Event()

    async def submit(self, prompts: tuple[Prompt, ...], key: str) -> str:
        """Accept a job: on disk before the answer. The same key is the same job."""
        units = await trio.to_thread.run_sync(self._cutter.cut, key, prompts)
        job_id = units[0].job_id
        body = job_body(self._cutter, prompts, key)
        if await self._context.journal.append("operator.job", job_id, body):
            self.jobs[job_id] = tuple(unit.unit_id for unit in units)
            await self.feed(OperatorSubmitted(units))
            self._draw_if_needed(job_id)
        return job_id

    def _draw_if_needed(self, job_id: str) -> None:
        """Have the beacon of a journaled job drawn, where a unit waits for one."""
        waiting = any(unit.awaiting_beacon for unit in self.units_of(job_id))
        if waiting and self._nursery is not None and not self._leaving:
            self._nursery.start_soon(self._draw, job_id)

    async def _draw(self, job_id: str) -> None:
        beacon = await self._beacons.draw(job_id)
        self._context.log.info("noise drawn", job=job_id, block=beacon.block)
        await self.feed(BeaconDrawn(job_id, beacon.value, beacon.block))

    def _newly_final(self) -> list[Event]:
        """Epochs that became final since the last look. Time alone makes them so."""
        history = self._follower.history(self.builder.pool_id)
        found: list[Event] = []
        while (entry := history.get(self._final + 1)) is not None:
            if entry.epoch is None or not self._follower.is_final(history, entry):
                break
            units = tuple(dict.fromkeys(job for job, _ in entry.epoch.work))
            found.append(ChainSettled(entry.number, entry.transaction, units))
            self._final = entry.number
        return found

    # --- commands -----------------------------------------------------------------------------

    async def _carry_out(self, command: Command) -> None:
        match command:
            case InviteWorker():
                await self.feed(await self._inviter.invite(command.peer_id))
            case BuildGroup():
                await self._build(command)
            case AssignUnit():
                await self._assign(command)
            case CollectClaims():
                epoch = max(self._follower.history(self.builder.pool_id).last, 1)
                for event in await self.evidence.collect(command, epoch):
                    await self.feed(event)
            case VerifyUnit():
                await self.evidence.verify(command)
            case ForgetUnit():
                await self._forget(command)

    async def _build(self, command: BuildGroup) -> None:
        older = self._builds.get(command.group_id)
        if older is not None:
            older.cancel()
        await self._context.journal.set_state("generation", self.pool.generation)
        build = Build(command.group_id, command.generation, command.plan)
        with trio.CancelScope() as scope:
            self._builds[command.group_id] = scope
            event = await self.builder.build(build, self.pool.members)
        if not scope.cancelled_caught:
            await self.feed(event)

    async def _assign(self, command: AssignUnit) -> None:
        unit = self.pool.units[command.unit_id]
        group = self.pool.groups[command.group_id]
        if group.generation != command.generation:
            return
        order = Assign(
            ref=StageRef(group_id=group.group_id, generation=group.generation, stage=0),
            sequences=tuple(
                SequenceSpec(
                    sequence_id=s.sequence_id,
                    unit_id=unit.unit_id,
                    prompt_ids=s.prompt_ids,
                    generated=s.output_ids,
                    sampling=Sampling(
                        temperature=s.temperature,
                        top_k=s.top_k,
                        top_p=s.top_p,
                        noise_key=s.noise_key,
                    ),
                    max_tokens=s.max_tokens,
                    stop=s.stop,
                    eos_ids=s.eos_ids,
                )
                for s in unit.sequences
            ),
        )
        try:
            await call(self._context, group.peers[0], ASSIGN, order)
        except P2PError as exc:
            if isinstance(exc, RemoteRefused) and exc.code == "bad_request":
                await self.feed(UnitRefused(unit.unit_id, command.generation, str(exc)))
                return
            reason = f"stage 0 took no work: {exc}"
            await self.watch.probe(group.peers[0])
            await self.feed(GroupBroken(group.group_id, group.generation, reason))

    async def _forget(self, command: ForgetUnit) -> None:
        unit = self.pool.units[command.unit_id]
        group = next((g for g in self.pool.groups.values() if g.plan_at(command.generation)), None)
        if group is None or group.generation != command.generation:
            return
        ids = tuple(s.sequence_id for s in unit.sequences)
        for stage, peer_id in enumerate(group.peers):
            ref = StageRef(group_id=group.group_id, generation=command.generation, stage=stage)
            try:
                await call(self._context, peer_id, FORGET, Forget(ref=ref, sequence_ids=ids))
            except P2PError as exc:
                self._context.log.debug("forget not delivered", peer=peer_id, reason=str(exc))

    # --- journal ------------------------------------------------------------------------------

    async def _record(self, command: RecordVerdict | RecordSettled | BanWorker) -> None:
        journal = self._context.journal
        match command:
            case RecordVerdict():
                unit = self.pool.units[command.unit_id]
                key = f"{unit.unit_id.hex()}:{unit.attempt}:{unit.state}"
                await journal.append("peer.verdict", key, unit_to_body(unit))
            case RecordSettled():
                unit = self.pool.units[command.unit_id]
                body = {"epoch": unit.epoch, "transaction": unit.transaction}
                await journal.append("chain.settled", unit.unit_id.hex(), body)
            case BanWorker():
                body = {"reason": command.reason}
                await journal.append("self.ban", command.peer_id, body)
                if self._nursery is not None and not self._leaving:
                    self._nursery.start_soon(self._inviter.eject, command.peer_id)

    def _meter(self) -> None:
        """Bring the metrics up to what the tables say."""
        metrics = self._context.metrics
        self._rate.append((self._context.now(), self.tokens))
        metrics.set_groups(Counter(group.state.value for group in self.pool.groups.values()))
        for unit_id, unit in self.pool.units.items():
            if self._counted.get(unit_id) != unit.state:
                self._counted[unit_id] = unit.state
                metrics.unit(unit.state.value)

    # --- log ----------------------------------------------------------------------------------

    def _log(self, events: tuple[Event, ...], before: dict[bytes, GroupState]) -> None:
        """One line for every change that an operator would want to see."""
        log = self._context.log
        for group in self.pool.groups.values():
            if before.get(group.group_id) != group.state:
                log.info(
                    "group",
                    group=group.group_id.hex()[:12],
                    state=group.state.value,
                    generation=group.generation,
                    reason=group.reason,
                )
        for event in events:
            match event:
                case PeerFinished():
                    self._context.metrics.prompts.inc()
                    self._context.metrics.tokens.inc(len(event.ids))
                case PeerVerdict(accepted=False):
                    log.warning(
                        "unit rejected",
                        unit=event.unit_id.hex()[:12],
                        reason=event.reason,
                        faulty=event.faulty,
                    )
                case ClaimsFailed():
                    log.warning(
                        "unit not proven",
                        unit=event.unit_id.hex()[:12],
                        reason=event.reason,
                        suspects=event.suspects,
                    )
                case PeerGone():
                    log.warning("worker is gone", peer=event.peer_id, reason=event.reason)
                case PeerDeclined():
                    log.warning("invite failed", peer=event.peer_id, reason=event.reason)
