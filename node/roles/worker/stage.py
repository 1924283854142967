"""A worker's stage: what its engine holds, its place in the ring, and its orders.

The orchestrator loads a slice (`load`), then has every stage of the ring connect (`ring`). For that
a stage asks its downstream neighbour, over the authenticated control stream, where its engine
listens and with which certificate (`edge`), and gives its own; both engines then pin what they were
told. A newer generation replaces an older one; whatever names an older one is refused as stale.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from node.context import NodeContext
from node.protocol import (
    EDGE,
    Assign,
    Done,
    EdgeAnswer,
    EdgeRequest,
    LoadStage,
    StageLoaded,
    StagePeer,
    StageRef,
    Withdraw,
)
from node.roles.worker.membership import Membership
from node.rpc import call
from p2p.errors import P2PError, Refused
from pipeline.engine.client import Engine, EngineDied, EngineError
from pipeline.engine.messages import (
    Endpoint,
    EngineStatus,
    Listen,
    Listening,
    Load,
    Loaded,
    Ring,
    SequenceIds,
    Submit,
)
from pipeline.models.store import ModelError, open_model

EDGE_WAIT_SECONDS = 30.0
LOAD_SECONDS = 280.0


@dataclass
class Assignment:
    """One build of a group as this stage was told of it."""

    order: LoadStage
    listening: Listening
    upstream_known: trio.Event = field(default_factory=trio.Event)
    upstream_fingerprint: bytes | None = None

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

    def __init__(self, context: NodeContext, membership: Membership, engine: Engine) -> None:
        self._context = context
        self._membership = membership
        self.engine = engine
        self._loading = trio.Lock()
        self.assignment: Assignment | None = None

    async def on_load(self, peer_id: str, order: LoadStage) -> StageLoaded:
        self._membership.require_employer(peer_id)
        if order.ref.stage >= len(order.stages):
            raise Refused("bad_request", "stage is not in the ring")
        if order.stages[order.ref.stage].peer_id != self._context.peer_id:
            raise Refused("bad_request", "that stage is another peer's")
        async with self._loading:
            current = self.assignment
            if current is not None and current.order.ref.generation >= order.ref.generation:
                raise Refused("stale", f"generation {current.order.ref.generation} is newer")
            loaded = await self._load(order)
            listening = await self._ask("listen", Listen(host=self._data_host()), Listening)
            self.assignment = Assignment(order, listening)
        status = await self.status()
        self._context.log.info(
            "stage loaded",
            group=order.ref.group_id.hex()[:12],
            stage=order.ref.stage,
            layers=f"{self.assignment.me.first_layer}-{self.assignment.me.last_layer}",
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
        assignment = self._require(request.ref)
        upstream_stage = (assignment.order.ref.stage - 1) % len(assignment.order.stages)
        if peer_id != assignment.upstream.peer_id or request.ref.stage != upstream_stage:
            raise Refused("not_my_neighbour", "only the upstream stage may ask")
        assignment.upstream_fingerprint = request.fingerprint
        assignment.upstream_known.set()
        return EdgeAnswer(
            host=self._data_host(),
            port=assignment.listening.port,
            fingerprint=assignment.listening.fingerprint,
        )

    async def on_ring(self, peer_id: str, ref: StageRef) -> Done:
        """Connect to the neighbours; answered when both edges are up."""
        self._membership.require_employer(peer_id)
        assignment = self._require(ref)
        order = assignment.order
        ring = Ring(
            group_id=ref.group_id,
            generation=ref.generation,
            stage=ref.stage,
            stages=len(order.stages),
            micro_batches=order.micro_batches,
            max_batch_tokens=order.max_batch_tokens,
        )
        if len(order.stages) > 1:
            ring = await self._with_edges(assignment, ring)
        await self._ask("ring", ring, None, timeout=EDGE_WAIT_SECONDS)
        return Done()

    async def on_assign(self, peer_id: str, order: Assign) -> Done:
        self._membership.require_employer(peer_id)
        if self._require(order.ref).order.ref.stage != 0:
            raise Refused("bad_request", "sequences go to stage 0")
        await self._ask("submit", Submit(sequences=order.sequences), None)
        return Done()

    async def on_withdraw(self, peer_id: str, order: Withdraw) -> Done:
        self._membership.require_employer(peer_id)
        self._require(order.ref)
        await self._ask("abort", SequenceIds(sequence_ids=order.sequence_ids), None)
        return Done()

    async def status(self) -> EngineStatus:
        answer = await self.engine.request("status", timeout=10.0)
        assert isinstance(answer, EngineStatus)
        return answer

    def require(self, ref: StageRef) -> Assignment:
        """The assignment that `ref` names (whatever its stage). Raises `Refused`."""
        return self._require(ref)

    async def _with_edges(self, assignment: Assignment, ring: Ring) -> Ring:
        ref = assignment.order.ref
        request = EdgeRequest(ref=ref, fingerprint=assignment.listening.fingerprint)
        try:
            answer = await call(
                self._context.network, assignment.downstream.peer_id, EDGE, request
            )
            with trio.fail_after(EDGE_WAIT_SECONDS):
                await assignment.upstream_known.wait()
        except P2PError as exc:
            raise Refused("edge", f"stage {ref.stage} cannot reach the next: {exc}") from exc
        except trio.TooSlowError as exc:
            raise Refused("edge", f"stage {ref.stage} never heard from the one before") from exc
        return ring.model_copy(
            update={
                "upstream_fingerprint": assignment.upstream_fingerprint,
                "downstream": Endpoint(
                    host=answer.host, port=answer.port, fingerprint=answer.fingerprint
                ),
            }
        )

    async def _load(self, order: LoadStage) -> Loaded:
        me = order.stages[order.ref.stage]
        config = self._context.config
        try:
            model = open_model(config.model_store, order.model_id.hex())
        except ModelError as exc:
            raise Refused("no_model", f"{exc}; prime-node model get {order.model_name}") from exc
        load = Load(
            model_dir=str(model.path),
            model_id=order.model_id,
            first_layer=me.first_layer,
            last_layer=me.last_layer,
            device=self.device,
            kv_tokens=order.kv_tokens,
            memory_cap=config.worker.vram,
            fault=config.worker.fault,
        )
        return await self._ask("load", load, Loaded, timeout=LOAD_SECONDS)

    @property
    def device(self) -> str:
        wanted = self._context.config.worker.device
        return "cpu" if wanted == "auto" else wanted
