"""From honest measurements to limits that hold a false-positive rate.

A sequence is judged by several tests at once, so limits are set for all of them together:

1. Honest sequences are split in two by their order, every second one. On the first half each limit
   becomes the largest value seen times a margin, at least a floor of rounding; rates are
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
from proofs.sampling.token_score import SCORE_CAP, SCORE_CLIP
from proofs.thresholds.fitting import HonestSequence, fit_limits, whole_steps
from proofs.thresholds.limits import SCORE_TILT, Thresholds
from proofs.thresholds.measures import SequenceMeasure
from proofs.thresholds.profiles import (
    CONFIDENCE,
    MeasuringSide,
    Profile,
    QuantileTable,
    distance,
    limits_of,
)

LADDER = 1.05
MAX_STEPS = 200


class CalibrationError(ProofError):
    """Honest measurements that no limits can be set by; the message says why."""


@dataclass(frozen=True)
class Calibration:
    """Limits, the false-positive rate that the sample supports, and the factor of step 2."""

    thresholds: Thresholds
    supported_fpr: float
    factor: float


def calibrate(
    sequences: Sequence[HonestSequence], fpr: float, depths: Sequence[float] = ()
) -> Calibration:
    """Limits for a false-positive rate of `fpr` a sequence.

    `depths[s]` is the layer after which stage s ends over the model's layers; without, stages have
    the same limits. Raises CalibrationError for fewer than two sequences, a rate outside (0, 1),
    depths that are not one a stage, or measurements that are not honest (malformed proofs,
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
    base = fit_limits(first, fpr, depths, max(0.0, math.log10(supported / fpr)))
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
    sampling = measure.sampling
    if not thresholds.passes_sequence_sampling(
        sampling.tokens,
        sampling.matches,
        sampling.total(),
        max(sampling.scores, default=0.0),
    ):
        found.append("sampling")
    if not abs(sampling.surprise) <= thresholds.surprise:
        found.append("surprise")
    if not rows_error <= thresholds.rows_error:
        found.append("rows")
    return tuple(found)


def make_profile(
    sequences: Sequence[HonestSequence],
    fpr: float,
    *,
    model_id: bytes,
    model_name: str,
    prover: MeasuringSide,
    verifier: MeasuringSide,
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
        distance=QuantileTable.of([max(map(distance, measure.stages)) for measure in measures]),
        score=QuantileTable.of([_mean_score(measure) for measure in measures]),
    )


def scaled(thresholds: Thresholds, factor: float) -> Thresholds:
    """All limits and rates, `factor` times as wide; tail probabilities stay."""
    return replace(
        thresholds,
        exp_mismatches=math.ceil(thresholds.exp_mismatches * factor),
        sign_mismatches=math.ceil(thresholds.sign_mismatches * factor),
        mant_err_mean=thresholds.mant_err_mean * factor,
        mant_err_median=whole_steps(thresholds.mant_err_median * factor),
        score_mean=thresholds.score_mean * factor,
        match_rate=max(0.0, 1.0 - (1.0 - thresholds.match_rate) * factor),
        eos_score=min(SCORE_CAP, thresholds.eos_score * factor),
        sequence_exp=thresholds.sequence_exp * factor,
        sequence_mant=thresholds.sequence_mant * factor,
        mismatch_rate=min(1.0, thresholds.mismatch_rate * factor),
        score_rate=min(SCORE_CLIP, thresholds.score_rate * factor),
        score_growth=min(SCORE_TILT * SCORE_CLIP, thresholds.score_growth * factor),
        score_max=min(SCORE_CAP, thresholds.score_max * factor),
        surprise=thresholds.surprise * factor,
        rows_error=thresholds.rows_error * factor,
        sequence_mant_at=tuple((at, limit * factor) for at, limit in thresholds.sequence_mant_at),
    )


def _whole(measure: SequenceMeasure) -> list[float]:
    return [1.0] * len(measure.stages)


def _mean_score(measure: SequenceMeasure) -> float:
    return measure.sampling.total() / max(1, measure.sampling.tokens)
