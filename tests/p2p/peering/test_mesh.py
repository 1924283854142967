from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p.peering.mesh import BURST, MAX_BACKOFF, YIELD, DialPlan


def test_the_smaller_id_dials_at_once_and_the_larger_waits():
    assert DialPlan("a").next(["b"], [], 0.0, always=()) == ("b",)
    larger = DialPlan("b")
    assert larger.next(["a"], [], 0.0, always=()) == ()
    assert larger.next(["a"], [], YIELD - 0.01, always=()) == ()
    assert larger.next(["a"], [], YIELD, always=()) == ("a",)


def test_failures_double_the_pause_up_to_a_bound():
    plan = DialPlan("a")
    now, pauses = 0.0, []
    for _ in range(9):
        assert plan.next(["b"], [], now, always=()) == ("b",)
        plan.failed("b", now)
        waited = 0.0
        while plan.next(["b"], [], now + waited, always=()) == ():
            waited += 0.5
        pauses.append(waited)
        now += waited
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert max(pauses) == MAX_BACKOFF


def test_success_and_absence_clear_the_memory():
    plan = DialPlan("a")
    plan.failed("b", 0.0)
    plan.succeeded("b")
    assert plan.next(["b"], [], 0.0, always=()) == ("b",)
    plan.failed("b", 0.0)
    assert plan.next([], [], 0.0, always=()) == ()
    assert plan.next(["b"], [], 0.0, always=()) == ("b",)


def test_bootstrap_is_dialled_whatever_the_target():
    plan = DialPlan("z", target=1)
    assert plan.next(["c"], ["b"], 0.0, always=["a"]) == ("a",)


def test_we_never_dial_ourselves_or_the_connected():
    plan = DialPlan("a")
    assert plan.next(["a", "b"], ["b"], 9.0, always=["a", "b"]) == ()


names = st.text("abcdef", min_size=1, max_size=2)


@given(st.lists(names), st.lists(names), st.lists(names), st.integers(0, 5))
def test_limits_hold_for_any_input(known, connected, always, target):
    plan = DialPlan("c", target=target)
    plan.next(known, connected, 0.0, always=always)
    due = plan.next(known, connected, YIELD, always=always)
    assert len(due) <= BURST
    assert len(set(due)) == len(due)
    assert not set(due) & {*connected, "c"}
    assert len(set(due) - set(always)) <= max(0, target - len(set(connected)))
