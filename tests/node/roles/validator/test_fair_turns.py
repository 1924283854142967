"""Turns by tokens: equal shares, whatever is sent."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.roles.validator.fair_turns import FairTurns

QUANTUM = 100
COSTS = st.integers(1, 5_000)


def test_an_honest_sender_goes_before_a_large_thing_that_came_first() -> None:
    turns = FairTurns(QUANTUM)
    assert turns.choose({"large": 1_000_000, "small": 50}) == "small"
    assert turns.choose({"large": 1_000_000}) == "large"


def test_nobody_waits_and_nobody_goes() -> None:
    with pytest.raises(ValueError, match="nobody"):
        FairTurns().choose({})


@given(st.lists(COSTS, min_size=2, max_size=6), st.integers(50, 300))
def test_those_who_always_wait_get_equal_shares_of_tokens(costs: list[int], turns: int) -> None:
    """Within a quantum and what can be bought at once (the bound of deficit round robin)."""
    fair, waiting = FairTurns(QUANTUM), {str(n): cost for n, cost in enumerate(costs)}
    spent: Counter[str] = Counter()
    for _ in range(turns):
        chosen = fair.choose(waiting)
        spent[chosen] += waiting[chosen]
    assert max(spent[s] for s in waiting) - min(spent[s] for s in waiting) <= QUANTUM + max(costs)


@given(st.lists(COSTS, min_size=1, max_size=40), st.integers(1, 200))
def test_a_newcomer_waits_for_no_more_than_its_own_price_from_each_of_the_others(
    others: list[int], own: int
) -> None:
    fair = FairTurns(QUANTUM)
    crowd = {f"other {n}": cost for n, cost in enumerate(others)}
    for _ in range(20):
        fair.choose(crowd)
    before: Counter[str] = Counter()
    while (chosen := fair.choose(crowd | {"me": own})) != "me":
        before[chosen] += crowd[chosen]
    rounds = -(-own // QUANTUM) + 1
    assert all(before[s] <= rounds * QUANTUM + crowd[s] for s in crowd)


def test_saved_turns_are_lost_and_debts_are_not() -> None:
    fair = FairTurns(QUANTUM)
    for _ in range(50):
        assert fair.choose({"busy": 10}) == "busy"  # the other one does not wait, so saves nothing
    first = [fair.choose({"busy": 10, "idle": 10}) for _ in range(40)]
    assert 10 <= first.count("idle") <= 30
    fair.charge("idle", 1_000)
    assert [fair.choose({"busy": 10, "idle": 10}) for _ in range(50)].count("idle") <= 10


def test_debts_of_those_who_left_are_forgotten_in_time() -> None:
    fair = FairTurns(QUANTUM)
    for number in range(1_000):
        fair.charge(f"gone {number}", 1_000)
    for _ in range(11):
        fair.choose({"here": 1})
    assert len(fair._deficits) == 1
