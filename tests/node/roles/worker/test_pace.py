"""Tokens a second, of a count that begins anew with each engine."""

from __future__ import annotations

from node.roles.worker.pace import LOOKS, Pace


def test_the_pace_is_that_of_the_last_while() -> None:
    pace, count = Pace(window=16.0), 0
    assert pace.rate(0.0, 0) == 0.0
    for second in range(100):
        pace.look(float(second), count)
        count += 5 if second < 50 else 20
    assert pace.rate(100.0, count) == 20.0
    assert len(pace._looks) <= LOOKS
    assert pace.rate(100.0, 3) == 0.0  # another engine
    pace.look(100.0, 3)
    assert pace.rate(102.0, 13) == 5.0
    assert pace.rate(500.0, 13) == 0.0
