from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.admission.holdings import Holdings, Lease
from p2p.admission.shares import BYTES, STREAMS, Asker, Limits, Share, calls_of
from p2p.admission.standing import Standing
from p2p.errors import BudgetUsedUp

LIMITS = Limits(
    strangers=Share(8, 16, 24),
    proven=Share(8, 20, 32),
    staked=Share(16, math.inf, 40),
    kept=2,
    holders=100,
)


def stranger(name: str, source: str = "203.0.113.0/24") -> Asker:
    return Asker(name, source)


def refused(holdings: Holdings, who: Asker, amount: int) -> str:
    with pytest.raises(BudgetUsedUp) as used_up:
        holdings.take(who, amount)
    assert used_up.value.code == "busy"
    assert holdings.resource in used_up.value.message
    return used_up.value.scope


def test_the_refusal_names_the_limit():
    holdings = Holdings("bytes", LIMITS)
    assert refused(holdings, stranger("a"), 9) == "your peer id"
    for name in ("a", "b"):
        holdings.take(stranger(name), 8)
    assert refused(holdings, stranger("c"), 8) == "your subnet"
    for name in ("d", "e"):
        holdings.take(stranger(name, "10.0.0.0/24"), 8)
    assert refused(holdings, stranger("f", "10.9.0.0/24"), 8) == "this node"
    assert holdings.held == 32


def test_a_crowd_leaves_each_peer_its_own_and_the_staked_theirs():
    holdings = Holdings("bytes", LIMITS)
    for number in range(80):
        for _ in range(20):
            try:
                holdings.take(stranger(f"sybil {number}", f"{number}.0.0.0/24"), 1)
            except BudgetUsedUp:
                break
    assert refused(holdings, stranger("honest"), 3) == "this node"
    holdings.take(stranger("honest"), 2)
    holdings.take(Asker("proven", "", Standing.PROVEN), 8)
    holdings.take(Asker("staked", "", Standing.STAKED), 8)
    assert holdings.held <= LIMITS.most


def test_no_more_peers_than_holders_keep_something():
    limits = Limits(Share(4, 99, 4), Share(4, 99, 4), Share(4, 99, 4), kept=1, holders=3)
    holdings = Holdings("bytes", limits)
    for number in range(7):
        holdings.take(stranger(str(number)), 1)
    assert refused(holdings, stranger("7"), 1) == "this node"
    assert holdings.held == limits.most


def test_a_lease_that_cannot_grow_stays_as_it_is():
    holdings = Holdings("bytes", LIMITS)
    with holdings.take(stranger("a"), 6) as lease:
        with pytest.raises(BudgetUsedUp):
            lease.resize(9)
        assert lease.amount == holdings.held == 6
        lease.resize(1)
        assert holdings.held_by("a") == 1
    lease.close()
    assert holdings.held == 0


def test_impossible_limits_are_refused():
    share = Share(8, 8, 8)
    with pytest.raises(ValueError, match="keeps"):
        Limits(Share(1, 8, 8), share, share, kept=2)
    with pytest.raises(ValueError, match="higher"):
        Limits(Share(8, 8, 9), share, share, kept=2)


@pytest.mark.parametrize("concurrency", [1, 2, 3, 4, 16, 64])
def test_calls_are_a_quarter_for_one_peer_and_one_at_least(concurrency):
    calls = Holdings("calls", calls_of(concurrency))
    for _ in range(max(1, concurrency // 4)):
        calls.take(stranger("a"))
    assert refused(calls, stranger("a"), 1) in {"your peer id", "your subnet"}
    calls.take(stranger("b"))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "resize", "close"]),
        st.integers(0, 11),
        st.sampled_from(Standing),
        st.integers(0, 20),
    ),
    max_size=80,
)


@given(STEPS)
def test_sums_never_exceed_a_limit_and_all_comes_back(steps):
    holdings = Holdings("bytes", LIMITS)
    leases: list[Lease] = []
    for what, number, standing, amount in steps:
        who = Asker(f"peer {number}", f"subnet {number % 3}", standing)
        mine = holdings.held_by(who.peer_id)
        try:
            if what == "take":
                leases.append(holdings.take(who, amount))
            elif leases:
                lease = leases[number % len(leases)]
                if what == "resize":
                    lease.resize(amount)
                else:
                    lease.close()
        except BudgetUsedUp:
            # Whoever stays within what it keeps is never refused.
            assert what == "resize" or mine + amount > LIMITS.kept
        assert holdings.held == sum(lease.amount for lease in leases) <= LIMITS.most
        for peer in {lease.who.peer_id for lease in leases}:
            own = [lease for lease in leases if lease.who.peer_id == peer]
            assert holdings.held_by(peer) == sum(lease.amount for lease in own)
            highest = max(own, key=lambda lease: lease.who.standing).who.standing
            assert holdings.held_by(peer) <= LIMITS.of(highest).peer
    for lease in leases:
        lease.close()
        lease.close()
    assert holdings.held == 0
    assert not any((holdings._kept, holdings._shared, holdings._sources))


def test_what_is_built_in_fits_a_node():
    assert BYTES.most <= 256 * 2**20
    assert STREAMS.most <= 12_288
