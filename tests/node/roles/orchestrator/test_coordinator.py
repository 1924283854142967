"""The orchestrator's decisions, driven by events alone: no network, no clock, no engine."""

from __future__ import annotations

import pytest

from node.roles.orchestrator.coordinator.commands import (
    AssignUnit,
    BanWorker,
    BuildGroup,
    InviteWorker,
    VerifyUnit,
)
from node.roles.orchestrator.coordinator.events import (
    GroupBroken,
    GroupUp,
    PeerAnnounced,
    PeerDeclined,
    PeerFinished,
    PeerGone,
    PeerPinged,
    PeerTokens,
    PeerVerdict,
    QueueRead,
    Tick,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.members import IllegalTransition, Member, MemberState
from node.roles.orchestrator.coordinator.units import MAX_ATTEMPTS, UnitState
from proofs.evidence.sequence import FinishReason
from tests.node.roles.orchestrator.coordination import WORKERS, Pool, unit, verdicts


def test_a_new_worker_is_invited_once() -> None:
    pool = Pool()
    first = pool.feed(PeerAnnounced("w1", 1, 0.0, None, ""))
    again = pool.feed(PeerAnnounced("w1", 2, 0.0, None, ""))
    assert first == [InviteWorker("w1")]
    assert again == []
    assert pool.pool.members["w1"].memory_bytes == 2


def test_a_failed_invite_is_repeated_later() -> None:
    pool = Pool()
    pool.feed(PeerAnnounced("w1", 1, 0.0, None, ""))
    assert pool.feed(PeerDeclined("w1", "timeout")) == []
    pool.now = 9.0
    assert pool.feed(Tick()) == []
    pool.now = 10.0
    assert pool.feed(Tick()) == [InviteWorker("w1")]


def test_a_group_waits_for_the_wanted_number_of_stages() -> None:
    pool = Pool(stages=3)
    pool.join("w1")
    pool.join("w2")
    assert not pool.pool.groups
    pool.join("w3")
    (group,) = pool.pool.groups.values()
    assert group.peers == WORKERS
    assert [s.last_layer for s in group.plan.stages] == [10, 20, 30]


def test_a_group_takes_what_is_there_after_the_wait() -> None:
    pool = Pool(stages=3)
    pool.join("w1")
    pool.join("w2")
    pool.now = 10.0
    pool.feed(Tick())
    (group,) = pool.pool.groups.values()
    assert group.peers == ("w1", "w2")


def test_units_are_assigned_when_the_group_runs_and_leave_the_tables_at_the_end() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.validators(v1=1)
    group = pool.up()
    assert AssignUnit(group.group_id, group.generation, work.unit_id) in pool.commands
    pool.produce(work)
    assert VerifyUnit(work.unit_id, "v1") in pool.commands
    commands = pool.verdict(work)
    assert verdicts(commands) == [work.unit_id]
    assert pool.unit(work).state is UnitState.ACCEPTED
    assert work.unit_id not in pool.pool.units  # what came of it is on disk
    assert pool.pool.unit_id_of(work.sequences[0].sequence_id) == b""


def test_the_window_bounds_sequences_in_flight() -> None:
    pool = Pool(sequences_in_flight=3)
    works = tuple(unit(n) for n in range(1, 5))
    pool.feed(QueueRead(works))
    pool.up()
    assigned = [c for c in pool.commands if isinstance(c, AssignUnit)]
    assert len(assigned) == 2  # two units of two sequences: the second one reaches the window
    pool.validators(v1=1)
    pool.produce(works[0])
    assigned = [c for c in pool.commands if isinstance(c, AssignUnit)]
    assert len(assigned) == 3


def test_a_death_repairs_the_group_and_keeps_what_was_generated() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    group = pool.up()
    first = work.sequences[0].sequence_id
    pool.feed(PeerTokens(group.generation, work.unit_id, first, 0, (7, 8)))
    commands = pool.feed(PeerGone("w2", "connection broke"))
    (build,) = [c for c in commands if isinstance(c, BuildGroup)]
    assert build.group_id == group.group_id
    assert [s.peer_id for s in build.plan.stages] == ["w1", "w3"]
    commands = pool.feed(GroupUp(build.group_id, build.generation))
    assert AssignUnit(group.group_id, build.generation, work.unit_id) in commands
    pool.feed(PeerTokens(build.generation, work.unit_id, first, 2, (9,)))
    kept = pool.unit(work).sequences[0]
    assert kept.output_ids == (7, 8, 9)
    assert kept.segments == ((0, group.generation), (2, build.generation))


def test_a_spare_takes_the_dead_workers_place() -> None:
    pool = Pool()
    pool.up()
    pool.join("w4")
    commands = pool.feed(PeerGone("w2", "gone"))
    (build,) = [c for c in commands if isinstance(c, BuildGroup)]
    assert {s.peer_id for s in build.plan.stages} == {"w1", "w3", "w4"}


def test_a_unit_whose_evidence_died_is_proven_again() -> None:
    pool, work = Pool(), unit(1, size=1)
    pool.feed(QueueRead((work,)))
    pool.validators(v1=1)
    group = pool.up()
    only = work.sequences[0].sequence_id
    pool.feed(
        PeerFinished(group.generation, work.unit_id, only, FinishReason.LENGTH, tuple(range(8)))
    )
    assert pool.unit(work).state is UnitState.PRODUCED
    pool.feed(PeerGone("w3", "gone"))
    pool.build_done()
    current = pool.unit(work)
    assert current.state is UnitState.ASSIGNED
    assert current.sequences[0].output_ids == tuple(range(7))
    assert not current.sequences[0].finished


def test_late_reports_of_an_older_build_change_nothing() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    group = pool.up()
    pool.feed(PeerGone("w2", "gone"))
    pool.build_done()
    before = pool.unit(work)
    first = work.sequences[0].sequence_id
    pool.feed(PeerTokens(group.generation, work.unit_id, first, 0, (7,)))
    pool.feed(GroupUp(group.group_id, group.generation))
    pool.feed(GroupBroken(group.group_id, group.generation, "old edge"))
    assert pool.unit(work) == before
    assert pool.pool.groups[group.group_id].state is GroupState.RUNNING


def test_a_conviction_bans_repairs_and_starts_the_groups_work_again() -> None:
    pool = Pool()
    works = (unit(1), unit(2))
    pool.feed(QueueRead(works))
    pool.validators(v1=1)
    group = pool.up()
    first = works[1].sequences[0].sequence_id
    pool.feed(PeerTokens(group.generation, works[1].unit_id, first, 0, (7,)))
    pool.produce(works[0])
    commands = pool.verdict(works[0], accepted=False, faulty="w2")
    assert BanWorker("w2", "boundary is off") in commands
    assert pool.pool.members["w2"].state is MemberState.BANNED
    (build,) = [c for c in commands if isinstance(c, BuildGroup)]
    assert "w2" not in {s.peer_id for s in build.plan.stages}
    for work in works:
        current = pool.unit(work)
        assert current.state is UnitState.QUEUED
        assert all(not s.output_ids for s in current.sequences)
    pool.feed(PeerAnnounced("w2", 1, 0.0, None, ""))
    assert pool.pool.members["w2"].state is MemberState.BANNED


def test_a_doubted_worker_rests_and_its_unit_starts_again_without_it() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.validators(v1=1, v2=1, v3=1)
    pool.up()
    pool.produce(work)
    pool.verdict(work, accepted=False, doubted="w2", judge="v1")
    assert pool.state(work) is UnitState.VERIFYING
    pool.verdict(work, accepted=False, doubted="w2", judge="v2")
    pool.verdict(work, accepted=False, judge="v3")  # a third one doubts nobody
    assert pool.state(work) is UnitState.QUEUED
    pool.now += 10.0
    commands = pool.feed(Tick())
    (build,) = [c for c in commands if isinstance(c, BuildGroup)]
    assert "w2" not in {s.peer_id for s in build.plan.stages}
    assert pool.pool.members["w2"].state is MemberState.HEALTHY  # not banned
    assert not [c for c in pool.commands if isinstance(c, BanWorker)]


def test_a_verdict_on_another_bundle_is_ignored() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.validators(v1=1)
    pool.up()
    pool.produce(work)
    pool.bundle(work)
    assert pool.feed(PeerVerdict("v1", work.unit_id, b"x" * 32, True, "", "", {})) == []
    assert pool.unit(work).state is UnitState.VERIFYING


def test_a_unit_rejected_too_often_expires() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.validators(v1=1)
    pool.up()
    for _ in range(MAX_ATTEMPTS):
        pool.produce(work)
        pool.verdict(work, accepted=False)
    assert pool.unit(work).state is UnitState.EXPIRED
    assert pool.feed(Tick()) == []


def test_every_validator_is_asked_at_once_and_a_silent_one_again() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.validators(v1=1, v2=1)
    pool.up()
    pool.produce(work)
    assert pool.asked(work) == ["v1", "v2"]
    pool.now += 59.0
    assert pool.feed(Tick()) == []
    pool.verdict(work, judge="v2")
    pool.now += 1.0
    assert pool.feed(Tick()) == [VerifyUnit(work.unit_id, "v1")]
    pool.now += 59.0
    assert pool.feed(Tick()) == []
    pool.now += 1.0
    assert pool.feed(Tick()) == [VerifyUnit(work.unit_id, "v1")]


def test_three_missed_pings_are_a_death() -> None:
    pool = Pool()
    pool.up()
    pool.feed(PeerPinged("w1", False))
    assert pool.pool.members["w1"].state is MemberState.UNHEALTHY
    pool.feed(PeerPinged("w1", True))
    assert pool.pool.members["w1"].state is MemberState.HEALTHY
    for _ in range(3):
        pool.feed(PeerPinged("w1", False))
    assert pool.pool.members["w1"].state is MemberState.DEAD


def test_illegal_transitions_raise_and_change_nothing() -> None:
    member = Member("w", MemberState.BANNED)
    with pytest.raises(IllegalTransition):
        member.to(MemberState.HEALTHY)
    with pytest.raises(IllegalTransition):
        unit(1).to(UnitState.SETTLED)
