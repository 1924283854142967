"""A worker's stage: what its engine holds, its place in the ring, and its orders.

The orchestrator loads a slice (`load`), then has every stage of the ring connect (`ring`). For that
a stage asks its downstream neighbour, over the authenticated control stream, where its engine
listens and with which certificate (`edge`), and gives its own; both engines then pin what they were
told. A newer generation replaces an older one; whatever names an older one is refused as stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from node.config.hardware import Device
from node.context import NodeContext
from node.roles.worker.dataplane import DataPlane
from node.roles.worker.disk import WorkerDisk
from node.roles.worker.generations import MOST_SAID, Generations
from node.roles.worker.membership import Membership
from node.roles.worker.orders import check_order
from node.roles.worker.timing import WorkerTiming
from node.storage.names import rows_folder
from node.wire.messages.fields import Done, StageRef
from node.wire.messages.work import (
    Assign,
    EdgeAnswer,
    EdgeRequest,
    LoadStage,
    StageLoaded,
    StagePeer,
)
from node.wire.methods import EDGE
from node.wire.rpc import call
from p2p.errors import P2PError, Refused
from pipeline.engine.control.client import EngineClient
from pipeline.engine.control.messages import (
    Empty,
    EngineStatus,
    JoinRing,
    Listen,
    Listening,
    Load,
    Loaded,
    Submit,
)
from pipeline.engine.control.operations import JOIN_RING, LISTEN, LOAD, STATUS, SUBMIT, UNLOAD
from pipeline.engine.errors import EngineError
from pipeline.models.errors import ModelError
from pipeline.models.prepared import PreparedModel

FindModel = Callable[[Path, str], PreparedModel]
"""`open_model`: a prepared model of a store, by its id in hex. Raises `ModelError`."""


@contextmanager
def engine_refusals() -> Iterator[None]:
    """Turn the engine's errors into refusals of the request that caused them."""
    try:
        yield
    except EngineError as exc:
        raise Refused(exc.code, exc.message) from exc


@dataclass
class Assignment:
    """One generation of a group as this stage was told of it: the order, where our engine listens,
    and the upstream stage's certificate once that asked for ours."""

    order: LoadStage
    listening: Listening
    upstream_known: trio.Event = field(default_factory=trio.Event)
    upstream_certificate: bytes | None = None

    @property
    def me(self) -> StagePeer:
        """This stage."""
        return self.order.stages[self.order.ref.stage]

    @property
    def upstream(self) -> StagePeer:
        """The stage before this one; of stage 0, the last."""
        return self.order.stages[self.order.ref.stage - 1]

    @property
    def downstream(self) -> StagePeer:
        """The stage after this one; of the last one, stage 0."""
        return self.order.stages[(self.order.ref.stage + 1) % len(self.order.stages)]


class StageHost:
    """Carries out the orders about this worker's stage. `disk` is where received rows are."""

    def __init__(
        self,
        context: NodeContext,
        membership: Membership,
        engine: EngineClient,
        device: Device,
        data_plane: DataPlane,
        find_model: FindModel,
        disk: WorkerDisk,
        timing: WorkerTiming,
        most_said: int = MOST_SAID,
    ) -> None:
        self._context = context
        self._device = device
        self._membership = membership
        self._data_plane = data_plane
        self._find_model = find_model
        self._disk = disk
        self._timing = timing
        self.engine = engine
        self._loading = trio.Lock()
        self.generations = Generations(context.journal, most_said)
        self.assignment: Assignment | None = None
        self._rows_under_way = 0

    async def busy(self) -> str:
        """Why this stage should get no new work, or ""."""
        return "" if self.assignment is None else await self._disk.full(self._rows_under_way)

    async def release(self, sequence_ids: Collection[bytes]) -> None:
        """The rows of these sequences may go."""
        await self._disk.release(sequence_ids)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the data plane until cancelled."""
        await self._data_plane.run(self._listener_for, task_status=task_status)

    async def on_load(self, peer_id: str, order: LoadStage) -> StageLoaded:
        """Load the layers that the order names, in place of what was loaded before."""
        pool = self._membership.require_orchestrator(peer_id)
        check_order(order, pool, self._context.peer_id)
        async with self._loading:
            await self.generations.require_newer(pool.pool_id, order.ref.generation)
            self.assignment = None  # whatever comes of it, the engine drops the older slice
            await self.generations.begin(pool.pool_id, order.ref.generation)
            loaded = await self._load(order)
            with engine_refusals():
                listening = await self.engine.request(
                    LISTEN, Listen(host=self._listen_host()), timeout=self._timing.engine
                )
            self.assignment = assignment = Assignment(order, listening)
        with engine_refusals():
            status = await self.status()
        self._context.log.info(
            "stage loaded",
            group=order.ref.group_id.hex()[:12],
            stage=order.ref.stage,
            layers=f"{assignment.me.first_layer}-{assignment.me.last_layer}",
            seconds=round(loaded.seconds, 2),
        )
        return StageLoaded(
            weights_bytes=loaded.weights_bytes,
            kv_bytes=loaded.kv_bytes,
            seconds=loaded.seconds,
            rss=status.rss,
        )

    async def on_edge(self, peer_id: str, request: EdgeRequest) -> EdgeAnswer:
        """The upstream neighbour's certificate; answered with ours."""
        assignment = self.require(request.ref)
        upstream_stage = (assignment.order.ref.stage - 1) % len(assignment.order.stages)
        if peer_id != assignment.upstream.peer_id or request.ref.stage != upstream_stage:
            raise Refused("not_my_neighbour", "only the upstream stage may ask")
        assignment.upstream_certificate = request.certificate
        assignment.upstream_known.set()
        return EdgeAnswer(
            host=self._data_host(),
            port=assignment.listening.port,
            fingerprint=assignment.listening.fingerprint,
        )

    async def on_ring(self, peer_id: str, ref: StageRef) -> Done:
        """Connect to the neighbours; answered when both edges are up."""
        self._membership.require_orchestrator(peer_id)
        assignment = self.require(ref)
        order = assignment.order
        ring = JoinRing(
            group_id=ref.group_id,
            generation=ref.generation,
            stage=ref.stage,
            stages=len(order.stages),
            boundaries=tuple(stage.last_layer for stage in order.stages),
            micro_batches=order.micro_batches,
            max_batch_tokens=order.max_batch_tokens,
        )
        if len(order.stages) == 1:
            await self._join(ring)
            return Done()
        answer = await self._neighbours(assignment)
        async with self._data_plane.ways(assignment.downstream.peer_id, answer) as ways:
            edges = {
                "upstream_certificate": assignment.upstream_certificate,
                "downstream": ways,
            }
            await self._join(ring.model_copy(update=edges))
        return Done()

    async def on_assign(self, peer_id: str, order: Assign) -> Done:
        """Give sequences to the engine to generate."""
        self._membership.require_orchestrator(peer_id)
        if self.require(order.ref).order.ref.stage != 0:
            raise Refused("bad_request", "sequences go to stage 0")
        with engine_refusals():
            await self.engine.request(
                SUBMIT, Submit(sequences=order.sequences), timeout=self._timing.engine
            )
        return Done()

    async def status(self) -> EngineStatus:
        """The engine's. Raises `EngineError`."""
        return await self.engine.request(STATUS, Empty(), timeout=self._timing.engine)

    def require(self, ref: StageRef) -> Assignment:
        """The assignment that `ref` names (whatever its stage). Raises `Refused`."""
        assignment = self.assignment
        if assignment is None or (
            assignment.order.ref.group_id != ref.group_id
            or assignment.order.ref.generation != ref.generation
        ):
            raise Refused("stale", "I hold no stage of that generation of the group")
        return assignment

    def require_upstream(self, peer_id: str) -> None:
        """Raise `Refused` unless `peer_id` is the stage before this one."""
        assignment = self.assignment
        if assignment is None:
            raise Refused("stale", "I hold no stage")
        if assignment.upstream.peer_id != peer_id:
            raise Refused("not_my_neighbour", "only the upstream stage may ask")

    async def unload(self) -> None:
        """Give the engine's memory back; a dead engine holds none."""
        async with self._loading:
            self.assignment = None
            with suppress(EngineError):
                await self.engine.request(UNLOAD, Empty(), timeout=self._timing.engine)

    async def free(self) -> None:
        """Give the stage up and have a fresh engine process, which holds no memory."""
        async with self._loading:
            self.assignment = None
            await self.engine.renew()

    def engine_died(self, held: Assignment | None) -> None:
        """A fresh engine does not hold what the dead one did: orders and pings must say so."""
        if self.assignment is held:
            self.assignment = None

    async def _join(self, ring: JoinRing) -> None:
        with engine_refusals():
            await self.engine.request(JOIN_RING, ring, timeout=self._timing.edge)

    async def _neighbours(self, assignment: Assignment) -> EdgeAnswer:
        """Where the downstream engine listens, once the upstream stage has asked about ours."""
        ref = assignment.order.ref
        request = EdgeRequest(ref=ref, certificate=assignment.listening.certificate)
        try:
            answer = await call(self._context, assignment.downstream.peer_id, EDGE, request)
            with trio.fail_after(self._timing.edge):
                await assignment.upstream_known.wait()
        except P2PError as exc:
            reason = f"stage {ref.stage} cannot reach the next: {exc}"
            raise Refused("downstream", reason) from exc
        except trio.TooSlowError as exc:
            reason = f"stage {ref.stage} never heard from the one before"
            raise Refused("upstream", reason) from exc
        return answer

    def _listener_for(self, peer_id: str) -> str | None:
        assignment = self.assignment
        if assignment is None or assignment.upstream.peer_id != peer_id:
            return None
        return assignment.listening.unix_path

    async def _load(self, order: LoadStage) -> Loaded:
        me = order.stages[order.ref.stage]
        config = self._context.config
        try:
            model = await trio.to_thread.run_sync(
                self._find_model, config.model_store, order.model_id.hex()
            )
        except ModelError as exc:
            raise Refused("no_model", f"{exc}; prime-node model get {order.model_name}") from exc
        rows = order.kv_tokens * model.manifest.row_bytes if me.first_layer else 0
        room = await self._disk.rows()
        if 2 * rows > room:
            raise Refused(
                "no_room",
                f"a stage of this pool may get {rows} bytes of hidden states at a time, twice that"
                f" must fit, and I have room for {room} (retention.rows, policy.disk)",
            )
        self._rows_under_way = rows
        load = Load(
            model_dir=str(model.path),
            model_id=order.model_id,
            first_layer=me.first_layer,
            last_layer=me.last_layer,
            device=self._device.torch_name,
            kv_tokens=order.kv_tokens,
            memory_cap=self._device.memory_bytes,
            fault=config.worker.fault,
            rows_dir=str(rows_folder(config.data_dir)),
            rows_bytes=room,
            rows_age=config.retention.unjudged,
        )
        with engine_refusals():
            return await self.engine.request(LOAD, load, timeout=self._timing.load)

    def _listen_host(self) -> str:
        parts = self._context.config.listen[0].split("/") if self._context.config.listen else []
        return parts[2] if len(parts) > 2 else "0.0.0.0"

    def _data_host(self) -> str:
        """The address that other stages dial: the external one, else the one listened on."""
        config = self._context.config
        for address in (*config.external, *self._context.network.addresses):
            parts = address.split("/")
            if len(parts) > 2 and parts[2] not in ("0.0.0.0", "::"):
                return parts[2]
        return "127.0.0.1"
