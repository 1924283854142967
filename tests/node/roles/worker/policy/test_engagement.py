"""When another pool may have a worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.roles.worker.policy.engagement import Engagement, Patience

PATIENCE = Patience(idle=300.0, silent=120.0, longest=6 * 3600.0, least_busy=0.01)


def refused(engagement: Engagement, pool: int, now: float, peer: str = "") -> str:
    declined = engagement.refuses(peer or f"peer-{pool}", pool, now)
    return "" if declined is None else declined.code


def joined(pool: int = 1, now: float = 0.0, cost: int = 10) -> Engagement:
    engagement = Engagement(PATIENCE)
    assert refused(engagement, pool, now) == ""
    engagement.joined(f"peer-{pool}", pool, now, cost)
    return engagement


def test_a_pool_that_only_pings_loses_its_worker_after_a_bounded_time() -> None:
    engagement = joined()
    for now in range(10, 300, 10):
        engagement.heard(float(now))
        assert refused(engagement, 2, float(now)) == "taken"
    engagement.heard(300.0)
    assert engagement.is_idle(300.0)
    assert refused(engagement, 2, 300.0) == ""


def test_it_stays_where_there_is_work() -> None:
    engagement = joined()
    for now in range(10, 7200, 10):
        engagement.heard(float(now))
        engagement.worked(0.2, 1, float(now))
        assert refused(engagement, 2, float(now)) == "taken"


def test_a_drip_of_work_does_not_hold_it() -> None:
    engagement = joined()
    for now in range(10, 301, 10):
        engagement.heard(float(now))
    engagement.worked(0.5, 10**9, 290.0)
    assert refused(engagement, 2, 300.0) == ""


def test_no_more_work_is_believed_than_time_has_passed() -> None:
    engagement = joined()
    engagement.worked(1e12, 1, 0.5)
    engagement.heard(300.0)
    assert engagement.is_idle(300.0)


def test_silence_releases_it_sooner() -> None:
    engagement = joined()
    assert refused(engagement, 2, 119.0) == "taken"
    assert refused(engagement, 2, 120.0) == ""


def test_the_pool_that_was_left_is_tried_later_than_others() -> None:
    engagement = joined()
    engagement.joined("peer-2", 2, 300.0, 10)
    engagement.left()
    assert refused(engagement, 1, 301.0) == "resting"
    assert refused(engagement, 3, 301.0) == ""
    assert refused(engagement, 1, 300.0 + 600.0) == ""


def test_another_orchestrator_does_not_get_it_by_naming_the_same_pool() -> None:
    assert refused(joined(), 1, 10.0, peer="mallory") == "taken"
    assert refused(joined(), 1, 10.0) == ""


def test_work_worth_its_gas_makes_it_patient_no_longer() -> None:
    engagement = joined()
    for number, pool in enumerate((2, 3, 4), start=1):
        engagement.joined(f"peer-{pool}", pool, 10_000.0 * number, 10)
    assert refused(engagement, 5, 30_000.0 + 300.0) == "taken"
    engagement.worked(5.0, 10, 30_100.0)
    engagement.joined("peer-5", 5, 60_000.0, 10)
    engagement.heard(60_300.0)
    assert refused(engagement, 6, 60_300.0) == ""


@pytest.mark.parametrize("pools", [2, 500])
def test_pools_that_pass_a_worker_round_move_it_a_few_times_a_day(pools) -> None:
    engagement, held, moves = joined(0), 0, 0
    for minute in range(1, 24 * 60):
        now, pool = minute * 60.0, minute % pools
        engagement.heard(now)
        if refused(engagement, pool, now) == "":
            engagement.joined(f"peer-{pool}", pool, now, 10)
            moves, held = moves + (pool != held), pool
    assert 3 <= moves <= 10


STEP = st.tuples(st.integers(0, 3), st.sampled_from(["ping", "invite", "fail"]), st.floats(1, 4000))


@given(st.lists(STEP, max_size=80))
def test_a_day_has_few_moves_whatever_pools_do_without_work(steps) -> None:
    """`fail` is an invite for which this node leaves its pool and cannot get into the other."""
    engagement, now, held, moves = Engagement(PATIENCE), 0.0, -1, []
    for pool, step, wait in steps:
        now += wait
        if step == "ping":
            engagement.heard(now)
        elif refused(engagement, pool, now) == "" and pool != held:
            if step == "invite":
                engagement.joined(f"peer-{pool}", pool, now, 10)
                moves.append(now)
            elif held >= 0:
                engagement.lost(now)
                moves.append(now)
            held = pool if step == "invite" else -1
    for start in moves:
        assert sum(start <= at < start + 86_400 for at in moves) <= 24
