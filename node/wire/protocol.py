"""What nodes ask of one another over libp2p request/response.

Each `Method` names a protocol `/prime/<name>/1`, the model of its request and the model of its
answer. Bodies are MessagePack maps that validate into frozen models with bounded fields, so a
handler only ever sees checked values. All methods are idempotent: a caller that saw a timeout may
ask again.

| method | from → to | what it does |
|---|---|---|
| ping | orchestrator → worker | liveness and load |
| invite | orchestrator → worker | a signed pool invite; answered once the worker has joined |
| load | orchestrator → worker | load a slice of the model for a stage of a group |
| ring | orchestrator → worker | connect the stage to its downstream neighbour |
| edge | stage → downstream stage | exchange pinned certificates and addresses of the data plane |
| assign | orchestrator → stage 0 | sequences to generate |
| progress | stage 0 → orchestrator | new tokens and finished sequences |
| trouble | worker → orchestrator | a broken data-plane edge or a dead engine |
| claim | orchestrator → stage | evidence and a countersigned receipt of a finished unit |
| countersign | stage → downstream stage | agreement: the second signature on a receipt |
| forget | orchestrator → stage | drop evidence that is no longer needed |
| verify | orchestrator → validator | a proof bundle to check |
| verdict | validator → orchestrator | the signed verdict |
| cosign | validator → validator | an epoch to sign: the root; its data are fetched by hash |
| convict | validator → validator | a conviction to sign |
| fetch | anyone → anyone | a part of an epoch's data or of revealed rows, by content hash |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

import msgpack
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from pipeline.engine.control.messages import Certificate, SequenceSpec
from proofs.encoding.fields import Digest, Id16, Id32, TokenIds
from proofs.evidence.sequence import FinishReason

PeerId = Annotated[str, Field(min_length=10, max_length=128)]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
Signature = Annotated[bytes, Field(min_length=65, max_length=65)]
Short = Annotated[str, Field(max_length=512)]
U64 = Annotated[int, Field(ge=0, lt=2**64)]
Generation = Annotated[int, Field(ge=0, lt=2**32)]
"""Receipts carry it as a uint32."""
U256 = Annotated[str, Field(pattern=r"^[0-9]{1,78}$")]
"""Token amounts travel as decimal strings: MessagePack integers end at 64 bits."""

MAX_BUNDLE = 8 * 2**20


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Done(Body):
    """Nothing to say but that it is done."""


class StageRef(Body):
    """One build of one group's stage."""

    group_id: Id32
    generation: Generation
    stage: Annotated[int, Field(ge=0, lt=256)]


class Ping(Body):
    """`at` is the orchestrator's clock (unix seconds), for logs only."""

    at: float


class Pong(Body):
    engine_up: bool
    generation: U64
    running: U64
    rss: U64


class Invite(Body):
    pool_id: U64
    model_id: Digest
    model_name: Short
    deadline: U64
    signature: Annotated[bytes, Field(max_length=65)]


class Joined(Body):
    address: Address
    provider: Address


class StagePeer(Body):
    peer_id: PeerId
    address: Address
    first_layer: Annotated[int, Field(ge=0, lt=65536)]
    last_layer: Annotated[int, Field(ge=1, lt=65536)]


class LoadStage(Body):
    """`stages` is the whole ring, so that a stage knows its neighbours and their addresses."""

    ref: StageRef
    pool_id: U64
    model_id: Digest
    model_name: Short
    stages: Annotated[tuple[StagePeer, ...], FailFast(), Field(min_length=1, max_length=256)]
    kv_tokens: Annotated[int, Field(ge=1, lt=2**31)]
    micro_batches: Annotated[int, Field(ge=1, le=256)]
    max_batch_tokens: Annotated[int, Field(ge=1, lt=2**20)]


class StageLoaded(Body):
    weights_bytes: U64
    kv_bytes: U64
    seconds: float
    rss: U64


class EdgeRequest(Body):
    """The dialling stage's certificate, pinned by the listener; the answer is pinned by it."""

    ref: StageRef
    certificate: Certificate


class EdgeAnswer(Body):
    host: Short
    port: Annotated[int, Field(ge=0, lt=65536)]
    fingerprint: Digest


class Assign(Body):
    ref: StageRef
    sequences: Annotated[tuple[SequenceSpec, ...], FailFast(), Field(max_length=1024)]


class TokenRun(Body):
    sequence_id: Id16
    offset: U64
    ids: TokenIds


class FinishedRun(Body):
    """A sequence never finishes without a token: the end-of-sequence token is one, too."""

    sequence_id: Id16
    reason: Annotated[FinishReason, Field(strict=False)]
    ids: Annotated[TokenIds, Field(min_length=1)]


class Progress(Body):
    ref: StageRef
    tokens: Annotated[tuple[TokenRun, ...], FailFast(), Field(max_length=4096)]
    finished: Annotated[tuple[FinishedRun, ...], FailFast(), Field(max_length=4096)]


class Trouble(Body):
    ref: StageRef
    kind: Literal["edge", "engine", "leaving"]
    reason: Short


class ClaimRequest(Body):
    """Ask a stage for what it proves and is owed for a unit. `attempt` counts tries at the unit."""

    ref: StageRef
    unit_id: Id32
    attempt: Annotated[int, Field(ge=0, lt=2**32)]
    epoch: U64
    sequence_ids: Annotated[tuple[Id16, ...], FailFast(), Field(min_length=1, max_length=1024)]
    token_count: U64


class ClaimAnswer(Body):
    """`claim` is the canonical bytes of `proofs.evidence.bundle.StageClaim`."""

    claim: Annotated[bytes, Field(max_length=MAX_BUNDLE)]


class CountersignRequest(Body):
    """`claim` is the canonical bytes of the asking stage's `proofs.evidence.bundle.StageClaim`,
    complete but
    for the signature that is asked for."""

    ref: StageRef
    claim: Annotated[bytes, Field(max_length=MAX_BUNDLE)]


class Countersigned(Body):
    signature: Signature


class Forget(Body):
    ref: StageRef
    sequence_ids: Annotated[tuple[Id16, ...], FailFast(), Field(max_length=4096)]


class VerifyRequest(Body):
    bundle: Annotated[bytes, Field(max_length=MAX_BUNDLE)]


class VerdictNotice(Body):
    """`verdict` is the canonical bytes of `proofs.verdict.judge.SignedVerdict`."""

    verdict: Annotated[bytes, Field(max_length=MAX_BUNDLE)]


class CosignRequest(Body):
    """`root` is the ABI bytes of `proofs.encoding.receipts.EpochRoot`."""

    root: Annotated[bytes, Field(max_length=4096)]


class Cosigned(Body):
    """A signature of 65 bytes; or none, and the units that this validator has not accepted."""

    signature: Annotated[bytes, Field(max_length=65)]
    unknown: Annotated[tuple[Id32, ...], FailFast(), Field(max_length=16384)]


class ConvictRequest(Body):
    """`conviction` is the ABI bytes of `proofs.encoding.receipts.Conviction`."""

    conviction: Annotated[bytes, Field(max_length=4096)]


class FetchRequest(Body):
    digest: Digest
    offset: U64


class FetchedChunk(Body):
    """A part of the content from the asked offset on, and how many bytes it has in all."""

    data: Annotated[bytes, Field(max_length=4 * 2**20)]
    total: U64


Q = TypeVar("Q", bound=Body)
A = TypeVar("A", bound=Body)


@dataclass(frozen=True)
class Method(Generic[Q, A]):
    """A request/response protocol: its name, body models and limits (bytes, seconds)."""

    name: str
    request: type[Q]
    answer: type[A]
    timeout: float = 10.0
    max_request: int = 1 << 20
    max_answer: int = 1 << 20

    @property
    def protocol(self) -> str:
        return f"/prime/{self.name}/1"


PING = Method("ping", Ping, Pong, timeout=5.0, max_request=1024, max_answer=1024)
INVITE = Method("invite", Invite, Joined, timeout=120.0, max_request=4096, max_answer=4096)
LOAD = Method("load", LoadStage, StageLoaded, timeout=300.0, max_answer=4096)
RING = Method("ring", StageRef, Done, timeout=60.0, max_request=4096, max_answer=4096)
EDGE = Method("edge", EdgeRequest, EdgeAnswer, timeout=15.0, max_request=4096, max_answer=4096)
ASSIGN = Method("assign", Assign, Done, timeout=15.0, max_request=MAX_BUNDLE)
PROGRESS = Method("progress", Progress, Done, timeout=15.0, max_request=MAX_BUNDLE)
TROUBLE = Method("trouble", Trouble, Done, timeout=10.0, max_request=8192)
CLAIM = Method("claim", ClaimRequest, ClaimAnswer, timeout=60.0, max_answer=MAX_BUNDLE)
COUNTERSIGN = Method(
    "countersign",
    CountersignRequest,
    Countersigned,
    timeout=30.0,
    max_request=MAX_BUNDLE + 4096,
    max_answer=4096,
)
FORGET = Method("forget", Forget, Done, timeout=15.0)
VERIFY = Method("verify", VerifyRequest, Done, timeout=30.0, max_request=MAX_BUNDLE + 4096)
VERDICT = Method("verdict", VerdictNotice, Done, timeout=15.0, max_request=MAX_BUNDLE + 4096)
COSIGN = Method("cosign", CosignRequest, Cosigned, timeout=60.0, max_request=8192)
CONVICT = Method("convict", ConvictRequest, Countersigned, timeout=15.0, max_request=8192)
FETCH = Method("fetch", FetchRequest, FetchedChunk, timeout=20.0, max_answer=5 * 2**20)


MAX_CONTAINERS = 1 << 16
"""Maps and arrays in one body: decoded they cost a hundred times what they cost encoded."""
MAX_FIELDS = 64
MAX_ITEMS = 1 << 20


class BadBody(ValueError):
    """Bytes that are not a valid body of the method they came for."""


def encode(body: Body) -> bytes:
    return bytes(msgpack.packb(body.model_dump(mode="python"), use_bin_type=True))


B = TypeVar("B", bound=Body)


def decode(model: type[B], data: bytes) -> B:
    """Parse and validate a body. Raises `BadBody` on anything that is not one."""
    try:
        return model.model_validate(_unpack(data))
    except ValidationError as exc:
        raise BadBody(f"{model.__name__}: {_first_problem(exc)}") from exc
    except (ValueError, msgpack.UnpackException) as exc:
        raise BadBody(f"{model.__name__}: not MessagePack: {exc}") from exc


def _unpack(data: bytes) -> object:
    budget = MAX_CONTAINERS

    def count(container: object) -> object:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise ValueError(f"more than {MAX_CONTAINERS} maps and arrays")
        return container

    return msgpack.unpackb(
        data,
        use_list=False,
        strict_map_key=True,
        max_array_len=MAX_ITEMS,
        max_map_len=MAX_FIELDS,
        max_ext_len=0,
        list_hook=count,
        object_hook=count,
    )


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"[:400]
