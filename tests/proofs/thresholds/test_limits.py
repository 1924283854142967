"""Limits on chunks, sequences and sampling: what they let pass, and how often they are wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.sampling.token_score import SCORE_CAP, SCORE_CLIP
from proofs.thresholds.builtin import FP32, PUBLISHED
from proofs.thresholds.limits import Thresholds
from proofs.thresholds.measures import ChunkMeasure
from proofs.thresholds.tails import binomial_tail, score_exponent

NOISY = replace(
    PUBLISHED,
    sequence_exp=4.0,
    sequence_mant=2.0,
    mismatch_rate=0.03,
    score_rate=0.002,
    score_growth=0.024,
    tail=1e-3,
)


def exact_tail(trials: int, count: int, rate: Fraction) -> float:
    return float(
        sum(
            math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k)
            for k in range(max(count, 0), trials + 1)
        )
    )


@given(st.integers(0, 60), st.integers(-2, 62), st.integers(0, 100))
def test_binomial_tail_equals_exact_arithmetic(trials: int, count: int, percent: int) -> None:
    rate = Fraction(percent, 100)
    expected = exact_tail(trials, count, rate)
    assert binomial_tail(trials, count, percent / 100) == pytest.approx(expected, rel=1e-9, abs=0)


def test_binomial_tail_of_long_outputs_is_finite_and_falls() -> None:
    tails = [binomial_tail(1 << 20, count, 0.01) for count in (10_000, 10_486, 11_000, 12_000)]
    assert tails == sorted(tails, reverse=True)
    assert 0.49 < tails[1] < 0.52
    assert 0.0 < tails[3] < 1e-40


def test_score_exponent_bounds_the_real_probability() -> None:
    """Scores that are 0 or c bound all others; their sum is a binomial count."""
    for tokens, rate in ((1, 0.01), (10, 0.05), (256, 0.002)):
        for count in range(tokens + 1):
            claimed = math.exp(-score_exponent(tokens, count * SCORE_CLIP, rate))
            real = binomial_tail(tokens, count, rate / SCORE_CLIP)
            assert real <= claimed * (1 + 1e-9)


@pytest.mark.parametrize("tokens", [1, 2, 5, 20, 256, 4000])
def test_honest_sampling_keeps_the_false_positive_rate_at_any_length(tokens: int) -> None:
    generator = np.random.default_rng(tokens)
    runs = 4000
    mismatches = generator.binomial(tokens, NOISY.mismatch_rate, runs)
    failed = 0
    for count in mismatches.tolist():
        scores = generator.uniform(0, 2 * NOISY.score_rate / NOISY.mismatch_rate, count)
        failed += not NOISY.passes_sequence_sampling(tokens, tokens - count, float(scores.sum()))
    assert failed <= 22  # 3 * 1e-3 * 4000 = 12 expected at most; 22 is 3 standard deviations above


def test_many_small_scores_fail_by_their_growth() -> None:
    sharp = replace(NOISY, mismatch_rate=1.0, score_rate=SCORE_CLIP)
    assert sharp.passes_sequence_sampling(256, 240, 1.5)
    assert not sharp.passes_sequence_sampling(256, 240, 1.8)
    assert sharp.passes_sequence_sampling(1, 0, SCORE_CLIP)


def test_one_unlucky_token_does_not_fail_a_short_output() -> None:
    assert NOISY.passes_sequence_sampling(1, 0, SCORE_CLIP, SCORE_CLIP)
    assert NOISY.passes_sequence_sampling(12, 10, 0.1, 0.05)


def test_a_cheap_share_fails_a_long_output() -> None:
    assert not NOISY.passes_sequence_sampling(256, 226, 0.0)
    assert not NOISY.passes_sequence_sampling(256, 248, 8 * SCORE_CLIP)


@pytest.mark.parametrize("field", ["score_max", "surprise"])
def test_single_figures_have_their_own_limits(field: str) -> None:
    assert FP32.passes_sequence_sampling(256, 256, 0.0, **{field: 0.009})
    assert not FP32.passes_sequence_sampling(256, 256, 0.0, **{field: 5.1})
    assert not FP32.passes_sequence_sampling(256, 256, 0.0, **{field: math.nan})


def test_surprise_is_limited_on_both_sides() -> None:
    assert not FP32.passes_sequence_sampling(256, 256, 0.0, surprise=-5.1)


def test_a_sum_that_is_no_number_fails() -> None:
    assert not NOISY.passes_sequence_sampling(256, 256, math.nan)


def test_negated_rows_fail_a_chunk() -> None:
    for thresholds in (FP32, PUBLISHED):
        assert thresholds.passes(ChunkMeasure(sign_mismatches=1))
        assert not thresholds.passes(ChunkMeasure(sign_mismatches=128))
        assert not thresholds.passes(ChunkMeasure(sign_mismatches=-1))


def test_a_small_error_in_every_chunk_fails_the_sequence_only() -> None:
    chunk = ChunkMeasure(exp_mismatches=3, mant_err_mean=2.5, mant_err_median=2.0)
    quiet = ChunkMeasure(mant_err_mean=1.0)
    assert NOISY.passes(chunk)
    assert NOISY.passes_sequence([chunk])
    assert NOISY.passes_sequence([chunk, quiet, quiet])
    assert not NOISY.passes_sequence([chunk] * 8)
    assert not NOISY.passes_sequence([ChunkMeasure(exp_mismatches=5)] * 2)


@pytest.mark.parametrize(
    "bad",
    [
        ChunkMeasure(malformed="null proof"),
        ChunkMeasure(mant_err_mean=-1.0, mant_err_median=-1.0, exp_mismatches=128),
        ChunkMeasure(mant_err_mean=math.nan),
    ],
)
def test_one_bad_chunk_fails_the_sequence(bad: ChunkMeasure) -> None:
    assert not PUBLISHED.passes_sequence([ChunkMeasure()] * 7 + [bad])


def test_an_early_stage_has_a_tighter_limit() -> None:
    chunks = [ChunkMeasure(mant_err_mean=1.0)] * 4
    by_depth = replace(NOISY, sequence_mant_at=((0.25, 0.5), (0.5, 1.5)))
    assert [by_depth.mantissa_limit(d) for d in (0.1, 0.25, 0.26, 0.5, 0.6, 1.0)] == (
        [0.5, 0.5, 1.5, 1.5, 2.0, 2.0]
    )
    assert not by_depth.passes_sequence(chunks, 0.25)
    assert by_depth.passes_sequence(chunks, 0.5)
    assert by_depth.passes_sequence(chunks)
    assert by_depth.passes_sequence(chunks[:1], 0.1)
    assert not replace(by_depth, sequence_mant=0.9).passes_sequence(chunks, 0.5)
    assert by_depth.convicting().passes_sequence(chunks, 0.25)


def test_limits_that_are_not_given_are_off() -> None:
    lenient = Thresholds(38, 10.0, 8.0, 0.03, 0.85, 4, 0.5)
    assert lenient.passes_sequence_sampling(100, 0, 50.0, SCORE_CAP, 99.0)
    assert lenient.passes_sequence([ChunkMeasure(exp_mismatches=38, sign_mismatches=128)] * 9)
    assert lenient.rows_error == math.inf
