"""A sequence on its way: what is asked for, and what was made of it.

A `SequenceRequest` is written once, by whoever cuts a job into units, and goes unchanged through
the orchestrator, the engines, the bundle and the validator's replay. Each of them wraps it in a
record of its own: the orchestrator adds how far the sequence has got, a ring the tokens that it has
already, a bundle (`BundleSequence`) the output and where its noise comes from, a replay the stages'
proofs.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Self

from pydantic import FailFast, Field, model_validator

from proofs.encoding.canonical import CanonicalModel
from proofs.encoding.fields import Count, Id16, TokenIds
from proofs.sampling.noise import NoiseError, noise_key
from proofs.sampling.settings import SamplingSettings

ROWS_PER_PROOF = 32


class FinishReason(StrEnum):
    """Why a sequence ended: an end-of-sequence token, `max_tokens`, or a stop string."""

    EOS = "eos"
    LENGTH = "length"
    STOP = "stop"


class SequenceRequest(CanonicalModel):
    """One sequence as asked for.

    It ends with a token of `eos_ids`, after `max_tokens` output tokens, or once its text holds one
    of the `stop` strings, whichever comes first.
    """

    sequence_id: Id16
    prompt_ids: Annotated[TokenIds, Field(min_length=1)]
    sampling: SamplingSettings = SamplingSettings()
    max_tokens: Annotated[int, Field(ge=1, lt=2**20)]
    stop: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
        FailFast(),
        Field(max_length=16),
    ] = ()
    eos_ids: TokenIds = ()


def ending_fault(
    request: SequenceRequest,
    output: tuple[int, ...],
    reason: FinishReason | None,
    *,
    before: int = 0,
) -> str:
    """How an output breaks the rules of its request, or ""; `reason` is None where it goes on, and
    `before` counts the tokens before these.

    Whoever takes a report and whoever judges a bundle ask this. Stop strings need text, and are not
    looked at here.
    """
    eos, count = set(request.eos_ids), before + len(output)
    first = next((i for i, token in enumerate(output, before) if token in eos), None)
    if count > request.max_tokens:
        return f"{count} tokens where at most {request.max_tokens} were asked for"
    if first is not None and first < count - 1:
        return f"output goes on after the end-of-sequence token at {first}"
    if reason is None:
        return ""
    if first is not None and reason != FinishReason.EOS:
        return f"ends with an end-of-sequence token but says {reason.value!r}"
    if first is None and reason == FinishReason.EOS:
        return "says 'eos' but does not end with an end-of-sequence token"
    if reason == FinishReason.LENGTH and count < request.max_tokens:
        return f"says 'length' after {count} of {request.max_tokens} tokens"
    if reason == FinishReason.STOP and not request.stop:
        return "says 'stop' but no stop string was asked for"
    return ""


class NoiseSource(CanonicalModel):
    """What a sequence's noise key follows from (`proofs.sampling.noise.noise_key`).

    `beacon` is the hash of block `block` of the chain; where `block` is 0, a seed of the
    submitter's, who then could have tried several.
    """

    beacon: Annotated[bytes, Field(max_length=64)]
    block: Count = 0
    request_id: Annotated[bytes, Field(max_length=64)] = b""
    sample_index: Count = 0

    def key(self, prompt_ids: tuple[int, ...]) -> int:
        """The noise key of a sequence with this prompt. Raises NoiseError."""
        return noise_key(self.beacon, self.request_id, prompt_ids, self.sample_index)


Segments = Annotated[tuple[tuple[Count, Count], ...], FailFast(), Field(max_length=1024)]
"""(output index, generation) pairs: from that index on, that generation of the group made the
tokens. Where several start at one index the last one counts."""


def sampled_from(segments: tuple[tuple[int, int], ...], generation: int, outputs: int) -> int:
    """The index of the first of `outputs` tokens that `generation` of the group made; `outputs`
    where it made none of them, 0 where there are no segments."""
    if not segments:
        return 0
    start, made = segments[-1]
    return start if made == generation else outputs


class BundleSequence(CanonicalModel):
    """One sequence as asked for and as generated, finished."""

    request: SequenceRequest
    output_ids: Annotated[TokenIds, Field(min_length=1)]
    noise: NoiseSource | None = None
    reason: Annotated[FinishReason, Field(strict=False)]
    segments: Segments = ()

    @model_validator(mode="after")
    def _segments_advance(self) -> Self:
        starts = [start for start, _ in self.segments]
        if starts and (starts[0] != 0 or starts[-1] >= len(self.output_ids)):
            raise ValueError("segments must start at 0 and lie inside the output")
        if any(later < earlier for earlier, later in pairwise(starts)):
            raise ValueError("segments must be in the order of their output indices")
        return self

    @property
    def sequence_id(self) -> bytes:
        """The request's id, 16 bytes."""
        return self.request.sequence_id

    @property
    def token_count(self) -> int:
        """Prompt and output tokens."""
        return len(self.request.prompt_ids) + len(self.output_ids)

    @property
    def chunks(self) -> int:
        """How many proofs each stage owes for this sequence."""
        return -(-len(self.output_ids) // ROWS_PER_PROOF)

    def sampled_from(self, generation: int) -> int:
        """The index of the first output token that this generation of the group made."""
        return sampled_from(self.segments, generation, len(self.output_ids))

    def noise_fault(self) -> str:
        """How the noise key breaks the rule that it follows from `noise`, or ""."""
        sampling = self.request.sampling
        if sampling.temperature == 0.0:
            return ""  # greedy: no noise is drawn
        if self.noise is None:
            return "sampled with a noise key of unknown origin"
        try:
            key = self.noise.key(self.request.prompt_ids)
        except NoiseError as exc:
            return f"its noise key follows from nothing: {exc}"
        return "" if key == sampling.noise_key else "its noise key is not that of its beacon"
