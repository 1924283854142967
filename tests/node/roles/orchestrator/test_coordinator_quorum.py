"""Verdicts weighed by stake: who decides about a unit, and who cannot."""

from __future__ import annotations

import pytest

from node.roles.orchestrator.coordinator.commands import BanWorker, VerifyUnit
from node.roles.orchestrator.coordinator.events import (
    ChainQuorum,
    PeerValidates,
    QueueRead,
    Tick,
)
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from tests.node.roles.orchestrator.coordination import Pool, unit, verdicts

ETHER = 10**18


def verifying(all_weight: int = 0, quorum: int = 6_667, **weights: int) -> tuple[Pool, Unit]:
    """A unit that the validators with these stakes were asked about."""
    pool, work = Pool(), unit(1)
    pool.feed(ChainQuorum(all_weight or sum(weights.values()), quorum))
    pool.feed(QueueRead((work,)))
    pool.validators(**weights)
    pool.up()
    pool.produce(work)
    assert pool.state(work) is UnitState.VERIFYING
    return pool, work


def test_stake_decides_and_not_heads() -> None:
    pool, work = verifying(v1=70, v2=20, v3=10)
    assert pool.asked(work) == ["v1", "v2", "v3"]
    pool.verdict(work, accepted=False, judge="v2")
    pool.verdict(work, accepted=False, judge="v3")
    assert pool.state(work) is UnitState.VERIFYING
    commands = pool.verdict(work, judge="v1")
    assert verdicts(commands) == [work.unit_id]
    assert pool.state(work) is UnitState.ACCEPTED
    assert pool.unit(work).verdict == {"validator": "v1"}


@pytest.mark.parametrize(
    ("quorum", "total", "needed"),
    [
        (6_667, 3 * ETHER, 2 * ETHER + ETHER // 10_000),
        (6_667, 3, 3),
        (6_666, 3, 2),
        (10_000, 7, 7),
        (5_001, 1, 1),
        (6_667, 0, 1),
    ],
)
def test_the_quorum_is_rounded_up_as_on_chain(quorum: int, total: int, needed: int) -> None:
    pool = Pool()
    pool.feed(ChainQuorum(total, quorum))
    assert pool.pool.needed_weight == needed


def test_a_minority_that_rejects_honest_work_neither_bans_nor_blocks() -> None:
    pool, work = verifying(v1=30, v2=35, v3=35)
    commands = pool.verdict(work, accepted=False, faulty="w2", judge="v1")
    assert commands == []
    pool.verdict(work, judge="v2")
    assert pool.state(work) is UnitState.VERIFYING
    pool.verdict(work, judge="v3")
    assert pool.state(work) is UnitState.ACCEPTED
    assert pool.pool.members["w2"].state is MemberState.HEALTHY
    assert not [c for c in pool.commands if isinstance(c, BanWorker)]


def test_a_majority_that_convicts_bans() -> None:
    pool, work = verifying(v1=30, v2=35, v3=35)
    pool.verdict(work, judge="v1")
    pool.verdict(work, accepted=False, faulty="w2", judge="v2")
    assert pool.pool.members["w2"].state is MemberState.HEALTHY
    commands = pool.verdict(work, accepted=False, faulty="w2", judge="v3")
    assert BanWorker("w2", "boundary is off") in commands
    assert pool.pool.members["w2"].state is MemberState.BANNED
    assert pool.state(work) is UnitState.QUEUED


def test_a_third_can_block_a_unit_but_bans_nobody() -> None:
    """Without its signature no epoch pays the unit; that says nothing about the worker."""
    pool, work = verifying(v1=34, v2=33, v3=33)
    assert pool.verdict(work, accepted=False, faulty="w2", judge="v1") == []
    pool.verdict(work, judge="v2")
    assert pool.state(work) is UnitState.VERIFYING  # the third is heard before that is said
    pool.verdict(work, judge="v3")
    current = pool.unit(work)
    assert (current.state, current.attempt) == (UnitState.ASSIGNED, 1)
    assert {m.state for m in pool.pool.members.values()} == {MemberState.HEALTHY}


def test_validators_that_convict_different_workers_ban_none_of_them() -> None:
    """That the unit is bad they agree on; who did it, none of them can say alone."""
    pool, work = verifying(v1=30, v2=35, v3=35)
    for judge, faulty in (("v1", "w1"), ("v2", "w2"), ("v3", "w3")):
        pool.verdict(work, accepted=False, faulty=faulty, judge=judge)
    assert pool.unit(work).attempt == 1
    assert {m.state for m in pool.pool.members.values()} == {MemberState.HEALTHY}


def test_a_silent_validator_holds_a_rejection_up_only_until_it_is_late() -> None:
    pool, work = verifying(v1=34, v2=33, v3=33)
    pool.verdict(work, judge="v2")
    pool.verdict(work, accepted=False, judge="v1")
    pool.now += 59.0
    pool.feed(Tick())
    assert pool.state(work) is UnitState.VERIFYING
    pool.now += 1.0
    assert pool.feed(Tick()) == [VerifyUnit(work.unit_id, "v3")]
    pool.feed(Tick())
    assert pool.unit(work).attempt == 1


def test_a_silent_validator_that_leaves_is_waited_for_no_more() -> None:
    pool, work = verifying(v1=34, v2=33, v3=33)
    pool.verdict(work, judge="v2")
    pool.verdict(work, accepted=False, judge="v1")
    pool.validators(v3=0)
    assert pool.unit(work).attempt == 1


def test_nobody_is_late_where_all_have_judged() -> None:
    """A newcomer has its whole time, though the unit has waited for long."""
    pool, work = verifying(all_weight=100, v1=34)
    pool.verdict(work, accepted=False, judge="v1", faulty="w1")
    assert pool.unit(work).attempt == 1
    pool, work = verifying(all_weight=100, v1=33)
    pool.verdict(work, accepted=False, judge="v1", faulty="w1")
    pool.now += 1000.0
    pool.validators(v2=20)
    assert not pool.unit(work).late


def test_who_has_no_stake_decides_nothing() -> None:
    pool, work = verifying(v1=100)
    pool.verdict(work, judge="v9")
    pool.verdict(work, accepted=False, faulty="w1", judge="v8")
    assert pool.state(work) is UnitState.VERIFYING
    assert pool.pool.members["w1"].state is MemberState.HEALTHY


def test_repeating_a_verdict_adds_no_stake() -> None:
    pool, work = verifying(v1=40, v2=60)
    for _ in range(3):
        pool.verdict(work, judge="v1")
    assert pool.state(work) is UnitState.VERIFYING


def test_a_validator_that_leaves_after_it_judged_still_counts() -> None:
    pool, work = verifying(v1=40, v2=60)
    pool.verdict(work, judge="v2")
    pool.validators(v2=0)
    assert pool.state(work) is UnitState.VERIFYING
    pool.verdict(work, judge="v1")
    assert pool.state(work) is UnitState.ACCEPTED


def test_a_unit_waits_while_the_stake_that_is_here_cannot_decide() -> None:
    pool, work = verifying(all_weight=100, v1=60)
    pool.verdict(work, judge="v1")
    pool.now += 1000.0
    assert pool.feed(Tick()) == []
    assert pool.state(work) is UnitState.VERIFYING
    assert pool.feed(PeerValidates("v2", 40)) == [VerifyUnit(work.unit_id, "v2")]
    pool.verdict(work, judge="v2")
    assert pool.state(work) is UnitState.ACCEPTED


def test_a_newcomer_is_asked_about_units_that_are_being_verified_and_only_once() -> None:
    pool, work = verifying(v1=1)
    commands = pool.feed(PeerValidates("v2", 1))
    assert commands == [VerifyUnit(work.unit_id, "v2")]
    assert pool.feed(PeerValidates("v2", 2)) == []
    assert pool.unit(work).pending_validators == ("v1", "v2")


def test_a_unit_without_any_validator_is_not_sent_until_one_comes() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.up()
    pool.produce(work)
    assert pool.state(work) is UnitState.PRODUCED
    assert pool.feed(PeerValidates("v1", 1)) == [VerifyUnit(work.unit_id, "v1")]


def test_what_was_heard_decides_as_soon_as_stakes_allow_it() -> None:
    """Nobody who has judged is asked again, so a change of stakes must not be missed."""
    pool, work = verifying(v1=60, v2=40)
    pool.verdict(work, judge="v1")
    commands = pool.feed(ChainQuorum(80, 6_667))
    assert commands == []  # those who are here still hold 100
    commands = pool.feed(PeerValidates("v2", 0))
    assert verdicts(commands) == [work.unit_id]
    assert pool.state(work) is UnitState.ACCEPTED


def test_a_stake_that_grows_decides_what_was_heard() -> None:
    pool, work = verifying(v1=30, v2=35, v3=35)
    pool.verdict(work, accepted=False, faulty="w1", judge="v1")
    commands = pool.feed(PeerValidates("v1", 200))
    assert BanWorker("w1", "boundary is off") in commands
    assert pool.pool.members["w1"].state is MemberState.BANNED
