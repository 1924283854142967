"""Trying the ways to a neighbour, in virtual time: paths with any delay, load and loss."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataplane.errors import EdgeBroken, EdgeRefused, EdgeTimeout, EdgeViolation
from pipeline.dataplane.ways import ROUND_TRIPS, DialTiming, Failure, Ways

TIMING = DialTiming()
TOTAL = 30.0
Path = Callable[[float], tuple[float, Failure | None]]
"""When an attempt that begins at a time ends, and how: an edge (None), or a failure. Later than it
may take is a timeout."""


def dialling(*paths: Path, total: float = TOTAL) -> tuple[int, float, list[tuple[int, float]]]:
    """The way that an edge came of, when, and all attempts: which way, and how long it had."""
    ways, now = Ways(len(paths), total, TIMING), 0.0
    tried: list[tuple[int, float]] = []
    while True:
        way, until = ways.next(now)
        tried.append((way, until - now))
        ended, failure = paths[way](now)
        if ended > until:
            ended, failure = until, EdgeTimeout("the deadline passed")
        now = ended
        if failure is None:
            return way, now, tried
        now += ways.failed(failure, now)


def distant(round_trip: float, load: float = 0.0) -> Path:
    """A neighbour at a distance, each of whose answers takes `load` longer."""
    return lambda now: (now + ROUND_TRIPS * (round_trip + load), None)


def black_hole(now: float) -> tuple[float, None]:
    return now + 1e9, None


def failing(error: Failure, after: float = 0.0) -> Path:
    return lambda now: (now + after, error)


@given(round_trip=st.floats(0.0, 0.6), load=st.floats(0.0, 2.0))
def test_an_edge_forms_at_the_first_attempt_at_any_distance(round_trip: float, load: float) -> None:
    way, _, tried = dialling(distant(round_trip, load))
    assert (way, len(tried)) == (0, 1)


def lossy(round_trip: float, loss: float, chance: random.Random) -> Path:
    """Each trip needs one packet there and one back; a lost one is sent again after a second, and
    then after twice as long each time."""

    def attempt(now: float) -> tuple[float, None]:
        for _ in range(ROUND_TRIPS):
            again = 1.0
            while chance.random() < 1 - (1 - loss) ** 2:
                now, again = now + again, 2 * again
            now += round_trip
        return now, None

    return attempt


def test_a_fifth_of_all_packets_lost_slows_and_does_not_break() -> None:
    chance = random.Random(7)
    path = lossy(0.6, 0.2, chance)
    times = []
    failed = 0
    for _ in range(2000):
        try:
            times.append(dialling(path)[1])
        except EdgeTimeout:
            failed += 1
    assert failed <= 20  # one percent, of attempts that the next build makes again
    assert sorted(times)[len(times) // 2] < 10.0


def test_a_way_that_fails_gives_the_next_one_its_turn() -> None:
    hang_up = failing(EdgeBroken("the peer hung up"))
    assert dialling(hang_up, distant(0.6))[0] == 1
    assert dialling(black_hole, distant(0.6))[0] == 1
    way, now, _ = dialling(black_hole, black_hole, distant(0.6))
    assert way == 2
    assert now < TOTAL


def test_the_best_way_comes_again_after_the_others() -> None:
    outcomes = iter([EdgeBroken("not yet"), EdgeBroken("no tunnel"), None])
    way, _, tried = dialling(lambda now: (now, next(outcomes)), lambda now: (now, next(outcomes)))
    assert way == 0
    assert [way for way, _ in tried] == [0, 1, 0]


def test_a_refusal_is_an_answer_of_the_right_listener() -> None:
    refusals = iter([EdgeRefused("generation 1"), EdgeRefused("generation 1"), None])
    way, _, tried = dialling(lambda now: (now, next(refusals)), distant(0.0))
    assert way == 0
    assert len(tried) == 3


def test_a_way_to_somebody_else_is_not_tried_again() -> None:
    other = failing(EdgeViolation("another certificate"))
    downs = iter([EdgeBroken("down"), EdgeBroken("down"), None])
    way, _, tried = dialling(other, lambda now: (now, next(downs)))
    assert way == 1
    assert [way for way, _ in tried] == [0, 1, 1, 1]
    with pytest.raises(EdgeViolation):
        dialling(other, other)


def test_the_last_failure_is_told_at_the_deadline() -> None:
    with pytest.raises(EdgeBroken, match="down"):
        dialling(failing(EdgeBroken("down"), after=0.1))
    with pytest.raises(EdgeTimeout):
        dialling(black_hole)


@given(
    st.lists(st.sampled_from(["broken", "refused", "timeout", "violation"]), min_size=1),
    st.integers(1, 4),
)
def test_every_attempt_ends_by_the_deadline_and_pauses_are_bounded(
    failures: list[str], count: int
) -> None:
    kinds = {
        "broken": EdgeBroken,
        "refused": EdgeRefused,
        "timeout": EdgeTimeout,
        "violation": EdgeViolation,
    }
    ways, now = Ways(count, TOTAL, TIMING), 0.0
    for name in failures:
        way, until = ways.next(now)
        assert 0 <= way < count
        assert now < until <= TOTAL
        assert until - now <= TIMING.attempt + 1e-9
        now = until if name == "timeout" else now
        try:
            pause = ways.failed(kinds[name](name), now)
        except (EdgeBroken, EdgeRefused, EdgeTimeout, EdgeViolation):
            return
        assert TIMING.first_pause <= pause <= TIMING.last_pause
        now += pause


def test_what_a_listener_said_is_told_rather_than_that_time_was_over() -> None:
    outcomes = iter([(0.0, EdgeRefused("not today")), (1e9, None), (1e9, None), (1e9, None)])

    def path(now: float) -> tuple[float, Failure | None]:
        after, failure = next(outcomes)
        return now + after, failure

    with pytest.raises(EdgeRefused, match="not today"):
        dialling(path)
