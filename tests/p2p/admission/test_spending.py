from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.admission.shares import Asker, Limits, Share
from p2p.admission.spending import MAX_PEERS, Spending
from p2p.admission.standing import Standing
from p2p.errors import BudgetUsedUp

LIMITS = Limits(
    strangers=Share(1.0, 2.0, 3.0),
    proven=Share(1.5, 2.5, 4.0),
    staked=Share(2.0, math.inf, 5.0),
    kept=0.1,
    holders=50,
)
HALF_LIFE = 10.0


def spending() -> Spending:
    return Spending("CPU seconds", LIMITS, HALF_LIFE)


def refusal(cpu: Spending, who: Asker, now: float) -> str:
    try:
        cpu.require(who, now)
    except BudgetUsedUp as used_up:
        return used_up.scope
    return ""


def test_a_peer_above_its_limit_waits_until_enough_is_forgotten():
    cpu, peer = spending(), Asker("a", "here")
    cpu.charge(peer, 0.9, 0.0)
    assert refusal(cpu, peer, 0.0) == ""
    cpu.charge(peer, 1.1, 0.0)
    assert refusal(cpu, peer, 0.0) == "your peer id"
    wait = cpu.wait(peer, 0.0)
    assert wait == pytest.approx(HALF_LIFE)
    assert refusal(cpu, peer, wait - 0.1)
    assert refusal(cpu, peer, wait + 0.1) == ""
    assert cpu.wait(peer, 0.0, slack=2.0) == 0.0


def test_a_crowd_uses_up_its_subnet_then_the_strangers_part_and_no_more():
    cpu = spending()
    for number in range(3):
        cpu.charge(Asker(f"sybil {number}", "there"), 0.9, 0.0)
    assert refusal(cpu, Asker("sybil 0", "there"), 0.0) == "your subnet"
    cpu.charge(Asker("other", "elsewhere"), 0.95, 0.0)
    assert refusal(cpu, Asker("other", "elsewhere"), 0.0) == "this node"
    assert refusal(cpu, Asker("proven", "elsewhere", Standing.PROVEN), 0.0) == ""
    assert refusal(cpu, Asker("staked", "there", Standing.STAKED), 0.0) == ""


def test_who_stays_within_its_own_is_let_in_whatever_others_spend():
    cpu, honest = spending(), Asker("honest", "there")
    for number in range(40):
        cpu.charge(Asker(f"sybil {number}", "there"), 5.0, 0.0)
    for second in range(0, 600, 5):
        assert refusal(cpu, honest, second) == ""
        assert cpu.wait(honest, second) == 0.0
        cpu.charge(honest, 0.01, second)


def test_one_huge_piece_of_work_leaves_others_their_part():
    cpu = spending()
    cpu.charge(Asker("huge", "there"), 1000.0, 0.0)
    assert refusal(cpu, Asker("huge", "there"), 0.0) == "your peer id"
    other = Asker("other", "there")
    cpu.charge(other, 0.9, 0.0)
    assert refusal(cpu, other, 0.0) == ""


def test_who_always_comes_back_for_its_own_gets_little():
    """Over its limit, a peer gets what it keeps and no more, however often it asks."""
    cpu, greedy = spending(), Asker("greedy", "there")
    spent = 0.0
    for step in range(10_000):
        for other in range(5):
            cpu.charge(Asker(f"crowd {other}", f"elsewhere {other}"), 1.0, step / 10)
        if not refusal(cpu, greedy, step / 10):
            cpu.charge(greedy, 0.02, step / 10)
            spent += 0.02
    assert spent < LIMITS.kept * 1000.0 / HALF_LIFE


def test_no_more_peers_than_holders_keep_something_until_theirs_is_forgotten():
    cpu = spending()
    for number in range(LIMITS.holders):
        cpu.charge(Asker(f"sybil {number}", "there"), 9.0, 0.0)
    assert refusal(cpu, Asker("late", "elsewhere"), 0.0) == "this node"
    assert refusal(cpu, Asker("late", "elsewhere"), 200.0) == ""


def test_memory_is_bounded():
    cpu = spending()
    for number in range(MAX_PEERS + 500):
        cpu.charge(Asker(str(number), str(number)), 0.2, float(number))
    for meters in (cpu._kept, cpu._shared, cpu._counted, cpu._sources):
        assert len(meters) <= MAX_PEERS


@given(
    st.lists(
        st.tuples(
            st.integers(0, 8),
            st.sampled_from(Standing),
            st.floats(0, 2, allow_nan=False),
            st.floats(0, 30, allow_nan=False),
        ),
        max_size=60,
    )
)
def test_meters_add_up_and_nobody_starts_above_a_limit(steps):
    """A limit is exceeded by the last piece of work at most, which was let in below it."""
    cpu, now, most = spending(), 0.0, 0.0
    names = [f"peer {n}" for n in range(9)]
    for number, standing, cost, pause in steps:
        now += pause
        who = Asker(names[number], f"subnet {number % 3}", standing)
        before = cpu.total(now)
        if refusal(cpu, who, now):
            assert cpu.wait(who, now) >= 0.0
            continue
        own = cpu.level(who.peer_id, now) <= LIMITS.kept / 2
        assert own or before < LIMITS.of(standing).node
        cpu.charge(who, cost, now)
        most = max(most, cost)
        assert cpu.total(now) <= before + cost + 1e-9
        counted = [cpu._counted.level(name, now) for name in names]
        assert sum(counted) == pytest.approx(cpu.total(now), abs=1e-6)
        for name, part in zip(names, counted, strict=True):
            assert part <= min(LIMITS.staked.peer, cpu.level(name, now)) + 1e-6
        assert cpu.total(now) <= len(names) * LIMITS.staked.peer + 1e-6
