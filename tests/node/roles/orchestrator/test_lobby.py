"""What the table of workers counts as it goes is what counting anew would give."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from node.roles.orchestrator.coordinator.events import (
    Event,
    PeerAnnounced,
    PeerDeclined,
    PeerGone,
    PeerJoined,
    PeerPinged,
    Tick,
)
from node.roles.orchestrator.coordinator.lobby.lapses import MAX_SUBNETS, WORST, Lapses
from node.roles.orchestrator.coordinator.lobby.table import AWAY, JOINED, MemberTable
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.pool import PoolLimits
from p2p.admission.standing import Standing
from tests.node.roles.orchestrator.coordination import Pool

LIMITS = PoolLimits(members=6, invites=8, idle=2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 80))
def test_any_order_of_events_keeps_the_table_straight(seed: int, count: int) -> None:
    choose, pool = random.Random(seed), Pool(limits=LIMITS)
    tables = pool.coordinator._applier._tables
    for _ in range(count):
        pool.now += choose.random() * 15
        if choose.random() < 0.1:
            tables.served([f"w{choose.randrange(9)}"])
        if choose.random() < 0.1:  # the journal took nothing
            pool.coordinator.decide((_event(choose),), pool.now)
            pool.pool.revert()
            _check(tables.members)
        pool.feed(_event(choose))
        _check(tables.members)
        assert len(tables.members) <= LIMITS.members
        assert sum(tables.members.open.values()) <= LIMITS.invites
        assert tables.members.idle.size <= LIMITS.idle + len(tables.taken())
        assert dict(pool.pool.members) == dict(tables.members)


def _event(choose: random.Random) -> Event:
    peer = f"w{choose.randrange(9)}"
    match choose.choice(
        ["announce", "announce", "join", "join", "decline", "miss", "gone", "tick"]
    ):
        case "announce":
            subnet = choose.choice(["", "a", "b"])
            return PeerAnnounced(peer, 1, 0.0, None, "", subnet, choose.choice(list(Standing)))
        case "join":
            return PeerJoined(peer, "0x", "0x")
        case "decline":
            return PeerDeclined(peer, "no", choose.choice([0.0, 5.0]))
        case "miss":
            return PeerPinged(peer, False)
        case "gone":
            return PeerGone(peer, "gone")
    return Tick()


def _check(table: MemberTable) -> None:
    members = list(table.values())
    for state in MemberState:
        in_state = {m.peer_id for m in members if m.state is state}
        assert {m.peer_id for m in table.in_state(state)} == in_state
        assert table.count(state) == len(in_state)
    for level in Standing:
        of_level = [m for m in members if m.level is level]
        invited = [m for m in of_level if m.state is MemberState.INVITED]
        assert table.open[level] == len(invited)
        away = sum(crowd.size for (at, _), crowd in table._away.items() if at is level)
        assert away == sum(m.state in AWAY for m in of_level)
        ready = table.ready[level]
        waiting = {m.peer_id for m in of_level if m.state is MemberState.DISCOVERED}
        assert {p for crowd in ready._by_subnet.values() for p in crowd} <= waiting
        for subnet in ("", "a", "b"):
            assert table.open_from[level, subnet] == sum(m.subnet == subnet for m in invited)
    joined = [m for m in members if m.state in JOINED and m.newcomer]
    assert table.idle.size == len(joined)
    assert all(table.idle.count(s) == sum(m.subnet == s for m in joined) for s in ("", "a", "b"))


def test_everybody_whose_wait_is_over_is_ready_whatever_its_record_says_meanwhile() -> None:
    pool = Pool()
    pool.feed(PeerAnnounced("w1", 1, 0.0, None, "", "a"))
    pool.feed(PeerDeclined("w1", "busy"))
    pool.feed(PeerAnnounced("w1", 2, 0.0, None, "", "b"))
    pool.now = 9.0
    pool.feed(PeerAnnounced("w1", 3, 0.0, None, "", ""))
    assert pool.pool.members["w1"].state is MemberState.DISCOVERED
    pool.now = 10.0
    pool.feed(Tick())
    assert pool.pool.members["w1"].state is MemberState.INVITED


def test_lapses_are_bounded_fade_and_are_cleared_by_work() -> None:
    lapses = Lapses()
    for number in range(2 * MAX_SUBNETS):
        lapses.note(str(number), 0.0)
    assert lapses.rank("0", 0.0) == 0
    last = str(2 * MAX_SUBNETS - 1)
    for _ in range(10):
        lapses.note(last, 0.0)
    assert lapses.rank(last, 0.0) == WORST
    assert lapses.rank(last, 6 * 3600.0) == 0
    lapses.clear(last)
    assert lapses.rank(last, 0.0) == 0
