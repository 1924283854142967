"""Free identities hold no worker's place in a pool: invites, the table, and rings.

Each of these used to keep an honest worker out for hours; see `siege.py` for what the Sybils do.
"""

from __future__ import annotations

import pytest

from node.roles.orchestrator.coordinator.events import (
    PeerAnnounced,
    PeerDeclined,
    PeerJoined,
    PeerPinged,
)
from node.roles.orchestrator.coordinator.members import PINGS_TO_DEATH, MemberState
from node.roles.orchestrator.coordinator.pool import PoolLimits
from p2p.admission.standing import Standing
from tests.node.roles.orchestrator.coordination import Pool
from tests.node.roles.orchestrator.siege import HONEST, Siege

LOADS = 5.0


@pytest.mark.parametrize(
    ("sybils", "subnets", "how"),
    [
        (400, 16, {}),
        (4096, 16, {}),
        (4096, 256, {}),
        (4096, 16, {"refuses": 1.9}),
        (4096, 16, {"connected": False}),
        (4096, 16, {"standing": Standing.PROVEN}),
    ],
)
def test_an_honest_worker_works_though_sybils_hold_invites(
    sybils: int, subnets: int, how: dict[str, object]
) -> None:
    """However they hold them, and though their records were here first."""
    siege = Siege(sybils, subnets, **how)  # type: ignore[arg-type]
    siege.run(3.0)
    siege.arrive()
    assert siege.wait_for(siege.invited, 60.0) <= 10.0
    assert siege.wait_for(siege.working, 60.0) <= LOADS + 1.0
    assert set(siege.working) <= set(HONEST)


def test_where_each_sybil_has_a_subnet_of_its_own_all_take_turns() -> None:
    siege = Siege(400, 400)
    siege.run(3.0)
    siege.arrive()
    assert siege.wait_for(siege.invited, 60.0) <= 20.0


@pytest.mark.parametrize(("sybils", "subnets", "longest"), [(400, 1, 30.0), (400, 4, 60.0)])
def test_an_honest_worker_works_though_sybils_join_and_never_load(
    sybils: int, subnets: int, longest: float
) -> None:
    """They claim to be the best. Two subnets are found out every half a minute."""
    siege = Siege(sybils, subnets, joins=True)
    siege.run(3.0)
    siege.arrive()
    assert siege.wait_for(siege.invited, 60.0) <= 10.0
    assert siege.wait_for(siege.working, 600.0) <= longest + LOADS + 1.0


def test_workers_that_join_and_never_serve_are_bounded_and_leave_for_others() -> None:
    siege = Siege(600, 4, joins=True)
    siege.run(5.0)
    siege.arrive()
    siege.run(5.0)
    members = siege.coordinator.pool.members
    joined = [m for m in members.values() if m.state is MemberState.HEALTHY]
    assert len(joined) <= PoolLimits().idle
    assert {members[name].state for name in HONEST} == {MemberState.HEALTHY}


def test_a_worker_that_serves_or_is_staked_does_not_leave_the_table_for_strangers() -> None:
    pool = Pool(limits=PoolLimits(members=4, invites=4))
    pool.up()
    staked = PeerAnnounced("staked", 1, 0.0, None, "", "192.0.2.0/24", Standing.STAKED)
    pool.feed(staked)
    pool.feed(PeerDeclined("staked", "busy"))
    pool.coordinator._applier._tables.served(["w3"])
    for _ in range(PINGS_TO_DEATH):
        pool.feed(PeerPinged("w3", False))
    for number in range(100):
        pool.feed(PeerAnnounced(f"sybil{number}", 1, 0.0, None, "", "198.51.0.0/24"))
    assert set(pool.pool.members) == {"w1", "w2", "w3", "staked"}


def test_of_strangers_those_that_let_an_invite_lapse_leave_first_then_the_newest_of_a_crowd() -> (
    None
):
    pool = Pool(limits=PoolLimits(members=3, invites=1))

    def seen(name: str, subnet: str) -> None:
        pool.feed(PeerAnnounced(name, 1, 0.0, None, "", subnet))

    seen("open", "a")
    seen("early", "b")
    seen("late", "b")
    seen("newcomer", "c")
    assert set(pool.pool.members) == {"open", "early", "newcomer"}
    pool.feed(PeerDeclined("open", "no answer", 10.0))
    (invited,) = [m for m in pool.pool.members.values() if m.state is MemberState.INVITED]
    seen("another", "b")
    assert "open" not in pool.pool.members
    assert invited.peer_id in pool.pool.members


def test_whoever_comes_back_without_having_served_waits_longer_each_time() -> None:
    pool, waits = Pool(), []
    for _ in range(4):
        pool.feed(PeerAnnounced("w1", 1, 0.0, None, ""))
        waits.append(pool.pool.members["w1"].retry_at - pool.now)
        pool.now = max(pool.now, pool.pool.members["w1"].retry_at)
        pool.feed(PeerAnnounced("w1", 2, 0.0, None, ""))
        pool.feed(PeerJoined("w1", "0x1", "0x1"))
        assert pool.pool.members["w1"].state is MemberState.HEALTHY
        for _ in range(PINGS_TO_DEATH):
            pool.feed(PeerPinged("w1", False))
    assert waits == [0.0, 0.0, 10.0, 20.0]
