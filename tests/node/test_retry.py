"""Pauses between tries, on a clock that jumps."""

from __future__ import annotations

import pytest
import trio

from node.retry import Backoff, tries


async def test_pauses_double_up_to_the_last_and_the_first_try_waits_for_nothing(autojump_clock):
    at = []
    async for attempt in tries(Backoff(first=1.0, last=5.0, most=6)):
        at.append((attempt, trio.current_time()))
    start = at[0][1]
    assert [(n, t - start) for n, t in at] == [(0, 0), (1, 1), (2, 3), (3, 7), (4, 12), (5, 17)]


async def test_a_loop_that_is_left_does_not_wait(autojump_clock):
    start = trio.current_time()
    async for attempt in tries(Backoff.every(10.0)):
        if attempt == 2:
            break
    assert trio.current_time() - start == 20.0


async def test_after_the_most_tries_the_loop_ends_without_a_pause(autojump_clock):
    start, seen = trio.current_time(), 0
    async for _ in tries(Backoff.every(10.0, most=1)):
        seen += 1
    else:
        seen += 100
    assert (seen, trio.current_time() - start) == (101, 0.0)


@pytest.mark.parametrize("attempt", [100, 10_000, 10**9])
def test_pauses_stay_finite(attempt: int) -> None:
    assert Backoff(0.5, 30.0).pause(attempt) == 30.0
