"""The sequential test: honest workers rarely raise an alarm, small drifts do soon."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.thresholds.drift import (
    DriftError,
    DriftState,
    DriftTest,
    e_value,
    observe,
    unit_evidence,
)

TEST = DriftTest(alpha=1e-2, floor=1e-3)


def shifted(drift: float, source: random.Random) -> float:
    """The p-value of a figure that is normal among honest ones, here `drift` deviations worse."""
    return 0.5 * math.erfc((source.gauss() + drift) / math.sqrt(2))


def alarms_of(workers: int, units: int, test: DriftTest) -> list[int]:
    """How many alarms each of some honest workers raises."""
    source, found = random.Random(1), []
    for _ in range(workers):
        state = DriftState()
        for _ in range(units):
            state, _ = observe(state, source.random(), test)
        found.append(state.alarms)
    return found


def delay(drift: float, test: DriftTest, source: random.Random, honest: int = 0) -> int:
    """Units of drift until the alarm, after `honest` good ones; 2000 where there was none."""
    state = DriftState()
    for _ in range(honest):
        state, _ = observe(state, source.random(), test)
    for unit in range(1, 2000):
        state, alarm = observe(state, shifted(drift, source), test)
        if alarm:
            return unit
    return 2000


def test_evidence_of_honest_units_is_at_most_one_on_average() -> None:
    steps = 200_000
    total = sum(e_value((n + 0.5) / steps, 1e-9) for n in range(steps))
    assert 0.9 < total / steps <= 1.0
    # Ranks among n honest figures: every one of n + 1 places is as likely.
    for n in (9, 99, 999):
        ranks = [e_value(place / (n + 1), 1 / (n + 1)) for place in range(1, n + 2)]
        assert sum(ranks) / len(ranks) <= 1.0


def test_false_alarms_of_the_detector_are_as_rare_as_promised() -> None:
    workers, units = 100, 1500
    raised = sum(alarms_of(workers, units, TEST))
    assert raised <= workers * units * TEST.alpha
    assert raised / (workers * units) < TEST.alpha / 20  # 1 in 5,000 where 1 in 100 is promised


def test_the_sprt_form_ever_alarms_in_at_most_alpha_of_the_workers() -> None:
    test = DriftTest(alpha=0.1, floor=1e-3, restart=False)
    raised = [count > 0 for count in alarms_of(400, 300, test)]
    assert sum(raised) / len(raised) <= 0.1


@pytest.mark.parametrize(("drift", "median"), [(0.5, 300), (1.0, 30), (2.0, 8)])
def test_drifts_that_no_unit_shows_are_found(drift: float, median: int) -> None:
    source = random.Random(2)
    delays = sorted(delay(drift, DriftTest(), source) for _ in range(60))
    assert delays[30] <= median, delays


def test_a_good_past_buys_no_time_from_the_detector_and_much_from_the_sprt() -> None:
    source = random.Random(3)
    fresh = sorted(delay(1.5, DriftTest(), source) for _ in range(40))[20]
    aged = sorted(delay(1.5, DriftTest(), source, honest=300) for _ in range(40))[20]
    assert aged <= fresh + 2
    patient = DriftTest(restart=False)
    assert sorted(delay(1.5, patient, source, honest=300) for _ in range(40))[20] > 5 * fresh


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_unusual_is_more_evidence(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert e_value(low, 1e-6) >= e_value(high, 1e-6) - 1e-9


@given(st.lists(st.floats(0, 1), max_size=8))
def test_no_unit_says_more_than_its_calibration(p_values: list[float]) -> None:
    evidence = unit_evidence(p_values, 1 / 1001)
    assert 0.5 <= evidence <= e_value(0.0, 1 / 1001) < 21
    if p_values:
        each = [e_value(p, 1 / 1001) for p in p_values]
        assert min(each) - 1e-9 <= evidence <= max(each) + 1e-9


@pytest.mark.parametrize("p", [float("nan"), -1e-9, 1.0001, float("inf"), -float("inf")])
def test_what_is_no_p_value_is_refused(p: float) -> None:
    with pytest.raises(DriftError, match="p-value"):
        observe(DriftState(), p, TEST)
    with pytest.raises(DriftError, match="p-value"):
        observe(DriftState(), (0.5, p), TEST)


def test_an_alarm_starts_the_evidence_anew() -> None:
    state, alarms = DriftState(), []
    for unit in range(1, 7):
        state, alarm = observe(state, 0.0, TEST)
        alarms += [unit] if alarm else []
    assert alarms == [2, 4, 6]
    assert (state.units, state.alarms, state.alarmed_at, state.level) == (6, 3, 6, 0.0)


def test_a_unit_without_statistics_counts_and_says_nothing() -> None:
    state, alarm = observe(DriftState(units=3, level=1.5), (), TEST)
    assert state == DriftState(units=4, level=1.5)
    assert not alarm


def test_states_go_through_a_journal() -> None:
    state = DriftState(7, 1.25, 2, 5)
    assert DriftState.from_plain(state.to_plain()) == state
    for spoilt in (
        {},
        {**state.to_plain(), "units": -1},
        {**state.to_plain(), "units": 1.5},
        {**state.to_plain(), "level": float("nan")},
        {**state.to_plain(), "level": "x"},
    ):
        with pytest.raises(DriftError, match="no state"):
            DriftState.from_plain(spoilt)  # type: ignore[arg-type]


def test_terms_out_of_range_are_refused() -> None:
    for alpha, floor in ((0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.1)):
        with pytest.raises(DriftError):
            DriftTest(alpha=alpha, floor=floor)
