"""The worker role: announce the device, join a pool, serve a stage, get paid.

`run` owns everything of the role: the engine process, the handlers of the orchestrator's orders,
the reports back, and the claims on chain. Its parts, one idea each: `membership` (whom to obey),
`stage` (slice and ring), `reporting` (tokens and trouble), `receipts` (what is owed), `rewards`
(getting paid).
"""

from __future__ import annotations

import trio

from node.config.hardware import Device, detect_device
from node.context import NodeContext
from node.roles.worker.membership import Membership
from node.roles.worker.receipts import Receipts
from node.roles.worker.reporting import Reporter
from node.roles.worker.rewards import Rewards
from node.roles.worker.stage import StageHost
from node.settlement.follower import SettlementFollower
from node.wire.messages.work import Ping, Pong
from node.wire.methods import ASSIGN, CLAIM, COUNTERSIGN, EDGE, FORGET, INVITE, LOAD, PING, RING
from node.wire.rpc import serve
from pipeline.engine.control.client import EngineClient, open_engine
from pipeline.engine.control.messages import Bench, EngineStatus
from pipeline.engine.control.operations import BENCH
from pipeline.engine.errors import EngineError
from pipeline.models.store import list_models

BENCH_SECONDS = 120.0


class Worker:
    """One worker. `device` and `layer_seconds` go into the node's record."""

    def __init__(
        self,
        context: NodeContext,
        engine: EngineClient,
        device: Device,
        follower: SettlementFollower,
    ) -> None:
        self._context = context
        self._engine = engine
        self.device = device
        self.layer_seconds = 0.0
        self.models: tuple[bytes, ...] = ()
        self._blobs = follower.blobs
        self.rewards = Rewards(context, follower)
        self.membership = Membership(context, self.rewards.joined)
        self.stage = StageHost(context, self.membership, engine, device)
        self._receipts = Receipts(context, self.membership, self.stage)
        self._reporter = Reporter(context, self.membership, self.stage)

    async def measure(self) -> None:
        """Learn which models are in the store and how fast one of their layers runs here."""
        models = await trio.to_thread.run_sync(list_models, self._context.config.model_store)
        self.models = tuple(model.model_id for model in models)
        if not models:
            self._context.log.warning("no model in the store", fix="prime-node model get smollm2")
            return
        request = Bench(model_dir=str(models[0].path), device=self.device.torch_name)
        try:
            measured = await self._engine.request(BENCH, request, timeout=BENCH_SECONDS)
            self.layer_seconds = measured.layer_seconds
        except EngineError as exc:
            self._context.log.warning("speed not measured", reason=exc.message)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once every handler is in place."""
        network = self._context.network
        employer = self.membership.require_employer
        serve(network, PING, self._on_ping, employer)
        serve(network, INVITE, self.membership.on_invite)
        serve(network, LOAD, self.stage.on_load, employer)
        serve(network, EDGE, self.stage.on_edge, self.stage.require_upstream)
        serve(network, RING, self.stage.on_ring, employer)
        serve(network, ASSIGN, self.stage.on_assign, employer)
        serve(network, CLAIM, self._receipts.on_claim, employer)
        serve(network, COUNTERSIGN, self._receipts.on_countersign, self.stage.require_upstream)
        serve(network, FORGET, self._receipts.on_forget, employer)
        self._blobs.serve()  # without a chain nobody else does
        async with trio.open_nursery() as nursery:
            await nursery.start(self.stage.run)
            nursery.start_soon(self._reporter.run)
            nursery.start_soon(self.rewards.run)
            task_status.started()

    async def drain(self) -> None:
        """Leave the pool: tell the orchestrator, then leave on chain. Rewards stay claimable."""
        employer, assignment = self.membership.employer, self.stage.assignment
        if employer is None:
            return
        if assignment is not None:
            await self._reporter.trouble("leaving", "the worker is shutting down")
        self.membership.leave()
        chain = self._context.chain
        if chain is None:
            return
        from chain.errors import ChainError

        try:
            await chain.pools.leave(employer.pool_id)
        except ChainError as exc:
            self._context.log.warning("not left on chain", reason=str(exc))

    async def engine_status(self) -> EngineStatus | None:
        metrics = self._context.metrics
        try:
            status = await self.stage.status()
        except EngineError:
            metrics.engine_up.set(0)
            return None
        metrics.engine_up.set(1)
        metrics.engine_rss.set(status.rss)
        return status

    async def _on_ping(self, peer_id: str, ping: Ping) -> Pong:
        self.membership.require_employer(peer_id)
        status = await self.engine_status()
        assignment = self.stage.assignment
        return Pong(
            engine_up=status is not None,
            generation=0 if assignment is None else assignment.order.ref.generation,
            running=0 if status is None else status.running,
            rss=0 if status is None else status.rss,
        )


def worker_device(context: NodeContext) -> Device:
    section = context.config.worker
    return detect_device(section.device, section.vram)


def open_worker_engine(context: NodeContext):  # type: ignore[no-untyped-def]
    """The worker's engine process, with the thread count the operator chose."""
    threads = context.config.worker.threads
    environment = {"PRIME_ENGINE_THREADS": str(threads)} if threads else {}
    return open_engine(context.engine_dir, "worker", environment=environment)
