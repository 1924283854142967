from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from p2p.admission.standing import Standing
from p2p.peering.mesh import MAX_BACKOFF, STEADY, YIELD, Candidate, DialLimits, DialPlan


def make(own: str, **limits) -> DialPlan:
    return DialPlan(own, random.Random(1).random, DialLimits(**limits))


def ask(plan: DialPlan, known, connected=(), now=0.0, always=(), outbound=0):
    candidates = [c if isinstance(c, Candidate) else Candidate(c) for c in known]
    return plan.next(candidates, connected, now, always=always, outbound=outbound)


def test_the_smaller_id_dials_at_once_and_the_larger_waits():
    assert ask(make("a"), ["b"]) == ("b",)
    larger = make("b")
    assert ask(larger, ["a"]) == ()
    assert larger.wake == YIELD
    assert ask(larger, ["a"], now=YIELD - 0.01) == ()
    assert ask(larger, ["a"], now=YIELD) == ("a",)


def test_failures_double_the_pause_up_to_a_bound():
    plan = make("a")
    now, pauses = 0.0, []
    for _ in range(9):
        assert ask(plan, ["b"], now=now) == ("b",)
        plan.failed("b", now)
        assert ask(plan, ["b"], now=now) == ()
        pauses.append(plan.wake - now)
        now = plan.wake
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert max(pauses) == MAX_BACKOFF


def test_a_peer_may_fail_for_ever():
    """The 1,025th failure of a bootstrap peer, after 17 hours, once ended the node."""
    plan = make("a")
    now = 0.0
    for _ in range(5000):
        assert ask(plan, [], now=now, always=["b"]) == ("b",)
        plan.failed("b", now)
        now += MAX_BACKOFF
    assert ask(plan, [], now=now, always=["b"]) == ("b",)


def test_a_dial_under_way_is_not_started_again():
    plan = make("a")
    assert ask(plan, ["b"]) == ("b",)
    assert ask(plan, ["b"], now=100.0) == ()
    plan.failed("b", 100.0)
    assert ask(plan, ["b"], now=101.0) == ("b",)


def test_a_connection_that_lasted_and_absence_clear_the_memory():
    plan = make("a")
    plan.failed("b", 0.0)
    plan.succeeded("b", 0.0)
    assert ask(plan, ["b"], ["b"], now=STEADY) == ()
    assert ask(plan, ["b"], now=STEADY) == ("b",)
    plan.failed("b", STEADY)
    assert ask(plan, [], now=STEADY) == ()
    assert ask(plan, ["b"], now=STEADY) == ("b",)


def test_a_peer_that_hangs_up_after_each_dial_is_dialled_less_and_less():
    plan = make("a")
    now, pauses = 0.0, []
    for _ in range(8):
        assert ask(plan, ["b"], now=now) == ("b",)
        plan.succeeded("b", now)
        assert ask(plan, ["b"], ["b"], now=now) == ()
        assert ask(plan, ["b"], now=now) == ()
        pauses.append(plan.wake - now)
        now = plan.wake
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_bootstrap_is_dialled_whatever_the_target():
    assert ask(make("z", target=1, outbound=0), ["c"], ["b"], always=["a"]) == ("a",)


def test_we_never_dial_ourselves_or_the_connected():
    assert ask(make("a"), ["a", "b"], ["b"], now=9.0, always=["a", "b"]) == ()


def test_inbound_sybils_do_not_stop_us_from_dialling_peers_of_our_choice():
    plan = make("a", target=32, outbound=8)
    sybils = [f"sybil {n}" for n in range(500)]
    assert ask(plan, ["honest"], sybils, outbound=7) == ("honest",)
    assert ask(make("a"), ["honest"], sybils, outbound=8) == ()


def test_an_honest_newcomer_is_dialled_at_once_beside_4096_sybils():
    """Their addresses swallow each dial for 10 s. Before, 50 smaller ids starved it for ever."""
    plan = make("z" * 10)
    sybils = [Candidate(f"a{n:04}", "203.0.113.0/24") for n in range(4096)]
    first = ask(plan, sybils, now=YIELD)
    first = ask(plan, sybils, now=2 * YIELD)
    assert len(first) == DialLimits().per_subnet
    honest = Candidate("b", "198.51.100.0/24")
    assert ask(plan, [*sybils, honest], now=20.0) == ()
    assert ask(plan, [*sybils, honest], now=20.0 + YIELD) == ("b",)


def test_subnets_that_never_answer_go_last():
    plan = make("0")
    dead = [Candidate(f"dead {n}", "203.0.113.0/24") for n in range(50)]
    for peer in ask(plan, dead):
        plan.failed(peer, 0.0)
    fresh = [Candidate(f"fresh {n}", "198.51.100.0/24") for n in range(3)]
    chosen = ask(plan, [*dead, *fresh], now=0.5)
    assert set(chosen[:3]) == {c.peer_id for c in fresh}


def test_the_staked_go_before_the_proven_before_strangers():
    plan = make("0", burst=3)
    known = [
        Candidate("s", "x"),
        Candidate("p", "x", Standing.PROVEN),
        Candidate("k", "x", Standing.STAKED),
    ]
    assert ask(plan, known) == ("k", "p", "s")


names = st.text("abcdef", min_size=1, max_size=2)


@given(st.lists(names), st.lists(names), st.lists(names), st.integers(0, 5))
def test_limits_hold_for_any_input(known, connected, always, target):
    plan = make("c", target=target, outbound=0, burst=5)
    up = set(connected)
    begun: set[str] = set()
    for now in (0.0, YIELD):
        due = ask(plan, known, connected, now, always=always)
        assert len(set(due)) == len(due)
        assert not set(due) & (begun | up | {"c"})
        begun |= set(due)
    assert len(begun) <= 5
    assert len(begun - set(always)) <= max(0, target - len(up - {"c"}))
