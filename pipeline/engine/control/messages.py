"""What the control process and the engine process say to one another.

They share one Unix socket. A frame is a 4-byte big-endian length and a MessagePack map, at most
`MAX_FRAME` bytes. The control process sends requests, `{"id", "op", "body"}`; the engine answers
each once, `{"id", "ok": body}` or `{"id", "error": {"code", "message"}}`, in any order, and sends
events, `{"event", "body"}`, whenever something happened.

Every body is one of the models below. They are frozen, refuse unknown fields and bound every
length, so a frame that validates is safe to act on.

Identifiers: a `group_id` is 32 bytes, a `sequence_id` 16 bytes. A `generation`
counts how often a group was (re)built; engines drop frames of any other generation.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from proofs.encoding.fields import Count, Digest, Id16, Id32, TokenIds
from proofs.evidence.sequence import FinishReason, SequenceRequest
from proofs.evidence.statement import StageEvidence

MAX_FRAME = 16 * 2**20

Certificate = Annotated[bytes, Field(min_length=64, max_length=2048)]
Text = Annotated[str, Field(max_length=4096)]


class Message(BaseModel):
    """Base of every IPC body."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Empty(Message):
    """Nothing to say."""


class SequenceSpec(Message):
    """One sequence to generate.

    `generated` are tokens that an earlier generation of the group already produced; the engine
    rebuilds their KV cache, hidden states and proofs with one prefill and goes on after them.
    The request's `max_tokens` bounds the whole output, `generated` included. Interactive sequences
    are admitted, and their prompts computed, before batch ones.
    """

    request: SequenceRequest
    generated: TokenIds = ()
    priority: Literal["interactive", "batch"] = "batch"

    @property
    def sequence_id(self) -> bytes:
        """The request's id, 16 bytes."""
        return self.request.sequence_id


# --- requests ---------------------------------------------------------------------------------


class Load(Message):
    """Load layers [first_layer, last_layer) of a prepared model folder. Replaces what is loaded.

    Stage 0 (first_layer == 0) gets the embedding, the last stage the final norm and head.
    `kv_tokens` is the number of KV positions to reserve memory for, over all sequences.
    `memory_cap` (bytes, 0 = none) makes weights + KV over the cap an `out_of_memory` error.
    `rows_dir` is a folder of this engine alone, where a later stage keeps the rows that it received
    of each finished sequence, `<hex of StageEvidence.received>.rows`, so that it can show them in a
    dispute; at most `rows_bytes` in all, the oldest go first, but none of a sequence that was not
    released and is younger than `rows_age` seconds (0: of any age). Empty: nothing is kept.
    """

    model_dir: Text
    model_id: Digest
    first_layer: Count
    last_layer: Count
    device: Text = "cpu"
    kv_tokens: Annotated[int, Field(ge=1, lt=2**31)]
    memory_cap: Count = 0
    fault: Text = ""
    rows_dir: Text = ""
    rows_bytes: Count = 1 << 30
    rows_age: Annotated[float, Field(ge=0.0)] = 0.0


class Loaded(Message):
    """Answer to `load`: memory taken (bytes) and the seconds that it took."""

    weights_bytes: Count
    kv_bytes: Count
    seconds: float


class Listen(Message):
    """Open the data-plane listener (idempotent)."""

    host: Text
    port: Annotated[int, Field(ge=0, lt=65536)] = 0


class Listening(Message):
    """`certificate` is DER, `fingerprint` its sha256. `unix_path`: same service, for tunnels."""

    port: int
    certificate: Certificate
    fingerprint: Digest
    unix_path: Text


class Endpoint(Message):
    """Where the downstream engine listens; `unix_path` non-empty means a tunnel's local end."""

    host: Text = ""
    port: Annotated[int, Field(ge=0, lt=65536)] = 0
    unix_path: Text = ""
    fingerprint: Digest


class JoinRing(Message):
    """Join a ring: accept the upstream stage (the holder of its certificate), dial the downstream.

    With `stages` == 1 there are no edges. `downstream` are the ways to the one listener, the best
    first. Answered when both edges are up. `micro_batches` is how many batches stage 0 keeps in
    flight, 0 as many as its measurements say. `boundaries[s]` is the layer after which stage s
    ends.
    """

    group_id: Id32
    generation: Count
    stage: Annotated[int, Field(ge=0, lt=256)]
    stages: Annotated[int, Field(ge=1, le=256)]
    boundaries: Annotated[
        tuple[Annotated[int, Field(ge=1, lt=65536)], ...],
        FailFast(),
        Field(min_length=1, max_length=256),
    ]
    upstream_certificate: Certificate | None = None
    downstream: Annotated[tuple[Endpoint, ...], Field(max_length=4)] = ()
    micro_batches: Annotated[int, Field(ge=0, le=256)] = 0
    max_batch_tokens: Annotated[int, Field(ge=1, lt=2**20)] = 1024


class Submit(Message):
    """Stage 0 only: queue sequences. Already known sequence ids are ignored (idempotent)."""

    sequences: Annotated[tuple[SequenceSpec, ...], FailFast(), Field(max_length=4096)]


class SequenceIds(Message):
    """Body of `abort` (stage 0: stop generating) and `forget` (any stage: drop evidence).

    `forget` leaves the kept rows alone: nobody may make a stage lose what exonerates it.
    """

    sequence_ids: Annotated[tuple[Id16, ...], FailFast(), Field(max_length=65536)]


class Evidence(Message):
    """One statement for each sequence that was asked for, in that order."""

    items: Annotated[tuple[StageEvidence, ...], FailFast(), Field(max_length=4096)]


class Bench(Message):
    """Measure one decoder layer's decode step at `batch` sequences on this device."""

    model_dir: Text
    device: Text = "cpu"
    batch: Annotated[int, Field(ge=1, le=1024)] = 8


class Benched(Message):
    """Median seconds of one layer's decode step."""

    layer_seconds: float


class EngineStatus(Message):
    """A snapshot of the engine.

    `rss` is the process's resident memory in bytes, `running` the number of sequences in the ring
    (stage 0), `kv_tokens_used` the KV positions reserved, `compute_seconds` the time spent in steps
    since the engine's start, `rows` the tokens that went through them, `threads` how many compute.
    Stage 0 keeps `micro_batches` in flight; `promised` tokens a second were predicted and `came`,
    when last nobody came or went meanwhile.
    """

    pid: int
    rss: Count
    kv_tokens_used: Count = 0
    running: Count = 0
    compute_seconds: float = 0.0
    rows: Count = 0
    threads: int = 1
    micro_batches: Count = 0
    promised: float = 0.0
    came: float = 0.0


# --- events -----------------------------------------------------------------------------------


class Tokens(Message):
    """Stage 0: new tokens of a sequence, starting at output index `offset`."""

    generation: Count
    sequence_id: Id16
    offset: Count
    ids: TokenIds


class Finished(Message):
    """Stage 0: the sequence is complete; `ids` are all its output tokens."""

    generation: Count
    sequence_id: Id16
    reason: Annotated[FinishReason, Field(strict=False)]
    ids: TokenIds


class Failed(Message):
    """This stage cannot work on these sequences: their hidden states are not finite, or the ring's
    KV cache is too small for them. The ring goes on; what still comes of them is nothing."""

    generation: Count
    sequence_ids: Annotated[tuple[Id16, ...], FailFast(), Field(min_length=1, max_length=1024)]
    reason: Text


class EdgeDown(Message):
    """A neighbour's data-plane edge broke; the ring is stopped until the next `ring` request.
    `farewell`: the neighbour closed it in good order, so what is wrong is elsewhere."""

    group_id: Id32
    generation: Count
    edge: Literal["upstream", "downstream"]
    farewell: bool = False
    reason: Text
