"""By how much figures exceed limits, in words: chunks of a stage, tokens of a sequence.

Everything is measured against two sets of limits. Work beyond `reject` is not paid. Beyond
`convict`, which lies far outside honest noise, its stage can be slashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proofs.evidence.sequence import BundleSequence, FinishReason
from proofs.thresholds.limits import Thresholds
from proofs.thresholds.measures import ChunkMeasure, SamplingMeasure


@dataclass(frozen=True)
class RejectConvictLimits:
    """`convict` is never tighter than a validator's own floor for the model's dtype, so a pool that
    names absurdly tight thresholds gets work rejected and nobody slashed."""

    reject: Thresholds
    convict: Thresholds

    @classmethod
    def of(cls, thresholds: Thresholds, floor: Thresholds) -> RejectConvictLimits:
        """Limits of a pool, or of a profile, and the built-in ones that a validator convicts by."""
        return cls(thresholds, thresholds.convicting().looser(floor.convicting()))


@dataclass(frozen=True)
class Fault:
    """What is beyond `reject`; `gross` where it is beyond `convict`, too."""

    reason: str
    gross: bool


def content_fault(
    chunks: Sequence[ChunkMeasure], depth: float, limits: RejectConvictLimits
) -> Fault | None:
    """How a stage's chunks of one sequence are off. `depth` as in `Thresholds.passes_sequence`.

    No chunks at all are a fault: the rows they should be of were not there.
    """
    if not chunks:
        return Fault("nothing was proven", True)
    reason = _exceeds(chunks, depth, limits.reject)
    return Fault(reason, bool(_exceeds(chunks, depth, limits.convict))) if reason else None


def token_fault(
    sequence: BundleSequence,
    sampling: SamplingMeasure | None,
    part: slice,
    limits: RejectConvictLimits,
) -> Fault | None:
    """How the tokens of one part of a sequence differ from those that it should have."""
    if sampling is None:
        return Fault("its tokens follow from nothing", True)
    reason = _unlikely(sequence, sampling, part, limits.reject)
    gross = bool(reason) and bool(_unlikely(sequence, sampling, part, limits.convict))
    return Fault(reason, gross) if reason else None


def _exceeds(chunks: Sequence[ChunkMeasure], depth: float, thresholds: Thresholds) -> str:
    for number, chunk in enumerate(chunks):
        if chunk.malformed:
            return f"chunk {number}: {chunk.malformed}"
        if not thresholds.passes(chunk):
            return f"chunk {number}: {_described([chunk])}"
    return "" if thresholds.passes_sequence(chunks, depth) else _described(chunks)


def _described(chunks: Sequence[ChunkMeasure]) -> str:
    exponents = sum(chunk.exp_mismatches for chunk in chunks) / len(chunks)
    mantissas = sum(chunk.mant_err_mean for chunk in chunks) / len(chunks)
    over = f" over {len(chunks)} chunks" if len(chunks) > 1 else ""
    return f"{exponents:.4g} exponents differ and mantissas by {mantissas:.3g} on average{over}"


def _unlikely(
    sequence: BundleSequence, sampling: SamplingMeasure, part: slice, thresholds: Thresholds
) -> str:
    scores = sampling.scores[part]
    if not scores:
        return ""
    whole = len(scores) == sampling.tokens
    matches = sampling.matches if whole else sum(score == 0.0 for score in scores)
    total, worst = sampling.total(part), max(scores)
    surprise = sampling.surprise if whole else 0.0
    if not thresholds.passes_sequence_sampling(len(scores), matches, total, worst, surprise):
        return (
            f"sampling: {matches / len(scores):.1%} of tokens match, mean score"
            f" {total / len(scores):.4f}, largest {worst:.3g}, surprise {surprise:.2f}"
        )
    ends = part.stop is None and sequence.reason == FinishReason.EOS
    if ends and not scores[-1] <= thresholds.eos_score:
        return "ends with an end-of-sequence token that was not sampled"
    return ""
