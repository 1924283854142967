"""Evidence over many sequences: honest workers rarely raise an alarm, small cheats do soon."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.sampling.ends import NO_EVIDENCE, TILTS, EndEvidence, end_evidence
from proofs.thresholds.pooled import (
    BETS,
    HonestMeans,
    PooledError,
    PooledState,
    PooledTest,
    SequenceFigures,
    observe,
)

BF16 = HonestMeans(distance=2.0, mismatches=0.025, score=0.0022)
TEST = PooledTest(alpha=1e-4)


def ended(source: random.Random, tokens: int, rate: float, honest: float) -> EndEvidence:
    """Of an output whose tokens end it with probability `rate`, where `honest` is right."""
    ends = sum(source.random() < rate for _ in range(tokens))
    yes, no = end_evidence(honest, True), end_evidence(honest, False)
    return tuple(ends * a + (tokens - ends) * b for a, b in zip(yes, no, strict=True))


def honest(source: random.Random) -> SequenceFigures:
    """As good as honest work may be at worst: its means are the bounds, and it is short."""
    tokens = source.choice((1, 8, 32))
    wrong = sum(source.random() < BF16.mismatches for _ in range(tokens)) / tokens
    score = BF16.score * source.expovariate(1.0)
    return SequenceFigures(
        source.lognormvariate(-0.08, 0.4) * BF16.distance,
        wrong,
        min(score, 0.5),
        ended(source, tokens, 0.02, 0.02),
    )


def units_until(make: Callable[[random.Random], SequenceFigures], seed: int, most: int) -> int:
    """Sequences until the first alarm, `most` where there was none."""
    source, state = random.Random(seed), PooledState()
    for number in range(1, most + 1):
        state, alarm = observe(state, [make(source)], BF16, TEST)
        if alarm:
            return number
    return most


def test_honest_work_of_any_length_raises_hardly_any_alarm() -> None:
    """At most one in 10,000 sequences on average; three workers with 2,000 each."""
    source, alarms = random.Random(3), 0
    for _ in range(3):
        state = PooledState()
        for _ in range(2000):
            state, alarm = observe(state, [honest(source)], BF16, TEST)
            alarms += alarm
    assert alarms <= 3  # 0.6 expected at most; Poisson P(> 3) < 0.4 %


def changed(**more: Callable[[random.Random], float]) -> Callable[[random.Random], SequenceFigures]:
    def make(source: random.Random) -> SequenceFigures:
        fields = {name: how(source) for name, how in more.items()}
        was = honest(source)
        return SequenceFigures(
            fields.get("distance", was.distance),
            fields.get("mismatches", was.mismatches),
            fields.get("score", was.score),
            was.ends,
        )

    return make


@pytest.mark.parametrize(
    ("make", "most"),
    [
        # A quarter more of the honest distance, in outputs of 1 to 32 tokens.
        (changed(distance=lambda s: s.lognormvariate(-0.08, 0.4) * 2.5), 400),
        (changed(distance=lambda s: s.lognormvariate(-0.08, 0.4) * 4.0), 60),
        (changed(mismatches=lambda s: 0.1 * (s.random() < 0.6)), 120),
        (changed(score=lambda s: 0.0066 * s.expovariate(1.0)), 60),
    ],
)
def test_small_cheats_in_short_outputs_add_up(
    make: Callable[[random.Random], SequenceFigures], most: int
) -> None:
    found = sorted(units_until(make, seed, 2000) for seed in range(9))
    assert found[4] <= most


@pytest.mark.parametrize(("rate", "most"), [(0.0, 60), (0.1, 60)])
def test_ends_that_are_missing_or_too_many_show_within_some_dozens(rate: float, most: int) -> None:
    def make(source: random.Random) -> SequenceFigures:
        """The verifier would have ended one output in two at some token."""
        return SequenceFigures(1.0, 0.0, 0.0, ended(source, 32, rate, 0.02))

    assert max(units_until(make, seed, 2000) for seed in range(9)) <= most


def test_a_good_past_hides_nothing() -> None:
    source, state = random.Random(5), PooledState()
    for _ in range(2000):
        state, _ = observe(state, [SequenceFigures(1.0, 0.0, 0.0, NO_EVIDENCE)], BF16, TEST)
    bad = changed(distance=lambda s: 5.0)
    alarms = 0
    for _ in range(40):
        if not alarms:
            state, alarm = observe(state, [bad(source)], BF16, TEST)
            alarms += alarm
    assert alarms == 1
    assert (state.alarms, state.alarmed_at, max(state.levels)) == (1, state.units, 0.0)


@given(st.floats(0.0, 1.0), st.sampled_from(range(len(TILTS))))
def test_end_evidence_has_mean_one_for_honest_tokens(share: float, place: int) -> None:
    mean = share * math.exp(end_evidence(share, True)[place])
    mean += (1.0 - share) * math.exp(end_evidence(share, False)[place])
    assert mean == pytest.approx(1.0)


@given(st.floats(0.0, 128.0) | st.just(math.nan), st.floats(0.0, 1.0) | st.none())
def test_no_single_sequence_decides(distance: float, mismatches: float | None) -> None:
    state, alarm = observe(PooledState(), [SequenceFigures(distance, mismatches)], BF16, TEST)
    assert not alarm or distance != distance
    assert PooledState.from_plain(state.to_plain()) == state


def test_states_and_means_that_cannot_be_are_refused() -> None:
    plain = PooledState().to_plain()
    for wrong in ({}, {**plain, "levels": [0.0]}, {**plain, "units": -1},
                  {**plain, "levels": [math.inf] * BETS}):  # fmt: skip
        with pytest.raises(PooledError):
            PooledState.from_plain(wrong)
    with pytest.raises(PooledError):
        HonestMeans(0.0, 0.1, 0.1)
