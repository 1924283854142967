"""Calibrated limits pass new honest work at the rate that is claimed, and fail other work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proofs.thresholds.builtin import PUBLISHED
from proofs.thresholds.calibration import CalibrationError, calibrate, faults, make_profile, scaled
from proofs.thresholds.fitting import (
    FLOORS,
    MARGIN,
    MAX_MARGIN,
    HonestSequence,
    largest_with_margin,
    rate_bound,
)
from proofs.thresholds.measures import ChunkMeasure, SamplingMeasure, SequenceMeasure
from proofs.thresholds.profiles import MeasuringSide, Profile
from proofs.thresholds.tails import binomial_tail

STAGES, CHUNKS, TOKENS = 3, 4, 128
SIDE = MeasuringSide(dtype="bfloat16", device="cpu", settings="")


def sequence(generator: np.random.Generator, noise: float = 1.0) -> HonestSequence:
    """A sequence with noise like bf16's; its level varies from one to the next."""
    level = noise * float(generator.gamma(20, 1 / 20))
    stages = []
    for _ in range(STAGES):
        means = level * generator.gamma(30, 1 / 30, CHUNKS)
        counts = generator.poisson(2 * level, CHUNKS)
        stages.append(
            tuple(
                ChunkMeasure(
                    exp_mismatches=int(count),
                    mant_err_mean=float(mean),
                    mant_err_median=float(round(mean)),
                    sign_mismatches=int(generator.binomial(count, 0.5)),
                )
                for mean, count in zip(means, counts, strict=True)
            )
        )
    scores = np.zeros(TOKENS)
    off = int(generator.binomial(TOKENS, min(1.0, 0.02 * level)))
    scores[:off] = generator.uniform(0, 0.1 * level, off).clip(0, 0.5)
    measure = SequenceMeasure(
        sequence_id=bytes(16),
        stages=tuple(stages),
        sampling=SamplingMeasure(
            tokens=TOKENS,
            matches=TOKENS - off,
            scores=tuple(scores.tolist()),
            surprise=float(generator.normal()),
        ),
    )
    return HonestSequence(measure, float(1e-3 * level))


def sample(seed: int, count: int, noise: float = 1.0) -> list[HonestSequence]:
    generator = np.random.default_rng(seed)
    return [sequence(generator, noise) for _ in range(count)]


def test_new_honest_sequences_fail_no_more_often_than_is_supported() -> None:
    """Over many calibrations on few sequences, where limits are tightest."""
    generator = np.random.default_rng(3)
    excess = 0
    for seed in range(60):
        found = calibrate(sample(seed, 60), 0.1)
        assert found.supported_fpr == pytest.approx(1 - 0.05 ** (1 / 30))
        fresh = [sequence(generator) for _ in range(60)]
        failed = sum(bool(faults(one.measure, found.thresholds, one.rows_error)) for one in fresh)
        excess += failed / 60 > found.supported_fpr + 0.05
    assert excess <= 6  # 5 % of 60 are expected at most, less the slack


def test_far_more_noise_is_told_from_honest() -> None:
    thresholds = calibrate(sample(1, 400), 1e-2).thresholds
    caught = [faults(one.measure, thresholds) for one in sample(2, 100, noise=3.5)]
    assert sum(map(bool, caught)) >= 95
    assert sum(map(bool, (faults(one.measure, thresholds) for one in sample(3, 400)))) <= 8


def test_calibration_sequences_of_the_second_half_pass() -> None:
    honest = sample(4, 101)
    thresholds = calibrate(honest, 1e-3).thresholds
    assert not any(faults(one.measure, thresholds, one.rows_error) for one in honest[1::2])


def test_a_second_half_that_is_noisier_widens_all_limits_together() -> None:
    quiet, loud = sample(5, 50), sample(6, 50, noise=2.0)
    mixed = [one for pair in zip(quiet, loud, strict=True) for one in pair]
    assert calibrate(mixed, 1e-2).factor > 1.2
    assert calibrate(quiet, 1e-2).factor < 1.2


def test_limits_go_on_as_the_tail_does() -> None:
    steep = [1.0 + 0.001 * i for i in range(100)]
    heavy = [1.0] * 89 + [2.0] + [4.0] * 10
    assert largest_with_margin(steep, 0.0) == steep[-1]
    assert largest_with_margin(steep, 1.0) == pytest.approx(steep[-1] ** 2 / steep[89])
    assert largest_with_margin(heavy, 0.5) == pytest.approx(4.0 * 2.0**0.5)
    assert largest_with_margin(heavy, 9.0) == 4.0 * MAX_MARGIN
    assert largest_with_margin([1.0, 2.0], 2.0) == 2.0 * (1 + 2 * MARGIN)
    assert largest_with_margin([0.0] * 99 + [1.0], 1.0) == 1.0 + MARGIN
    limits = [calibrate(sample(13, 400), rate).thresholds for rate in (1e-3, 1e-4)]
    assert limits[0].sequence_mant < limits[1].sequence_mant


def test_noise_free_work_gets_the_floors() -> None:
    silent = SequenceMeasure(
        sequence_id=bytes(16),
        stages=((ChunkMeasure(),) * CHUNKS,) * STAGES,
        sampling=SamplingMeasure(tokens=TOKENS, matches=TOKENS, scores=(0.0,) * TOKENS),
    )
    found = calibrate([HonestSequence(silent)] * 2000, 1e-3)
    for name in ("exp_mismatches", "mant_err_mean", "sequence_mant", "score_max", "rows_error"):
        assert getattr(found.thresholds, name) == getattr(FLOORS, name)
    assert found.thresholds.mant_err_median == 0.0
    assert found.thresholds.mismatch_rate < 1e-4 + 1e-9
    assert found.supported_fpr == pytest.approx(3 / 1000, rel=0.01)


@pytest.mark.parametrize(
    ("change", "test"),
    [
        ({"malformed": "null proof"}, "chunk"),
        ({"sign_mismatches": 128}, "chunk"),
        ({"mant_err_mean": 9.9}, "chunk"),
    ],
)
def test_faults_are_named(change: dict[str, object], test: str) -> None:
    honest = sample(7, 40)
    thresholds = calibrate(honest, 1e-2).thresholds
    measure = honest[1].measure
    bad = measure.stages[1][2].model_copy(update=change)
    stages = (measure.stages[0], (*measure.stages[1][:2], bad), measure.stages[2])
    assert faults(measure.model_copy(update={"stages": stages}), thresholds) == (test,)


def test_each_other_test_is_named_too() -> None:
    honest = sample(8, 40)
    thresholds = calibrate(honest, 1e-2).thresholds
    measure, sampling = honest[1].measure, honest[1].measure.sampling
    surprised = sampling.model_copy(update={"surprise": -9.0})
    assert faults(measure.model_copy(update={"sampling": surprised}), thresholds) == ("surprise",)
    wrong = sampling.model_copy(update={"matches": TOKENS // 2})
    assert faults(measure.model_copy(update={"sampling": wrong}), thresholds) == ("sampling",)
    assert (
        faults(measure, thresholds, 1.0) == faults(measure, thresholds, float("nan")) == ("rows",)
    )
    tight = replace(thresholds, sequence_mant=1e-9)
    assert faults(measure, tight) == ("sequence",)


@pytest.mark.parametrize(("count", "trials"), [(0, 1000), (3, 1000), (40, 500), (7, 7)])
def test_the_rate_bound_is_clopper_pearson(count: int, trials: int) -> None:
    bound = rate_bound(count, trials)
    assert bound >= count / trials
    if count < trials:
        assert binomial_tail(trials, count + 1, bound) == pytest.approx(0.95)
    if count == 0:
        assert bound == pytest.approx(3 / trials, rel=0.01)


def test_wider_limits_pass_whatever_tighter_ones_do() -> None:
    honest = sample(9, 60)
    base = calibrate(honest[:20], 0.2).thresholds
    for one in honest:
        for narrow, wide in ((1.0, 1.3), (0.5, 0.9)):
            if not faults(one.measure, scaled(base, narrow), one.rows_error):
                assert not faults(one.measure, scaled(base, wide), one.rows_error)
    assert scaled(PUBLISHED, 1.0) == PUBLISHED


@pytest.mark.parametrize("fpr", [0.0, 1.0, float("nan"), -1.0])
def test_impossible_rates_are_refused(fpr: float) -> None:
    with pytest.raises(CalibrationError):
        calibrate(sample(1, 4), fpr)


def test_too_few_or_dishonest_measurements_are_refused() -> None:
    with pytest.raises(CalibrationError, match="at least 2"):
        calibrate(sample(1, 1), 0.1)
    good = sample(1, 3)
    stages = ((ChunkMeasure(exp_mismatches=128, mant_err_mean=-1.0),),)
    bad = replace(good[0], measure=good[0].measure.model_copy(update={"stages": stages}))
    with pytest.raises(CalibrationError, match="no honest stage"):
        calibrate([*good, bad], 0.1)


def test_stages_of_different_noise_get_limits_of_their_own() -> None:
    depths = [1 / 3, 2 / 3, 1.0]

    def quieter(honest: HonestSequence, factor: float) -> HonestSequence:
        """Stage 0 with a fraction of the noise."""
        first = tuple(
            chunk.model_copy(update={"mant_err_mean": chunk.mant_err_mean * factor})
            for chunk in honest.measure.stages[0]
        )
        stages = (first, *honest.measure.stages[1:])
        return replace(honest, measure=honest.measure.model_copy(update={"stages": stages}))

    thresholds = calibrate([quieter(one, 0.1) for one in sample(11, 80)], 1e-2, depths).thresholds
    limits = [thresholds.mantissa_limit(depth) for depth in depths]
    assert limits[0] < 0.3 * limits[2]
    assert limits[2] <= thresholds.sequence_mant
    other = [quieter(one, 0.6).measure for one in sample(12, 20)]
    named = [faults(one, thresholds, depths=depths) for one in other]
    assert sum("sequence" in tests for tests in named) >= 18
    assert sum("sequence" in faults(one, thresholds) for one in other) <= 2
    with pytest.raises(CalibrationError, match="depth"):
        calibrate(sample(1, 4), 0.1, depths[:2])
    assert scaled(thresholds, 2.0).mantissa_limit(1 / 3) == pytest.approx(2 * limits[0])


def test_a_profile_says_what_backs_it() -> None:
    honest = sample(10, 50)
    made = make_profile(
        honest, 1e-3, model_id=bytes(32), model_name="m", prover=SIDE, verifier=SIDE, prompts=25
    )
    assert (made.sequences, made.prompts, made.stages) == (50, 25, STAGES)
    assert made.chunks == 50 * STAGES * CHUNKS
    assert made.tokens == 50 * TOKENS
    assert made.thresholds == calibrate(honest, 1e-3).thresholds
    assert not made.is_supported
    assert made.p_value(100.0) == 1 / 51
    assert Profile.from_toml(made.to_toml()) == made
