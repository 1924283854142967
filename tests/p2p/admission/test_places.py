from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.admission.places import Places, Shares, quarters
from p2p.admission.standing import Standing

SHARES = Shares(8, strangers=2, proven=2, staked=4)


def places(standing: dict[str, Standing] | None = None, shares: Shares = SHARES) -> Places[str]:
    known = {} if standing is None else standing
    return Places(shares, lambda key: known.get(key, Standing.STRANGER))


def test_a_crowd_from_one_subnet_displaces_only_itself():
    table = places()
    table.enter("honest", ("10.0.0.0/24",))
    for number in range(10_000):
        table.enter(f"sybil {number}", ("203.0.113.0/24",))
    assert "honest" in table
    assert len(table) == SHARES.limit


def test_sources_are_compared_level_by_level():
    """One deliverer that claims a new subnet for each of its records is still one crowd."""
    table = places()
    table.enter("honest", ("relay", "10.0.0.0/24"))
    for number in range(1000):
        table.enter(f"sybil {number}", ("evil", f"{number}.0.0.0/24"))
    assert "honest" in table


def test_within_one_source_the_oldest_leaves():
    table = places()
    for number in range(SHARES.limit):
        assert table.enter(str(number), ("here",)) is None
    assert table.enter("new", ("here",)) == "0"
    assert table.enter("1", ("here",)) is None  # entered anew, so "2" is the oldest now
    assert table.enter("newer", ("here",)) == "2"


def test_the_staked_and_the_proven_stay_and_strangers_still_find_room():
    standing = {f"staked {n}": Standing.STAKED for n in range(100)}
    standing |= {f"proven {n}": Standing.PROVEN for n in range(100)}
    table = places(standing)
    for name in (*standing, *(f"stranger {n}" for n in range(100))):
        table.enter(name, ("everywhere",))
    kinds = [name.split()[0] for name in table]
    assert (kinds.count("staked"), kinds.count("proven"), kinds.count("stranger")) == (4, 2, 2)
    assert "stranger 99" in table


def test_whoever_stands_higher_by_now_stays():
    standing: dict[str, Standing] = {}
    table = places(standing)
    for number in range(SHARES.limit):
        table.enter(str(number), ("here",))
    standing["0"] = Standing.STAKED
    assert table.enter("new", ("here",)) == "1"
    assert "0" in table


@pytest.mark.parametrize("numbers", [(3, 0, 1, 1), (3, 2, 1, 1)])
def test_impossible_guarantees_are_refused(numbers):
    with pytest.raises(ValueError):
        Shares(*numbers)


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.sampled_from("xy"), st.booleans())
    ),
    st.dictionaries(st.integers(0, 30), st.sampled_from(Standing)),
)
def test_whatever_comes_and_goes_the_bounds_and_guarantees_hold(steps, standing):
    shares = quarters(6)
    table: Places[int] = Places(shares, lambda key: standing.get(key, Standing.STRANGER))
    inside: set[int] = set()
    for key, outer, inner, enters in steps:
        if not enters:
            table.leave(key)
            inside.discard(key)
            continue
        before = {s: sum(standing.get(k, 0) == s for k in inside) for s in Standing}
        left = table.enter(key, (outer, inner))
        inside.add(key)
        inside.discard(left) if left is not None else None
        assert key in table  # a newcomer always finds a place
        if left is not None:
            assert (
                before[standing.get(left, Standing.STRANGER)] + 1
                > (shares.guaranteed[standing.get(left, Standing.STRANGER)])
            )
        assert set(table) == inside
        assert len(table) <= shares.limit
