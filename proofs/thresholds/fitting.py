"""The tightest limits that a sample of honest sequences keeps: step 1 of a calibration.

Each limit is the largest honest value times a margin, and at least a floor of rounding; rates are
upper confidence bounds over all tokens together. `proofs.thresholds.calibration` says how large the
margin is and why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from proofs.sampling.token_score import SCORE_CAP, SCORE_CLIP
from proofs.thresholds.builtin import FP32
from proofs.thresholds.limits import SCORE_TILT, Thresholds
from proofs.thresholds.measures import SequenceMeasure
from proofs.thresholds.profiles import CONFIDENCE
from proofs.thresholds.tails import binomial_tail

MARGIN = 0.1
MAX_MARGIN = 2.0
MIN_REACH = 0.3  # so 20 sequences
TESTS = 4  # of a sequence by tail probability: mismatches, scores in two ways, surprise
UNIT_TOKENS = 64  # the shortest unit that unit-wide limits should not fail by chance

FLOORS = replace(FP32, surprise=0.0)
"""A few rounding steps, which is all that the built-in fp32 limits allow."""


@dataclass(frozen=True)
class HonestSequence:
    """One honest sequence: its measure and, where rows were compared, the worst stage's error."""

    measure: SequenceMeasure
    rows_error: float = 0.0


def rate_bound(count: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Upper Clopper-Pearson bound on a rate of which `count` of `trials` were seen."""
    if count >= trials:
        return 1.0
    low, high = count / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if binomial_tail(trials, count + 1, middle) < confidence:
            low = middle
        else:
            high = middle
    return high


def fit_limits(
    sequences: Sequence[HonestSequence], fpr: float, depths: Sequence[float], decades: float
) -> Thresholds:
    """Limits that all of `sequences` keep, for a false-positive rate of `fpr` a sequence.

    `depths` are those of the stages, as in `calibrate`. `decades` is by how many powers of ten the
    rate lies below what so few sequences support: margins grow with it.
    """
    measures = [one.measure for one in sequences]
    scores = sorted(score for measure in measures for score in measure.sampling.scores)
    tokens = max(1, len(scores))
    clipped = [min(score, SCORE_CLIP) for score in scores]
    mismatches = sum(m.sampling.tokens - m.sampling.matches for m in measures)
    tail, floor, margin = fpr / TESTS, FLOORS, 1.0 + MARGIN * decades
    mismatch_rate = max(rate_bound(mismatches, tokens), floor.mismatch_rate)
    growth = math.log1p(math.fsum(math.expm1(SCORE_TILT * score) for score in clipped) / tokens)
    score_rate = max(margin * math.fsum(clipped) / tokens, floor.score_rate)
    rare = scores[max(0, math.ceil(tokens * (1.0 - fpr)) - 1)] if scores else 0.0
    spare = next(k for k in range(UNIT_TOKENS + 1) if _unlikely(k + 1, mismatch_rate, tail))

    def chunk_limit(name: str) -> float:
        values = [max(getattr(c, name) for s in m.stages for c in s) for m in measures]
        return max(float(getattr(floor, name)), largest_with_margin(values, decades))

    def stage_limit(name: str, stage: int, least: float) -> float:
        return max(
            least, largest_with_margin([_stage_mean(m, stage, name) for m in measures], decades)
        )

    every = range(len(measures[0].stages))
    return Thresholds(
        exp_mismatches=math.ceil(chunk_limit("exp_mismatches")),
        sign_mismatches=math.ceil(chunk_limit("sign_mismatches")),
        mant_err_mean=chunk_limit("mant_err_mean"),
        mant_err_median=whole_steps(chunk_limit("mant_err_median")),
        score_mean=max(floor.score_mean, 2.0 * score_rate),
        match_rate=min(floor.match_rate, 1.0 - 2.0 * mismatch_rate),
        spare=max(floor.spare, spare),
        eos_score=max(floor.eos_score, rare),
        sequence_exp=max(stage_limit("exp_mismatches", s, floor.sequence_exp) for s in every),
        sequence_mant=max(stage_limit("mant_err_mean", s, floor.sequence_mant) for s in every),
        mismatch_rate=mismatch_rate,
        score_rate=score_rate,
        score_growth=max(margin * growth, floor.score_growth),
        tail=tail,
        score_max=min(
            SCORE_CAP,
            max(
                floor.score_max,
                largest_with_margin(
                    [max(m.sampling.scores, default=0.0) for m in measures], decades
                ),
            ),
        ),
        surprise=max(
            math.sqrt(2.0 * math.log(2.0 / tail)), max(abs(m.sampling.surprise) for m in measures)
        ),
        rows_error=max(
            floor.rows_error, largest_with_margin([one.rows_error for one in sequences], decades)
        ),
        sequence_mant_at=tuple(
            (depth, stage_limit("mant_err_mean", stage, floor.sequence_mant))
            for stage, depth in enumerate(depths)
        ),
    )


def largest_with_margin(values: Sequence[float], decades: float) -> float:
    """The largest of honest values, one a sequence, times the margin for so many powers of ten."""
    ordered = sorted(values)
    largest, high = ordered[-1], ordered[math.ceil(0.9 * len(ordered)) - 1]
    reach = math.log10(0.1 * len(ordered))
    if high <= 0.0 or reach < MIN_REACH:
        return largest * (1.0 + MARGIN * decades)
    margin: float = min((largest / high) ** (decades / reach), MAX_MARGIN)
    return largest * margin


def _stage_mean(measure: SequenceMeasure, stage: int, name: str) -> float:
    return _mean([float(getattr(chunk, name)) for chunk in measure.stages[stage]])


def _unlikely(count: int, rate: float, tail: float) -> bool:
    return binomial_tail(UNIT_TOKENS, count, rate) < tail


def whole_steps(median: float) -> float:
    """A median of whole mantissa steps, rounded up."""
    return float(math.ceil(median - 1e-9))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
