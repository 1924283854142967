"""What stage 0's scheduler is told, and what it wants reported."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.engine.control.messages import SequenceSpec
from pipeline.engine.schedule.pace import Leg
from proofs.evidence.sequence import FinishReason


@dataclass(frozen=True)
class RingUp:
    """A ring is ready.

    Attributes:
        kv_tokens: KV positions of all sequences together.
        context: most positions of one sequence.
        micro_batches: batches in flight; 0: as measurements say.
        max_batch_tokens: most rows of one batch.
        stages: how many stages report of each batch.
    """

    kv_tokens: int
    context: int
    micro_batches: int
    max_batch_tokens: int
    stages: int = 1


@dataclass(frozen=True)
class RingDown:
    """The ring broke: what was in flight is lost."""


@dataclass(frozen=True)
class Submit:
    """A new sequence. `stopped`: the text of `spec.generated` ends in a stop string already."""

    spec: SequenceSpec
    stopped: bool = False


@dataclass(frozen=True)
class Returned:
    """The oldest batch in flight came back.

    Attributes:
        tokens: `(token, stopped)` for each of its samples.
        at: when, in seconds of the clock that batches are asked for by.
        legs: what each stage reports; empty where nothing was measured.
    """

    step: int
    tokens: tuple[tuple[int, bool], ...]
    at: float = 0.0
    legs: tuple[Leg, ...] = ()


@dataclass(frozen=True)
class Abort:
    """Stop generating a sequence; nothing is kept of it."""

    sequence_id: bytes


@dataclass(frozen=True)
class Forget:
    """Drop all memory of a sequence, aborting it if need be."""

    sequence_id: bytes


Event = RingUp | RingDown | Submit | Returned | Abort | Forget


@dataclass(frozen=True)
class EmitToken:
    """Report `token`, the output token at index `offset`."""

    sequence_id: bytes
    offset: int
    token: int


@dataclass(frozen=True)
class EmitFinished:
    """Report a complete output: all its token ids, and why it ended."""

    sequence_id: bytes
    reason: FinishReason
    ids: tuple[int, ...]


@dataclass(frozen=True)
class EmitFailed:
    """Report a sequence that this ring cannot serve; it was dropped."""

    sequence_id: bytes
    reason: str


Command = EmitToken | EmitFinished | EmitFailed
