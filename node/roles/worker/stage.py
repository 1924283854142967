"""A worker's stage: what its engine holds, its place in the ring, and its orders.

The orchestrator loads a slice (`load`), then has every stage of the ring connect (`ring`). For that
a stage asks its downstream neighbour, over the authenticated control stream, where its engine
listens and with which certificate (`edge`), and gives its own; both engines then pin what they were
told. A newer generation replaces an older one; whatever names an older one is refused as stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from node.config.hardware import Device
from node.context import NodeContext
from node.roles.worker.membership import Membership
from node.roles.worker.orders import check_order
from node.roles.worker.tunnel import Tunnels, reachable
from node.wire.blobs import rows_folder
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
    Endpoint,
    EngineStatus,
    JoinRing,
    Listen,
    Listening,
    Load,
    Loaded,
    Submit,
)
from pipeline.engine.control.operations import JOIN_RING, LISTEN, LOAD, STATUS, SUBMIT
from pipeline.engine.errors import EngineError
from pipeline.models.errors import ModelError
from pipeline.models.store import open_model

EDGE_WAIT_SECONDS = 30.0
LOAD_SECONDS = 280.0


@contextmanager
def engine_refusals() -> Iterator[None]:
    """Turn the engine's errors into refusals of the request that caused them."""
    try:
        yield
    except EngineError as exc:
        raise Refused(exc.code, exc.message) from exc


@dataclass
class Assignment:
    """One build of a group as this stage was told of it."""

    order: LoadStage
    listening: Listening
    upstream_known: trio.Event = field(default_factory=trio.Event)
    upstream_certificate: bytes | None = None

    @property
    def me(self) -> StagePeer:
        return self.order.stages[self.order.ref.stage]

    @property
    def upstream(self) -> StagePeer:
        return self.order.stages[self.order.ref.stage - 1]

    @property
    def downstream(self) -> StagePeer:
        return self.order.stages[(self.order.ref.stage + 1) % len(self.order.stages)]


class StageHost:
    """Carries out the orders about this worker's stage."""

    def __init__(
        self, context: NodeContext, membership: Membership, engine: EngineClient, device: Device
    ) -> None:
        self._context = context
        self._device = device
        self._membership = membership
        self.engine = engine
        self._loading = trio.Lock()
        self._tunnels = Tunnels(context, self._tunnel_end)
        self._nursery: trio.Nursery | None = None
        self._generations: dict[str, int] = {}
        self.assignment: Assignment | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tunnels' tasks until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._tunnels.serve()
            task_status.started()
            await trio.sleep_forever()

    async def on_load(self, peer_id: str, order: LoadStage) -> StageLoaded:
        employer = self._membership.require_employer(peer_id)
        check_order(order, employer, self._context.peer_id)
        async with self._loading:
            newest = self._generations.get(peer_id, -1)
            if newest >= order.ref.generation:
                raise Refused("stale", f"generation {newest} is newer")
            self._generations = {peer_id: order.ref.generation}
            self.assignment = None  # whatever comes of it, the engine drops the older slice
            loaded = await self._load(order)
            with engine_refusals():
                listening = await self.engine.request(
                    LISTEN, Listen(host=self._listen_host()), timeout=20.0
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
        self._membership.require_employer(peer_id)
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
        if len(order.stages) > 1:
            ring = await self._with_edges(assignment, ring)
        with engine_refusals():
            await self.engine.request(JOIN_RING, ring, timeout=EDGE_WAIT_SECONDS)
        return Done()

    async def on_assign(self, peer_id: str, order: Assign) -> Done:
        self._membership.require_employer(peer_id)
        if self.require(order.ref).order.ref.stage != 0:
            raise Refused("bad_request", "sequences go to stage 0")
        with engine_refusals():
            await self.engine.request(SUBMIT, Submit(sequences=order.sequences), timeout=20.0)
        return Done()

    async def status(self) -> EngineStatus:
        return await self.engine.request(STATUS, Empty(), timeout=20.0)

    def require(self, ref: StageRef) -> Assignment:
        """The assignment that `ref` names (whatever its stage). Raises `Refused`."""
        assignment = self.assignment
        if assignment is None or (
            assignment.order.ref.group_id != ref.group_id
            or assignment.order.ref.generation != ref.generation
        ):
            raise Refused("stale", "I hold no stage of that build of the group")
        return assignment

    def require_upstream(self, peer_id: str) -> None:
        """Raise `Refused` unless `peer_id` is the stage before this one."""
        assignment = self.assignment
        if assignment is None:
            raise Refused("stale", "I hold no stage")
        if assignment.upstream.peer_id != peer_id:
            raise Refused("not_my_neighbour", "only the upstream stage may ask")

    def engine_died(self, held: Assignment | None) -> None:
        """A fresh engine does not hold what the dead one did: orders and pings shall say so."""
        if self.assignment is held:
            self.assignment = None

    async def _with_edges(self, assignment: Assignment, ring: JoinRing) -> JoinRing:
        ref = assignment.order.ref
        request = EdgeRequest(ref=ref, certificate=assignment.listening.certificate)
        try:
            answer = await call(self._context, assignment.downstream.peer_id, EDGE, request)
            with trio.fail_after(EDGE_WAIT_SECONDS):
                await assignment.upstream_known.wait()
        except P2PError as exc:
            raise Refused("edge", f"stage {ref.stage} cannot reach the next: {exc}") from exc
        except trio.TooSlowError as exc:
            raise Refused("edge", f"stage {ref.stage} never heard from the one before") from exc
        return ring.model_copy(
            update={
                "upstream_certificate": assignment.upstream_certificate,
                "downstream": await self._endpoint(assignment, answer),
            }
        )

    async def _endpoint(self, assignment: Assignment, answer: EdgeAnswer) -> Endpoint:
        """Where our engine dials the next one: its data port, or our end of a tunnel to it."""
        tunnelled = self._context.config.worker.data_plane == "tunnel"
        if not tunnelled and await reachable(answer.host, answer.port):
            return Endpoint(host=answer.host, port=answer.port, fingerprint=answer.fingerprint)
        if self._nursery is None:
            raise Refused("closing", "this worker is leaving")
        path = await self._nursery.start(self._tunnels.open, assignment.downstream.peer_id)
        return Endpoint(unix_path=path, fingerprint=answer.fingerprint)

    def _tunnel_end(self, peer_id: str) -> str | None:
        assignment = self.assignment
        if assignment is None or assignment.upstream.peer_id != peer_id:
            return None
        return assignment.listening.unix_path

    async def _load(self, order: LoadStage) -> Loaded:
        me = order.stages[order.ref.stage]
        config = self._context.config
        try:
            model = await trio.to_thread.run_sync(
                open_model, config.model_store, order.model_id.hex()
            )
        except ModelError as exc:
            raise Refused("no_model", f"{exc}; prime-node model get {order.model_name}") from exc
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
            rows_bytes=config.worker.rows_keep,
        )
        with engine_refusals():
            return await self.engine.request(LOAD, load, timeout=LOAD_SECONDS)

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
