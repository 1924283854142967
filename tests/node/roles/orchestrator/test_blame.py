"""Whoever breaks rings ends at rest, and its neighbours do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.roles.orchestrator.coordinator.blame import BlameAccount, BlameTerms, liars
from tests.node.roles.orchestrator.rings import Rings

HOUR = 3600.0
MODES = ("bad frames", "false alarm", "either edge", "drip")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("mode", MODES)
def test_of_six_only_the_one_who_breaks_rings_is_put_to_rest(mode: str, seed: int) -> None:
    """Whoever breaks each of its rings after 61 s, by frames that its successor must report, by
    alarms of its own, or by a token in two minutes, with an accident now and then."""
    rings = Rings(workers=6, evil=frozenset({seed}), mode=mode, seed=seed)
    for _ in range(60):
        rings.run(1.0)
        if rings.culprits[0].strikes:
            break
    (culprit,) = rings.culprits
    assert culprit.rest_until > rings.now - HOUR
    assert [m.peer_id for m in rings.honest if m.strikes] == []
    assert rings.purposely(0.0) < 60  # of 59 in every hour


@pytest.mark.parametrize("mode", MODES[:3])
def test_whoever_is_never_found_is_kept_out_of_rings_all_the_same(mode: str) -> None:
    """In a larger pool it seldom meets enough others: the first whom it fails with stays apart."""
    rings = Rings(workers=17, evil=frozenset({3}), mode=mode, seed=1)
    rings.run(10.0)
    assert [m.peer_id for m in rings.honest if m.strikes] == []
    assert rings.purposely(0.0) < 20
    assert rings.purposely(rings.now - 4 * HOUR) <= 4


def test_accidents_put_nobody_to_rest() -> None:
    for seed in range(3):
        rings = Rings(workers=9, evil=frozenset(), mode="bad frames", seed=seed)
        rings.run(10.0)
        assert len(rings.breaks) > 2
        assert [m.peer_id for m in rings.honest if m.strikes] == []


def test_two_who_have_only_each_other_are_not_told_apart() -> None:
    rings = Rings(workers=2, evil=frozenset({0}), mode="bad frames", seed=0)
    rings.run(5.0)
    assert rings.purposely(0.0) > 200
    assert [m.strikes for m in (*rings.culprits, *rings.honest)] == [0, 0]


WORKERS = [f"w{n}" for n in range(33)]
LIES = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.sampled_from(WORKERS), min_size=1, max_size=4)),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(LIES, st.floats(0.0, 600.0))
def test_up_to_t_liars_together_have_no_honest_worker_rest(
    lies: list[tuple[int, list[str]]], pause: float
) -> None:
    """Whatever they report of whom: as long as one of them is in every incident."""
    account, now = BlameAccount(), 0.0
    assert liars(len(WORKERS), account.terms) == 4
    for liar, others in lies:
        suspects = {WORKERS[liar], *others}
        for _ in range(4):
            now += pause
            found = account.note(suspects, len(WORKERS), now)
            if found:
                assert found in WORKERS[:4]
                account.rest(found, now, found=True)


def repeated(account: BlameAccount, suspects: set[str], times: int = 4, workers: int = 9) -> str:
    found = ""
    for _ in range(times):
        found = account.note(suspects, workers, 0.0) or found
    if found:
        account.rest(found, 0.0, found=True)
    return found


@pytest.mark.parametrize(("workers", "t"), [(9, 1), (17, 2), (33, 4)])
def test_more_than_t_liars_get_at_honest_workers_and_are_found_out_themselves(
    workers: int, t: int
) -> None:
    """Each victim costs the t + 1 of them four incidents each; there are at most 2t."""
    account, victims = BlameAccount(), 0
    assert liars(workers, account.terms) == t
    free = [f"liar{n}" for n in range(t + 1)]
    while len(free) > t:
        victim = f"victim{victims}"
        found = [repeated(account, {liar, victim}, workers=workers) for liar in free]
        free = [liar for liar in free if liar not in found]
        victims += victim in found
    assert 0 < victims <= 2 * t


def test_it_takes_company_to_tell_a_slow_stage_from_its_ring() -> None:
    account = BlameAccount()
    assert repeated(account, {"slow", "a", "b"}) == ""
    assert account.apart(["slow", "a", "b", "c"], 0.0) != []
    assert repeated(account, {"slow", "a", "c"}) == ""  # a might be the one
    assert repeated(account, {"slow", "b", "c"}) == "slow"


def test_a_worker_that_fails_alone_needs_no_company() -> None:
    account = BlameAccount()
    assert repeated(account, {"w"}, times=2) == ""
    assert account.note({"w"}, 9, 0.0) == "w"


def test_weights_fade_over_hours_and_one_failure_an_afternoon_is_forgiven() -> None:
    for hours, expected in ((0.3, True), (4.0, False)):
        account, found = BlameAccount(), ""
        for number in range(40):
            now = number * hours * HOUR
            found = found or account.note({"w", f"p{number % 2}"}, 9, now)
        assert (found == "w") is expected


def test_those_who_failed_together_are_planned_apart_in_turn_until_it_fades() -> None:
    account = BlameAccount()
    repeated(account, {"a", "b"}, times=3)
    assert account.apart("abc", 0.0) == []
    turns = set()
    for _ in range(2):
        account.note({"a", "b"}, 9, 0.0)
        (out,) = account.apart("abc", 0.0)
        turns.add(out)
    assert turns == {"a", "b"}
    assert account.apart("ac", 0.0) == []
    assert account.apart("abc", 12 * HOUR) == []


def test_each_time_at_fault_doubles_the_rest() -> None:
    terms, account = BlameTerms(), BlameAccount()
    rests = [account.rest("w", 0.0, found=False) for _ in range(12)]
    assert rests[:3] == [20.0, 40.0, 80.0]
    assert rests[-1] == terms.rest_limit
    longer = [account.rest("w", 0.0, found=True) for _ in range(12)]
    assert longer[:2] == [1800.0, 3600.0]
    assert longer[-1] == terms.found_limit
    assert account.rest("w", 30 * terms.memory, found=False) == 20.0


def test_the_account_stays_small_and_a_search_ends() -> None:
    account = BlameAccount(BlameTerms(sets=100, steps=500))
    note: Callable[[int, int], str] = lambda a, b: account.note({f"w{a}", f"x{b}"}, 99, 0.0)  # noqa: E731
    for number in range(5000):
        note(number, number * 7)
    assert len(account._failed) <= 100
    assert sum(len(sets) for sets in account._of.values()) == 2 * len(account._failed)
    crowd = {f"c{n}" for n in range(30)}
    for number in range(60):
        assert account.note({"w", *sorted(crowd)[number % 5 :]}, 99, 0.0) == ""
    assert account.note({f"c{n}" for n in range(99)}, 99, 0.0) == ""  # too large to say anything
