"""The orchestrator among workers and validators that fail it without being caught."""

from __future__ import annotations

import pytest

from node.roles.orchestrator.coordinator.commands import (
    AssignUnit,
    BuildGroup,
    InviteWorker,
)
from node.roles.orchestrator.coordinator.events import (
    ClaimsFailed,
    GroupBroken,
    GroupUp,
    PeerAnnounced,
    PeerDeclined,
    PeerFinished,
    PeerTokens,
    QueueRead,
    Tick,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.pool import Policy, PoolLimits
from node.roles.orchestrator.coordinator.stalls import floor_of
from node.roles.orchestrator.coordinator.units import UnitState
from proofs.evidence.sequence import FinishReason
from tests.node.roles.orchestrator.coordination import WORKERS, Pool, sequence, unit


def test_a_silent_ring_is_rebuilt_and_then_its_stages_take_turns_to_stay_out() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.up()
    patience = pool.pool.policy.stall_timeout
    pool.now += patience - 1
    assert not pool.feed(Tick())
    rings = []
    for _ in range(3):
        before = pool.pool.generation
        pool.now += patience
        pool.feed(Tick())
        pool.now += 30.0
        pool.feed(Tick())
        assert pool.pool.generation == before + 1
        rings.append(len(pool.build_done().peers))
    assert rings == [3, 2, 2]
    assert [m.strikes for m in pool.pool.members.values()] == [0, 0, 0]


def test_a_token_now_and_then_is_a_stall() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    group = pool.up()
    pool.now += 1
    pool.feed(Tick())
    first = work.sequences[0].sequence_id
    pool.now += pool.pool.policy.stall_timeout - 2
    pool.feed(PeerTokens(group.generation, work.unit_id, first, 0, (5,)))
    pool.feed(Tick())
    assert pool.pool.groups[group.group_id].state is GroupState.RUNNING
    pool.now += 1
    pool.feed(Tick())
    broken = pool.pool.groups[group.group_id]
    assert broken.state is GroupState.REPAIRING
    assert broken.reason == "the ring brought 0.01 tokens/s for 120 s, under 0.10"


def test_the_floor_follows_from_what_the_plan_promised() -> None:
    policy = Policy()
    assert floor_of(policy, 0.0) == 0.1
    assert floor_of(policy, 1.0) == 0.1
    assert floor_of(policy, 0.05) == pytest.approx(0.2)
    assert floor_of(policy, 0.001) == 0.5


def test_tokens_hold_the_stall_off_as_long_as_they_come_fast_enough() -> None:
    pool, works = Pool(), tuple(unit(n) for n in range(1, 10))
    pool.feed(QueueRead(works))
    group = pool.up()
    for work in works:  # 16 tokens in each 60 s
        pool.now += 60.0
        pool.produce(work)
        pool.feed(Tick())
        assert pool.pool.groups[group.group_id].state is GroupState.RUNNING


def test_a_repetition_is_no_progress() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    group = pool.up()
    for _ in range(4):
        pool.feed(Tick())
        pool.feed(
            PeerTokens(
                group.generation, work.unit_id, work.sequences[0].sequence_id, 0, (5, 5, 5, 5)
            )
        )
        pool.now += 39.0
    pool.feed(Tick())
    broken = pool.pool.groups[group.group_id]
    assert broken.state is GroupState.REPAIRING
    assert broken.reason == "the ring brought no token for 156 s"


def test_a_unit_that_stage_0_withholds_rests_stage_0() -> None:
    """One that gets nothing, and one that gets a token now and then."""
    for drip in (False, True):
        pool, held = Pool(sequences_in_flight=8), unit(1)
        others = tuple(unit(n) for n in range(2, 80))
        pool.feed(QueueRead((held, *others)))
        group = pool.up()
        first, given = held.sequences[0].sequence_id, 0
        for work in others:
            pool.now += 50.0
            if drip and pool.now >= 590.0 * (given + 1):
                pool.feed(PeerTokens(group.generation, held.unit_id, first, given, (7,)))
                given += 1
            pool.feed(Tick())
            if pool.pool.groups[group.group_id].state is not GroupState.RUNNING:
                break
            pool.produce(work)
        assert pool.now == (850.0 if drip else 600.0)
        assert pool.pool.groups[group.group_id].state is not GroupState.RUNNING
        assert [m.peer_id for m in pool.pool.members.values() if m.strikes] == ["w1"]


def test_a_stage_without_evidence_rests_and_another_build_proves_the_unit() -> None:
    pool, work = Pool(), unit(1, size=1)
    pool.feed(QueueRead((work,)))
    group = pool.up()
    only = work.sequences[0].sequence_id
    pool.feed(
        PeerFinished(group.generation, work.unit_id, only, FinishReason.LENGTH, tuple(range(8)))
    )
    pool.feed(ClaimsFailed(work.unit_id, group.generation, "nothing", ("w3",)))
    assert pool.unit(work).state is UnitState.PRODUCED
    pool.now += 1.0
    commands = pool.feed(Tick())
    (build,) = [c for c in commands if isinstance(c, BuildGroup)]
    assert [s.peer_id for s in build.plan.stages] == ["w1", "w2"]
    commands = pool.feed(GroupUp(build.group_id, build.generation))
    assert AssignUnit(group.group_id, build.generation, work.unit_id) in commands
    late = pool.feed(ClaimsFailed(work.unit_id, group.generation, "late", ("w1",)))
    assert late == []
    assert pool.pool.members["w1"].strikes == 0


def test_a_ring_that_never_lasts_is_rebuilt_ever_more_slowly() -> None:
    pool = Pool()
    group = pool.up()
    delays = []
    for _ in range(8):
        current = pool.pool.groups[group.group_id]
        pool.feed(GroupBroken(group.group_id, current.generation, "edge"))
        delays.append(pool.pool.groups[group.group_id].retry_at - pool.now)
        pool.now += delays[-1]
        pool.feed(Tick())
        pool.build_done()
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    pool.now += 60.0
    current = pool.pool.groups[group.group_id]
    pool.feed(GroupBroken(group.group_id, current.generation, "edge"))
    assert pool.pool.groups[group.group_id].retry_at - pool.now == 0.25


def test_a_rejected_unit_is_judged_anew_by_all_and_old_opinions_are_forgotten() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.validators(v1=1, v2=1)
    pool.up()
    pool.produce(work)
    pool.verdict(work, judge="v2")
    pool.verdict(work, accepted=False)
    again = pool.unit(work)
    assert (again.state, again.attempt) == (UnitState.ASSIGNED, 1)
    assert (again.asked, again.opinions) == ((), {})
    pool.produce(work)
    assert pool.asked(work) == ["v1", "v2"] * 2
    pool.verdict(work, judge="v1")
    assert pool.state(work) is UnitState.VERIFYING
    pool.verdict(work, judge="v2")
    assert pool.state(work) is UnitState.ACCEPTED


def test_strangers_do_not_grow_the_tables_without_end() -> None:
    pool = Pool(limits=PoolLimits(members=4, invites=4))
    pool.up()
    invited = 0
    for number in range(50):
        name = f"sybil{number}"
        commands = pool.feed(PeerAnnounced(name, 1, 0.0, None, ""))
        for command in commands:
            if isinstance(command, InviteWorker):
                invited += 1
                pool.feed(PeerDeclined(command.peer_id, "no"))
    assert len(pool.pool.members) == 4
    assert set(WORKERS) <= set(pool.pool.members)
    assert invited == 50
    waits = []
    for _ in range(8):
        (name,) = [m.peer_id for m in pool.pool.members.values() if m.peer_id == "sybil49"]
        waits.append(pool.pool.members[name].retry_at - pool.now)
        pool.now = pool.pool.members[name].retry_at
        pool.feed(Tick())
        pool.feed(PeerDeclined(name, "no"))
    assert waits[:3] == [10.0, 20.0, 40.0]
    assert waits[-1] == 600.0


def test_what_another_build_must_prove_again_loses_its_last_token_and_its_segment() -> None:
    done = sequence(1).ended(3, FinishReason.EOS, (7, 8))
    grown = done.reopened().extended(4, 1, (9,))
    assert grown.output_ids == (7, 9)
    assert grown.segments == ((0, 3), (1, 4))
    short = sequence(1).extended(3, 0, (7,)).reopened()
    assert short.output_ids == ()
    assert short.segments == ()
    assert sequence(1).ended(3, FinishReason.EOS, ()) == sequence(1)
