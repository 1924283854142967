"""Pools take turns, and what nobody has keeps nothing else waiting."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from node.settlement.wanted import Key, Wanted


def wanted(per_pool: int = 2) -> Wanted[str]:
    return Wanted(lambda tries: min(2.0 ** (tries - 1), 30.0), per_pool)


def key(pool: int, epoch: int) -> Key:
    return pool, epoch, b"h"


def test_a_pool_with_a_thousand_roots_has_its_turn_and_no_more() -> None:
    table = wanted()
    for epoch in range(1, 1001):
        assert table.add(key(1, epoch), "", 0.0)
    assert not table.add(key(1, 5), "", 0.0)
    for pool in (2, 3):
        table.add(key(pool, 1), "", 0.0)
    taken = [table.take(0.0) for _ in range(5)]
    assert [item and item[0][:2] for item in taken] == [(1, 1), (2, 1), (3, 1), (1, 2), None]
    assert not table.add(key(1, 1), "", 0.0)  # under way
    table.done(key(1, 1))
    again = table.take(0.0)
    assert again is not None
    assert again[0] == key(1, 3)


def test_what_was_asked_for_in_vain_rests_longer_each_time_and_others_go_first() -> None:
    table, now = wanted(per_pool=1), 0.0
    table.add(key(1, 1), "nobody has it", now)
    for pause in (1.0, 2.0, 4.0):
        taken = table.take(now)
        assert taken is not None
        assert table.due_at() == float("inf")
        table.failed(taken[0], now)
        assert table.take(now) is None
        assert table.due_at() == now + pause
        now += pause
    table.add(key(1, 2), "somebody has", now)
    taken = table.take(now)
    assert taken is not None
    assert taken[1] == "somebody has"
    assert table.take(now) is None  # one of a pool at a time


STEPS = st.lists(st.tuples(st.sampled_from("atfd"), st.integers(0, 3), st.integers(1, 3)))


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_nothing_is_lost_nor_taken_twice(steps: list[tuple[str, int, int]]) -> None:
    table, now = wanted(), 0.0
    held: list[Key] = []
    known: set[Key] = set()
    for what, pool, epoch in steps:
        now += 0.5
        if what == "a":
            assert table.add(key(pool, epoch), "", now) == (key(pool, epoch) not in known)
            known.add(key(pool, epoch))
        elif what == "t":
            taken = table.take(now)
            assert taken is not None or table.due_at() > now
            if taken is not None:
                assert taken[0] not in held
                held.append(taken[0])
                assert sum(k[0] == taken[0][0] for k in held) <= 2
        elif held and what == "f":
            table.failed(held.pop(), now)
        elif held:
            gone = held.pop()
            table.done(gone)
            known.discard(gone)
        assert len(table) == len(known)
