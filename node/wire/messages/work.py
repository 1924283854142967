"""Bodies about the work itself: liveness, invites, loading a ring, sequences and their tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import FailFast, Field

from node.wire.messages.fields import MAX_RUNS, U64, Address, Body, PeerId, Short, StageRef
from pipeline.engine.control.messages import Certificate, SequenceSpec
from proofs.encoding.fields import Digest, Id16, TokenIds
from proofs.evidence.sequence import FinishReason


class Ping(Body):
    """Are you there? `unpaid` is what the worker did (layers times tokens) of units that other
    rings finished, and that pay it nothing, since the orchestrator started."""

    unpaid: U64 = 0


class Pong(Body):
    """A worker's load: `generation` is that of its stage (0 without one), `running` the sequences
    in its engine, `rss` the engine's resident memory in bytes. Both are 0 while it is down. `busy`
    says why its ring should get no new units for now, "" where it may."""

    engine_up: bool
    generation: U64
    running: U64
    rss: U64
    busy: Annotated[str, Field(max_length=500)] = ""


class Invite(Body):
    """An orchestrator's invitation to its pool. `deadline` in Unix seconds; `signature` is the
    inviter's, over the digest that the pool's contract checks, and empty without a chain."""

    pool_id: U64
    model_id: Digest
    model_name: Short
    deadline: U64
    signature: Annotated[bytes, Field(max_length=65)]


class Joined(Body):
    """The addresses of the node that joined and of the provider it works for."""

    address: Address
    provider: Address


class StagePeer(Body):
    """A stage of a ring: who holds it, and its layers [first_layer, last_layer)."""

    peer_id: PeerId
    address: Address
    first_layer: Annotated[int, Field(ge=0, lt=65536)]
    last_layer: Annotated[int, Field(ge=1, lt=65536)]


class LoadStage(Body):
    """An order to load the layers of stage `ref.stage`.

    `stages` is the whole ring, so that a stage knows its neighbours and their addresses. Memory is
    reserved for `kv_tokens` KV positions over all sequences; a micro-batch has at most
    `max_batch_tokens` tokens. Stage 0 keeps `micro_batches` in flight, 0 as many as it finds best.
    """

    ref: StageRef
    pool_id: U64
    model_id: Digest
    model_name: Short
    stages: Annotated[tuple[StagePeer, ...], FailFast(), Field(min_length=1, max_length=256)]
    kv_tokens: Annotated[int, Field(ge=1, lt=2**31)]
    micro_batches: Annotated[int, Field(ge=0, le=256)]
    max_batch_tokens: Annotated[int, Field(ge=1, lt=2**20)]


class StageLoaded(Body):
    """What loading took: bytes of weights, of the KV cache and of the whole engine; seconds."""

    weights_bytes: U64
    kv_bytes: U64
    seconds: float
    rss: U64


class EdgeRequest(Body):
    """The dialling stage's certificate, pinned by the listener; the answer is pinned by it."""

    ref: StageRef
    certificate: Certificate


class EdgeAnswer(Body):
    """Where the listening stage's engine is dialled, and its certificate's SHA-256."""

    host: Short
    port: Annotated[int, Field(ge=0, lt=65536)]
    fingerprint: Digest


class Assign(Body):
    """Sequences for stage 0 to generate."""

    ref: StageRef
    sequences: Annotated[tuple[SequenceSpec, ...], FailFast(), Field(max_length=1024)]


class TokenRun(Body):
    """New tokens of a sequence; the first of them is its output's token number `offset`."""

    sequence_id: Id16
    offset: U64
    ids: TokenIds


class FinishedRun(Body):
    """A finished sequence: why it ended, and its output from token number `offset` on, which may be
    nothing where the rest was reported before."""

    sequence_id: Id16
    reason: Annotated[FinishReason, Field(strict=False)]
    offset: U64 = 0
    ids: TokenIds


class Progress(Body):
    """What stage 0 has generated since its last report, at most `MAX_REPORT` bytes. What is more
    comes in further reports, in order; only the last part of a sequence says that it ended."""

    ref: StageRef
    tokens: Annotated[tuple[TokenRun, ...], FailFast(), Field(max_length=MAX_RUNS)]
    finished: Annotated[tuple[FinishedRun, ...], FailFast(), Field(max_length=MAX_RUNS)]


class Trouble(Body):
    """Why a stage cannot go on: an edge (which one, and whether the neighbour there closed it in
    good order, for a reason that it knows), its own engine, whose process ended in a "crash", or it
    leaves. With "work" it goes on,
    without these sequences, which it cannot work on."""

    ref: StageRef
    kind: Literal["upstream", "downstream", "engine", "crash", "leaving", "work"]
    farewell: bool = False
    sequence_ids: Annotated[tuple[Id16, ...], FailFast(), Field(max_length=1024)] = ()
    reason: Short
