"""The worker role: announce the device, join a pool, serve a stage, get paid.

`run` owns everything of the role: the handlers of the orchestrator's orders, the reports back, and
the claims on chain. Its parts, one idea each: `membership` (whom to obey), `stage` (slice and
ring), `reports` (tokens and trouble), `signing` (what is owed), `rewards` (getting paid).

A worker whose orchestrator is gone for good must not hold gigabytes for it: after
`WorkerTiming.abandoned` it gives its stage up, says so once in the log and in /readyz for as long
as it lasts, and stays a member, since an orchestrator that comes back builds its groups anew.

`build_worker` is where the role is put together: whether there is a chain decides which register of
pools and which pay it gets, and is asked nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from node.config.hardware import Device, detect_device
from node.context import NodeContext
from node.roles.worker.dataplane import DataPlane, DirectOrTunnelled
from node.roles.worker.disk import WorkerDisk
from node.roles.worker.membership import Membership
from node.roles.worker.pace import Pace
from node.roles.worker.policy.hours import is_open, minutes_until_change
from node.roles.worker.policy.settings import rules_of
from node.roles.worker.pools import ChainlessPools, ChainPools, PoolRegister
from node.roles.worker.purse import GasPurse
from node.roles.worker.reports.reporting import Reporter
from node.roles.worker.rewards import Rewards, Unpaid, WorkerRewards
from node.roles.worker.shelf import ModelShelf
from node.roles.worker.signing.receipts import UNITS_REMEMBERED, Receipts
from node.roles.worker.stage import FindModel, StageHost
from node.roles.worker.timing import RewardTiming, WorkerTiming
from node.settlement.follower import SettlementFollower
from node.wire.blobs import BlobStore
from node.wire.messages.work import Ping, Pong
from node.wire.methods import ASSIGN, CLAIM, COUNTERSIGN, EDGE, FORGET, INVITE, LOAD, PING, RING
from node.wire.rpc import serve
from pipeline.engine.control.client import EngineClient, open_engine
from pipeline.engine.control.messages import Bench, EngineStatus
from pipeline.engine.control.operations import BENCH
from pipeline.engine.errors import EngineError
from pipeline.models.prepared import PreparedModel
from pipeline.models.store import list_models, open_model

if TYPE_CHECKING:
    from chain.client import ChainClient


@dataclass(frozen=True)
class WorkerOptions:
    """What a test may want otherwise: how long to wait, of how many units to remember what was
    told, where models come from, and how engines reach one another (None: by a data port or a
    tunnel)."""

    timing: WorkerTiming = field(default_factory=WorkerTiming)
    rewards: RewardTiming = field(default_factory=RewardTiming)
    units_remembered: int = UNITS_REMEMBERED
    find_model: FindModel = open_model
    list_models: Callable[[Path], list[PreparedModel]] = list_models
    data_plane: DataPlane | None = None


class Worker:
    """One worker. `device`, `models` (ids of what is in the store) and `layer_seconds` (the time
    that one token takes in one layer here, 0 where it was not measured) go into the node's record.
    `trouble` is why it cannot do its work, "" where it can.
    """

    def __init__(
        self,
        context: NodeContext,
        engine: EngineClient,
        device: Device,
        blobs: BlobStore,
        pools: PoolRegister,
        rewards: WorkerRewards,
        options: WorkerOptions,
    ) -> None:
        timing = options.timing
        self._context = context
        self._engine = engine
        self._list_models = options.list_models
        self._timing = timing
        self._blobs = blobs
        self.device = device
        self.layer_seconds = 0.0
        self._pace = Pace()
        self.tokens_per_second = 0.0
        """Through its stage, prompts' tokens included, as of the last look at the engine."""
        self.models: tuple[bytes, ...] = ()
        self.rewards = rewards
        self.trouble = ""
        self._known: tuple[EngineStatus | None, float] = None, 0.0
        self._disk = WorkerDisk(context.config)
        self.membership = Membership(
            context,
            pools,
            rewards.joined,
            timing.patience,
            rules_of(context.config.policy),
            self._disk.used,
            ModelShelf(self._stored, context.now).has,
        )
        data_plane = options.data_plane or DirectOrTunnelled(context, timing)
        self.stage = StageHost(
            context,
            self.membership,
            engine,
            device,
            data_plane,
            options.find_model,
            self._disk,
            timing,
        )
        self._receipts = Receipts(
            context, self.membership, self.stage, timing, self._worked, options.units_remembered
        )
        self._reporter = Reporter(context, self.membership, self.stage, timing)

    def _stored(self) -> list[bytes]:
        models = self._list_models(self._context.config.model_store)
        return [model.model_id for model in models]

    async def measure(self) -> None:
        """Learn which models are in the store and how fast one of their layers runs here."""
        models = await trio.to_thread.run_sync(self._list_models, self._context.config.model_store)
        self.models = tuple(model.model_id for model in models)
        policy = self._context.config.policy
        self.membership.rules = rules_of(policy, [(m.name, m.model_id) for m in models])
        if not models:
            self._context.log.warning("no model in the store", fix="prime-node model get smollm2")
            return
        request = Bench(model_dir=str(models[0].path), device=self.device.torch_name)
        try:
            measured = await self._engine.request(BENCH, request, timeout=self._timing.bench)
            self.layer_seconds = measured.layer_seconds
        except EngineError as exc:
            self._context.log.warning("speed not measured", reason=exc.message)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once every handler is in place."""
        network = self._context.network
        from_orchestrator = self.membership.require_orchestrator
        serve(network, PING, self._on_ping, from_orchestrator)
        serve(network, INVITE, self.membership.on_invite)
        serve(network, LOAD, self.stage.on_load, from_orchestrator)
        serve(network, EDGE, self.stage.on_edge, self.stage.require_upstream)
        serve(network, RING, self.stage.on_ring, from_orchestrator)
        serve(network, ASSIGN, self.stage.on_assign, from_orchestrator)
        serve(network, CLAIM, self._receipts.on_claim, from_orchestrator)
        serve(network, COUNTERSIGN, self._receipts.on_countersign, self.stage.require_upstream)
        serve(network, FORGET, self._receipts.on_forget, from_orchestrator)
        self._blobs.serve()  # without a chain nobody else does
        async with trio.open_nursery() as nursery:
            house = self._context.supervisor
            await house.start(nursery, "worker: pool", self.membership.run)
            await house.start(nursery, "worker: data plane", self.stage.run)
            house.keep(nursery, "worker: hours", self._keep_hours)
            house.keep(nursery, "worker: orchestrator", self._watch_orchestrator)
            house.keep(nursery, "worker: reports", self._reporter.run)
            house.keep(nursery, "worker: rewards", self.rewards.run)
            task_status.started()

    async def drain(self) -> None:
        """Leave the pool: tell the orchestrator, then leave on chain. Rewards stay claimable."""
        if self.membership.pool is not None and self.stage.assignment is not None:
            await self._reporter.trouble("leaving", "the worker is shutting down")
        await self.membership.leave()

    async def engine_status(self) -> EngineStatus | None:
        """What the engine says of itself; None while it is down. The metrics follow."""
        metrics = self._context.metrics
        try:
            status = await self.stage.status()
        except EngineError:
            metrics.engine_up.set(0)
            return None
        now = self._context.now()
        self.tokens_per_second = self._pace.rate(now, status.rows)
        self._pace.look(now, status.rows)
        metrics.engine_up.set(1)
        metrics.engine_rss.set(status.rss)
        return status

    async def _keep_hours(self) -> None:
        """Leave the pool when the hours end in which the operator lets this node work."""
        while hours := self.membership.rules.hours:
            minute = self.membership.minute()
            if not is_open(hours, minute) and self.membership.pool is not None:
                self._context.log.info("leaving the pool: outside this node's hours")
                await self.drain()
                await self.stage.unload()
            change = minutes_until_change(hours, minute)
            seconds = self._timing.hours if change is None else min(change * 60, self._timing.hours)
            await trio.sleep(seconds)

    async def _watch_orchestrator(self) -> None:
        """Give the stage up each time that the orchestrator falls silent for long."""
        patience, log = self._timing.abandoned, self._context.log
        while True:
            await self.membership.silence(patience)
            pool = self.membership.pool
            if pool is None:
                await self.membership.word()
                continue
            self.trouble = (
                f"the orchestrator of pool {pool.pool_id} ({pool.peer_id}) has said nothing for "
                f"{patience:.0f} s: this worker gave its stage and the memory for it up, and waits"
            )
            log.warning("abandoned by the orchestrator", reason=self.trouble)
            try:
                await self.stage.free()
                await self.membership.word()
                log.info("no longer abandoned", work=self.membership.says())
            finally:
                self.trouble = ""

    def _worked(self, units: int) -> None:
        """The engine's time is what it measured at the start for a token in a layer; where it
        could not measure, any work is as good as the least that keeps a worker."""
        patience = self._timing.patience
        seconds = units * self.layer_seconds or patience.idle
        self.membership.worked(units, seconds)

    async def _on_ping(self, peer_id: str, ping: Ping) -> Pong:
        """This node lives, whatever its engine does: one that starts or hangs holds no answer up.
        One that is late is believed for a while to be as it was."""
        self.membership.require_orchestrator(peer_id)
        self.membership.unpaid = ping.unpaid
        with trio.move_on_after(self._timing.pong) as late:
            self._known = await self.engine_status(), self._context.now()
        status, known_at = self._known
        waited = self._context.now() - known_at
        if late.cancelled_caught and status is not None:
            other = status.pid != self._engine.pid
            status = None if other or waited >= self._timing.believed else status
        assignment = self.stage.assignment
        return Pong(
            engine_up=status is not None,
            generation=0 if assignment is None else assignment.order.ref.generation,
            running=0 if status is None else status.running,
            rss=0 if status is None else status.rss,
            busy=await self.stage.busy(),
        )


def build_worker(
    context: NodeContext,
    chain: ChainClient | None,
    engine: EngineClient,
    device: Device,
    settled: SettlementFollower,
    options: WorkerOptions | None = None,
) -> Worker:
    """A worker whose pools and pay are on chain, or one that takes every invite and is not paid."""
    options = options or WorkerOptions()
    pools: PoolRegister = ChainlessPools()
    rewards: WorkerRewards = Unpaid()
    if chain is not None:
        purse = GasPurse(context, chain)
        pools = ChainPools(context, chain, purse)
        rewards = Rewards(context, chain, settled, purse, timing=options.rewards)
    return Worker(context, engine, device, settled.blobs, pools, rewards, options)


def worker_device(context: NodeContext) -> Device:
    """The device that the settings name, and how much of its memory may be used: what the worker's
    section says, and never more than the operator's policy."""
    section, most = context.config.worker, context.config.policy.memory
    found = detect_device(section.device, section.vram)
    return replace(found, memory_bytes=min(found.memory_bytes, most)) if most else found


def open_worker_engine(context: NodeContext) -> AbstractAsyncContextManager[EngineClient]:
    """The worker's engine process, with the thread count the operator chose."""
    threads = context.config.worker.threads
    environment = {"PRIME_ENGINE_THREADS": str(threads)} if threads else {}
    return open_engine(context.engine_dir, "worker", environment=environment)
