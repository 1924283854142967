"""From honest measurements to limits that hold a false-positive rate.

A sequence is judged by several tests at once, so limits are set for all of them together:

1. Honest sequences are split in two by their order, every second one. On the first half each limit
   becomes the largest value seen times a margin, at least a floor of rounding (`FLOORS`); rates are
   upper confidence bounds; tail probabilities are the FPR asked for, shared among the tests. The
   margin is 1 where the sequences support that FPR (see 2). Where they fall short of it by d powers
   of ten, it is (largest / 90 % quantile)^(d / r), r powers of ten lying between those two: the
   logarithm of each statistic is taken to go on as it does in its last tenth. Where there is no
   such quantile (few sequences, or no noise) the margin is 1 + `MARGIN` d.
2. The limits form a family with one parameter, a common factor f >= 1. f is the smallest step of a
   fixed ladder at which the second half has no failure in any test. So f is an order statistic of
   the smallest factors at which each sequence passes, and whatever their distribution, the next
   honest sequence fails with probability at most

       supported_fpr = 1 - (1 - CONFIDENCE)^(1 / n),   about 3 / n

   at that confidence (Wilks 1941), n being the size of the second half. Nothing is assumed about
   independence of the tests. An FPR below it is an extrapolation, and the profile says so.

Ratios say nothing where calibration is nearly noise-free, as fp32 on one device is: there the
floors decide. They are a few rounding steps, far below what any cheaper arithmetic causes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from proofs.errors import ProofError
from proofs.sampling.token_score import SCORE_CLIP
from proofs.thresholds.limits import FP32, SCORE_TILT, Thresholds, binomial_tail
from proofs.thresholds.measures import SequenceMeasure
from proofs.thresholds.profiles import CONFIDENCE, Profile, QuantileTable, Side, distance, limits_of

MARGIN = 0.1
MAX_MARGIN = 2.0
MIN_REACH = 0.3  # so 20 sequences
TESTS = 4  # of a sequence by tail probability: mismatches, scores in two ways, surprise
LADDER = 1.05
MAX_STEPS = 200
UNIT_TOKENS = 64  # the shortest unit that unit-wide limits should not fail by chance

FLOORS = replace(FP32, surprise=0.0)
"""A few rounding steps, which is all that the shipped fp32 limits allow."""


class CalibrationError(ProofError):
    """Honest measurements that no limits can be set by; the message says why."""


@dataclass(frozen=True)
class Honest:
    """One honest sequence: its measure and, where rows were compared, the worst stage's error."""

    measure: SequenceMeasure
    rows_error: float = 0.0


@dataclass(frozen=True)
class Calibration:
    thresholds: Thresholds
    supported_fpr: float
    factor: float


def calibrate(sequences: Sequence[Honest], fpr: float, depths: Sequence[float] = ()) -> Calibration:
    """Limits for a false-positive rate of `fpr` a sequence.

    `depths[s]` is the layer after which stage s ends over the model's layers; without, stages have
    the same limits. Raises CalibrationError for fewer than two sequences, a rate outside (0, 1),
    depths that are not one a stage, or measurements that are no honest ones (malformed proofs,
    chunks with no exponent in common).
    """
    if not 0.0 < fpr < 1.0:
        raise CalibrationError(f"a false-positive rate of {fpr}; choose one between 0 and 1")
    if len(sequences) < 2:
        raise CalibrationError(f"{len(sequences)} honest sequences; measure at least 2")
    if depths and any(len(one.measure.stages) != len(depths) for one in sequences):
        raise CalibrationError(f"give each of the sequences' stages a depth, not {len(depths)}")
    for index, one in enumerate(sequences):
        chunks = [chunk for stage in one.measure.stages for chunk in stage]
        bad = any(chunk.malformed or not chunk.mant_err_mean >= 0.0 for chunk in chunks)
        if bad or not all(one.measure.stages) or not chunks:
            raise CalibrationError(f"sequence {index} has a proof that no honest stage makes")
    first, second = sequences[::2], sequences[1::2]
    supported = 1.0 - (1.0 - CONFIDENCE) ** (1.0 / len(second))
    base = _largest(first, fpr, depths, max(0.0, math.log10(supported / fpr)))
    for step in range(MAX_STEPS):
        factor = LADDER**step
        thresholds = scaled(base, factor)
        if not any(faults(one.measure, thresholds, one.rows_error, depths) for one in second):
            return Calibration(thresholds, supported, factor)
    raise CalibrationError("the two halves of the honest sequences have nothing in common")


def faults(
    measure: SequenceMeasure,
    thresholds: Thresholds,
    rows_error: float = 0.0,
    depths: Sequence[float] = (),
) -> tuple[str, ...]:
    """Which tests a sequence fails: chunk, sequence, sampling, surprise, rows; () if none.

    `depths` are those of the stages (see `calibrate`); without, all count as the last one.
    Two tests are named apart that `passes_sequence_sampling` makes together, and `sequence` only
    where all chunks pass.
    """
    found = []
    if not all(thresholds.passes(chunk) for stage in measure.stages for chunk in stage):
        found.append("chunk")
    elif not all(map(thresholds.passes_sequence, measure.stages, depths or _whole(measure))):
        found.append("sequence")
    s = measure.sampling
    if not thresholds.passes_sequence_sampling(
        s.tokens, s.matches, math.fsum(s.scores), max(s.scores, default=0.0)
    ):
        found.append("sampling")
    if not abs(s.surprise) <= thresholds.surprise:
        found.append("surprise")
    if not rows_error <= thresholds.rows_error:
        found.append("rows")
    return tuple(found)


def make_profile(
    sequences: Sequence[Honest],
    fpr: float,
    *,
    model_id: bytes,
    model_name: str,
    prover: Side,
    verifier: Side,
    prompts: int,
    depths: Sequence[float] = (),
) -> Profile:
    """Calibrate and write down what backs it. Raises CalibrationError."""
    found = calibrate(sequences, fpr, depths)
    measures = [one.measure for one in sequences]
    return Profile(
        model_id=model_id,
        model_name=model_name,
        prover=prover,
        verifier=verifier,
        stages=len(measures[0].stages),
        fpr=fpr,
        supported_fpr=found.supported_fpr,
        prompts=prompts,
        sequences=len(measures),
        chunks=sum(len(stage) for measure in measures for stage in measure.stages),
        tokens=sum(measure.sampling.tokens for measure in measures),
        limits=limits_of(found.thresholds),
        distance=QuantileTable.of([max(map(distance, m.stages)) for m in measures]),
        score=QuantileTable.of([_mean_score(m) for m in measures]),
    )


def scaled(thresholds: Thresholds, factor: float) -> Thresholds:
    """All limits and rates, `factor` times as wide; tail probabilities stay."""
    t = thresholds
    return replace(
        t,
        exp_mismatches=math.ceil(t.exp_mismatches * factor),
        sign_mismatches=math.ceil(t.sign_mismatches * factor),
        mant_err_mean=t.mant_err_mean * factor,
        mant_err_median=_steps(t.mant_err_median * factor),
        score_mean=t.score_mean * factor,
        match_rate=max(0.0, 1.0 - (1.0 - t.match_rate) * factor),
        eos_score=min(SCORE_CLIP, t.eos_score * factor),
        sequence_exp=t.sequence_exp * factor,
        sequence_mant=t.sequence_mant * factor,
        mismatch_rate=min(1.0, t.mismatch_rate * factor),
        score_rate=min(SCORE_CLIP, t.score_rate * factor),
        score_growth=min(SCORE_TILT * SCORE_CLIP, t.score_growth * factor),
        score_max=min(SCORE_CLIP, t.score_max * factor),
        surprise=t.surprise * factor,
        rows_error=t.rows_error * factor,
        sequence_mant_at=tuple((at, limit * factor) for at, limit in t.sequence_mant_at),
    )


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


def _largest(
    sequences: Sequence[Honest], fpr: float, depths: Sequence[float], decades: float
) -> Thresholds:
    """Every limit from the largest honest value, and rates from all tokens together."""
    measures = [one.measure for one in sequences]
    scores = sorted(score for measure in measures for score in measure.sampling.scores)
    tokens = max(1, len(scores))
    mismatches = sum(m.sampling.tokens - m.sampling.matches for m in measures)
    tail, floor, margin = fpr / TESTS, FLOORS, 1.0 + MARGIN * decades
    mismatch_rate = max(rate_bound(mismatches, tokens), floor.mismatch_rate)
    growth = math.log1p(math.fsum(math.expm1(SCORE_TILT * score) for score in scores) / tokens)
    score_rate = max(margin * math.fsum(scores) / tokens, floor.score_rate)
    rare = scores[max(0, math.ceil(tokens * (1.0 - fpr)) - 1)] if scores else 0.0
    spare = next(k for k in range(UNIT_TOKENS + 1) if _unlikely(k + 1, mismatch_rate, tail))

    def chunk_limit(name: str) -> float:
        values = [max(getattr(c, name) for s in m.stages for c in s) for m in measures]
        return max(float(getattr(floor, name)), _beyond(values, decades))

    def stage_limit(name: str, stage: int, least: float) -> float:
        return max(least, _beyond([_stage_mean(m, stage, name) for m in measures], decades))

    every = range(len(measures[0].stages))
    return Thresholds(
        exp_mismatches=math.ceil(chunk_limit("exp_mismatches")),
        sign_mismatches=math.ceil(chunk_limit("sign_mismatches")),
        mant_err_mean=chunk_limit("mant_err_mean"),
        mant_err_median=_steps(chunk_limit("mant_err_median")),
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
            SCORE_CLIP,
            max(
                floor.score_max,
                _beyond([max(m.sampling.scores, default=0.0) for m in measures], decades),
            ),
        ),
        surprise=max(
            math.sqrt(2.0 * math.log(2.0 / tail)), max(abs(m.sampling.surprise) for m in measures)
        ),
        rows_error=max(floor.rows_error, _beyond([one.rows_error for one in sequences], decades)),
        sequence_mant_at=tuple(
            (depth, stage_limit("mant_err_mean", stage, floor.sequence_mant))
            for stage, depth in enumerate(depths)
        ),
    )


def _beyond(values: Sequence[float], decades: float) -> float:
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


def _whole(measure: SequenceMeasure) -> list[float]:
    return [1.0] * len(measure.stages)


def _unlikely(count: int, rate: float, tail: float) -> bool:
    return binomial_tail(UNIT_TOKENS, count, rate) < tail


def _steps(median: float) -> float:
    """A median of whole mantissa steps, rounded up."""
    return float(math.ceil(median - 1e-9))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_score(measure: SequenceMeasure) -> float:
    return math.fsum(measure.sampling.scores) / max(1, measure.sampling.tokens)
