"""The scheduler in a simulated ring: how many batches it keeps in flight, what it predicts, and
that prompts hold nobody up."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipeline.engine.schedule.costs import CostCurve, Load
from pipeline.engine.schedule.events import RingUp
from pipeline.engine.schedule.pace import Leg, Pace, Pacing
from tests.pipeline.engine.schedule.simulated import Curve, SimulatedRing, cpu
from tests.pipeline.engine.sequences import make_spec

EVEN = [cpu(), cpu(), cpu()]
UNEVEN = [cpu(), cpu(1.6), cpu(0.8)]
LONG = 20.0
"""Seconds after which a ring has settled."""


def ring(curves: list[Curve], latency: float, micro_batches: int = 0) -> SimulatedRing:
    limits = RingUp(10**6, 10**5, micro_batches, 1024, len(curves))
    return SimulatedRing(limits, curves, latency)


def decode(curves: list[Curve], latency: float, sequences: int, micro_batches: int = 0) -> float:
    """Tokens a second, once settled."""
    made = ring(curves, latency, micro_batches)
    made.many(sequences, 32, 10**4)
    made.run(LONG)
    return made.rate(LONG / 2, LONG)


@pytest.mark.parametrize(
    ("curves", "latency", "sequences"),
    [
        (EVEN, 0.025, 16),
        (UNEVEN, 0.0, 40),
        (UNEVEN, 0.025, 40),
        (UNEVEN, 0.075, 40),
    ],
)
def test_the_chosen_number_of_batches_is_as_good_as_the_best(
    curves: list[Curve], latency: float, sequences: int
) -> None:
    best = max(decode(curves, latency, sequences, n) for n in (1, 2, 3, 4, 6, 8, 13))
    made = ring(curves, latency)
    made.many(sequences, 32, 10**4)
    made.run(LONG)
    assert made.rate(LONG / 2, LONG) >= 0.95 * best
    forecast = made.scheduler.forecast
    assert forecast is not None
    assert 0.9 <= forecast.promised / forecast.came <= 1.1
    assert len([at for at, _ in made.chosen if at > LONG / 2]) <= 1  # it has settled


def test_it_follows_when_the_ring_or_the_crowd_changes() -> None:
    curves = [cpu(), cpu(), cpu()]
    made = ring(curves, 0.0)
    made.many(16, 32, 10**4)
    made.run(10.0)
    before = made.scheduler.micro_batches
    for hop in made.hops:
        hop.latency = 0.075
    made.run(40.0)
    assert made.scheduler.micro_batches > before
    assert made.rate(30.0, 40.0) >= 0.95 * decode(EVEN, 0.075, 16, 16)


def gaps(made: SimulatedRing, since: float, until: float) -> list[float]:
    """Seconds between one token of a sequence and the next, ascending."""
    return sorted(
        later - earlier
        for times in made.arrivals.values()
        for earlier, later in pairwise(times)
        if earlier > since and later <= until
    )


@pytest.mark.parametrize("latency", [0.0, 0.025])
def test_a_long_prompt_does_not_hold_up_those_that_decode(latency: float) -> None:
    made = ring(EVEN, latency)
    made.many(16, 32, 10**4)
    made.run(10.0)
    without = gaps(made, 5.0, 10.0)
    made.submit(make_spec(b"L" * 16, tuple([7] * 8000), max_tokens=4), made.now)
    made.run(60.0)
    assert b"L" * 16 in made.finished
    along = gaps(made, 10.0, made.finished[b"L" * 16])
    p99, alone = (each[int(0.99 * len(each))] for each in (along, without))
    assert p99 <= 3.0 * alone
    assert along[-1] <= 4.0 * alone


def test_interactive_sequences_begin_before_those_of_batches() -> None:
    made = ring(EVEN, 0.0)
    made.many(8, 2000, 4)
    made.run(1.0)
    asked = make_spec(b"I" * 16, tuple([7] * 100), max_tokens=4)
    made.submit(asked.model_copy(update={"priority": "interactive"}), made.now)
    made.run(60.0)
    ends = sorted(made.finished, key=lambda each: made.finished[each])
    assert len(ends) == 9
    assert ends.index(b"I" * 16) <= 1


def test_costs_are_learned_from_few_sizes_and_never_negative() -> None:
    curve = CostCurve()
    truth = cpu()
    for rows in (1, 3, 8, 30):
        load = Load(rows, reads=rows * 200)
        for _ in range(5):
            curve.observe(load, truth(load), 0.0)
    curve.fit(0.0)
    for rows in (2, 5, 20, 60):
        load = Load(rows, reads=rows * 200)
        assert curve.seconds(load) == pytest.approx(truth(load), rel=0.1)
    falling = CostCurve()
    for rows, seconds in ((1, 0.3), (64, 0.1)):
        falling.observe(Load(rows), seconds, 0.0)
    falling.fit(0.0)
    assert 0.0 < falling.seconds(Load(1)) <= falling.seconds(Load(100))


def test_slow_moments_are_not_believed() -> None:
    curve = CostCurve()
    for seconds in (0.02, 0.02, 3.0, 0.02, 0.021):
        curve.observe(Load(4), seconds, 0.0)
    curve.fit(0.0)
    assert curve.seconds(Load(4)) == pytest.approx(0.02, rel=0.01)


def test_what_was_measured_long_ago_is_forgotten_where_there_is_something_newer() -> None:
    curve = CostCurve()
    curve.observe(Load(4), 1.0, 0.0)
    curve.fit(1000.0)
    assert curve.seconds(Load(4)) == pytest.approx(1.0, rel=0.01)
    curve.observe(Load(64), 0.01, 1000.0)
    curve.fit(1000.0)
    assert curve.seconds(Load(4)) < 0.02


def test_the_number_of_batches_changes_for_a_gain_only() -> None:
    pace = Pace(2, Pacing(worth=1.5))
    legs = (Leg(0.0, 0.02), Leg(0.0, 0.02))
    for rows in (4, 8):
        pace.observe(Load(rows), legs, 0.05, 0.0)
    before = pace.micro_batches
    pace.review(16, 100, 0.0)
    assert pace.micro_batches == before
    assert not pace.due(0.5)
    assert pace.due(1.5)
