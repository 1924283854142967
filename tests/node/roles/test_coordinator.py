"""The orchestrator's decisions, driven by events alone: no network, no clock, no engine."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.roles.orchestrator import events as ev
from node.roles.orchestrator.coordinator import Coordinator
from node.roles.orchestrator.groups import Group, GroupState
from node.roles.orchestrator.members import IllegalTransition, Member, MemberState
from node.roles.orchestrator.pool import Policy
from node.roles.orchestrator.units import MAX_ATTEMPTS, Sequence, Unit, UnitState
from pipeline.planner import Candidate, CannotPlan, GroupPlan, StagePlan

LAYERS = 30
WORKERS = ("w1", "w2", "w3")


def planner(candidates: Seq[Candidate], previous: GroupPlan | None) -> GroupPlan:
    """Even slices over at most three workers; two are the least that can hold the model."""
    if len(candidates) < 2:
        raise CannotPlan("not enough memory")
    names = sorted(c.peer_id for c in candidates)[:3]
    cuts = [LAYERS * i // len(names) for i in range(len(names) + 1)]
    stages = tuple(StagePlan(n, a, b) for n, a, b in zip(names, cuts, cuts[1:], strict=False))
    return GroupPlan(stages, micro_batches=2)


def sequence(number: int) -> Sequence:
    return Sequence(
        sequence_id=number.to_bytes(16, "big"),
        prompt_id=str(number),
        messages=({"role": "user", "content": "hi"},),
        prompt_ids=(1, 2, 3),
        max_tokens=8,
        temperature=0.0,
        top_k=0,
        top_p=1.0,
        noise_key=0,
        seed=0,
        stop=(),
        eos_ids=(0,),
    )


def unit(number: int, size: int = 2) -> Unit:
    sequences = tuple(sequence(number * 100 + i) for i in range(size))
    return Unit(number.to_bytes(32, "big"), "job", sequences)


class Pool:
    """A coordinator with a clock and helpers that play the workers' and validator's part."""

    def __init__(self, stages: int = 3) -> None:
        policy = Policy(stages=stages, formation_wait=10.0, verify_timeout=60.0)
        self.coordinator = Coordinator(policy, planner, identity=b"test")
        self.pool = self.coordinator.pool
        self.now = 0.0
        self.commands: list[ev.Command] = []

    def feed(self, event: ev.Event) -> list[ev.Command]:
        commands = self.coordinator.handle(event, self.now)
        self.commands += commands
        return commands

    def join(self, name: str) -> None:
        self.feed(ev.PeerAnnounced(name, 1 << 30, 0.01, None, ""))
        self.feed(ev.PeerJoined(name, "0x" + name, "0xp" + name))

    def up(self, *names: str) -> Group:
        for name in names or WORKERS:
            self.join(name)
        return self.build_done()

    def build_done(self) -> Group:
        build = [c for c in self.commands if isinstance(c, ev.BuildGroup)][-1]
        self.feed(ev.GroupUp(build.group_id, build.generation))
        return self.pool.groups[build.group_id]

    def produce(self, target: Unit) -> None:
        """Stage 0 finishes every open sequence, then every stage gives its claim."""
        current = self.pool.units[target.unit_id]
        for s in current.sequences:
            self.feed(
                ev.PeerFinished(
                    current.generation, current.unit_id, s.sequence_id, "length", (5,) * 8, "t"
                )
            )
        self.claim(target)

    def claim(self, target: Unit) -> None:
        current = self.pool.units[target.unit_id]
        plan = self.pool.plan_of(current)
        assert plan is not None
        for stage in range(len(plan.stages)):
            self.feed(ev.PeerClaimed(current.unit_id, current.generation, stage, b"claim"))

    def bundle(self, target: Unit) -> bytes:
        """What the service does on VerifyUnit: name the bundle after unit and attempt."""
        current = self.pool.units[target.unit_id]
        bundle_id = current.unit_id[:31] + bytes([current.attempt])
        self.pool.set_bundle(current.unit_id, bundle_id)
        return bundle_id

    def verdict(self, target: Unit, accepted: bool = True, faulty: str = "") -> list[ev.Command]:
        bundle_id = self.bundle(target)
        reason = "" if accepted else "boundary is off"
        return self.feed(ev.PeerVerdict(target.unit_id, bundle_id, accepted, faulty, reason, {}))


def test_a_new_worker_is_invited_once() -> None:
    pool = Pool()
    first = pool.feed(ev.PeerAnnounced("w1", 1, 0.0, None, ""))
    again = pool.feed(ev.PeerAnnounced("w1", 2, 0.0, None, ""))
    assert first == [ev.InviteWorker("w1")]
    assert again == []
    assert pool.pool.members["w1"].memory_bytes == 2


def test_a_failed_invite_is_repeated_later() -> None:
    pool = Pool()
    pool.feed(ev.PeerAnnounced("w1", 1, 0.0, None, ""))
    assert pool.feed(ev.PeerDeclined("w1", "timeout")) == []
    pool.now = 9.0
    assert pool.feed(ev.Tick()) == []
    pool.now = 10.0
    assert pool.feed(ev.Tick()) == [ev.InviteWorker("w1")]


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
    pool.feed(ev.Tick())
    (group,) = pool.pool.groups.values()
    assert group.peers == ("w1", "w2")


def test_units_are_assigned_when_the_group_runs_and_settle_at_the_end() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(ev.OperatorSubmitted((work,)))
    pool.feed(ev.PeerValidates("v1", True))
    group = pool.up()
    assert ev.AssignUnit(group.group_id, group.generation, work.unit_id) in pool.commands
    pool.produce(work)
    assert ev.VerifyUnit(work.unit_id, "v1") in pool.commands
    commands = pool.verdict(work)
    assert ev.RecordVerdict(work.unit_id) in commands
    assert pool.pool.units[work.unit_id].state is UnitState.ACCEPTED
    assert pool.feed(ev.ChainSettled(1, "0xaa", (work.unit_id,))) == [
        ev.RecordSettled(work.unit_id)
    ]
    assert pool.pool.units[work.unit_id].transaction == "0xaa"
    assert pool.feed(ev.ChainSettled(2, "0xbb", (work.unit_id,))) == []


def test_the_window_bounds_sequences_in_flight() -> None:
    pool = Pool()
    pool.pool.policy = Policy(stages=3, sequences_in_flight=3)
    works = tuple(unit(n) for n in range(1, 5))
    pool.feed(ev.OperatorSubmitted(works))
    pool.up()
    assigned = [c for c in pool.commands if isinstance(c, ev.AssignUnit)]
    assert len(assigned) == 2  # two units of two sequences: the second one reaches the window
    pool.feed(ev.PeerValidates("v1", True))
    pool.produce(works[0])
    assigned = [c for c in pool.commands if isinstance(c, ev.AssignUnit)]
    assert len(assigned) == 3


def test_a_death_repairs_the_group_and_keeps_what_was_generated() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(ev.OperatorSubmitted((work,)))
    group = pool.up()
    first = work.sequences[0].sequence_id
    pool.feed(ev.PeerTokens(group.generation, work.unit_id, first, 0, (7, 8)))
    commands = pool.feed(ev.PeerGone("w2", "connection broke"))
    (build,) = [c for c in commands if isinstance(c, ev.BuildGroup)]
    assert build.group_id == group.group_id
    assert [s.peer_id for s in build.plan.stages] == ["w1", "w3"]
    commands = pool.feed(ev.GroupUp(build.group_id, build.generation))
    assert ev.AssignUnit(group.group_id, build.generation, work.unit_id) in commands
    pool.feed(ev.PeerTokens(build.generation, work.unit_id, first, 2, (9,)))
    kept = pool.pool.units[work.unit_id].sequences[0]
    assert kept.output_ids == (7, 8, 9)
    assert kept.segments == ((0, group.generation), (2, build.generation))


def test_a_spare_takes_the_dead_workers_place() -> None:
    pool = Pool()
    pool.up()
    pool.join("w4")
    commands = pool.feed(ev.PeerGone("w2", "gone"))
    (build,) = [c for c in commands if isinstance(c, ev.BuildGroup)]
    assert {s.peer_id for s in build.plan.stages} == {"w1", "w3", "w4"}


def test_a_unit_whose_evidence_died_is_proven_again() -> None:
    pool, work = Pool(), unit(1, size=1)
    pool.feed(ev.OperatorSubmitted((work,)))
    pool.feed(ev.PeerValidates("v1", True))
    group = pool.up()
    only = work.sequences[0].sequence_id
    pool.feed(ev.PeerFinished(group.generation, work.unit_id, only, "length", tuple(range(8)), "t"))
    assert pool.pool.units[work.unit_id].state is UnitState.PRODUCED
    pool.feed(ev.PeerGone("w3", "gone"))
    pool.build_done()
    current = pool.pool.units[work.unit_id]
    assert current.state is UnitState.ASSIGNED
    assert current.sequences[0].output_ids == tuple(range(7))
    assert not current.sequences[0].finished


def test_late_reports_of_an_older_build_change_nothing() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(ev.OperatorSubmitted((work,)))
    group = pool.up()
    pool.feed(ev.PeerGone("w2", "gone"))
    pool.build_done()
    before = pool.pool.units[work.unit_id]
    first = work.sequences[0].sequence_id
    pool.feed(ev.PeerTokens(group.generation, work.unit_id, first, 0, (7,)))
    pool.feed(ev.GroupUp(group.group_id, group.generation))
    pool.feed(ev.GroupBroken(group.group_id, group.generation, "old edge"))
    assert pool.pool.units[work.unit_id] == before
    assert pool.pool.groups[group.group_id].state is GroupState.RUNNING


def test_a_conviction_bans_repairs_and_starts_the_groups_work_again() -> None:
    pool = Pool()
    works = (unit(1), unit(2))
    pool.feed(ev.OperatorSubmitted(works))
    pool.feed(ev.PeerValidates("v1", True))
    group = pool.up()
    first = works[1].sequences[0].sequence_id
    pool.feed(ev.PeerTokens(group.generation, works[1].unit_id, first, 0, (7,)))
    pool.produce(works[0])
    commands = pool.verdict(works[0], accepted=False, faulty="w2")
    assert ev.BanWorker("w2", "boundary is off") in commands
    assert pool.pool.members["w2"].state is MemberState.BANNED
    (build,) = [c for c in commands if isinstance(c, ev.BuildGroup)]
    assert "w2" not in {s.peer_id for s in build.plan.stages}
    for work in works:
        current = pool.pool.units[work.unit_id]
        assert current.state is UnitState.QUEUED
        assert all(not s.output_ids for s in current.sequences)
    pool.feed(ev.PeerAnnounced("w2", 1, 0.0, None, ""))
    assert pool.pool.members["w2"].state is MemberState.BANNED


def test_a_verdict_on_another_bundle_is_ignored() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(ev.OperatorSubmitted((work,)))
    pool.feed(ev.PeerValidates("v1", True))
    pool.up()
    pool.produce(work)
    pool.bundle(work)
    assert pool.feed(ev.PeerVerdict(work.unit_id, b"x" * 32, True, "", "", {})) == []
    assert pool.pool.units[work.unit_id].state is UnitState.VERIFYING


def test_a_unit_rejected_too_often_expires() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(ev.OperatorSubmitted((work,)))
    pool.feed(ev.PeerValidates("v1", True))
    pool.up()
    for _ in range(MAX_ATTEMPTS):
        pool.produce(work)
        pool.verdict(work, accepted=False)
    assert pool.pool.units[work.unit_id].state is UnitState.EXPIRED
    assert pool.feed(ev.Tick()) == []


def test_a_silent_validator_is_asked_again_and_then_another_one() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(ev.OperatorSubmitted((work,)))
    pool.feed(ev.PeerValidates("v1", True))
    pool.feed(ev.PeerValidates("v2", True))
    pool.up()
    pool.produce(work)
    pool.now += 60.0
    asked = [c.validator for c in pool.feed(ev.Tick()) if isinstance(c, ev.VerifyUnit)]
    first = next(c.validator for c in pool.commands if isinstance(c, ev.VerifyUnit))
    assert len(asked) == 1
    assert asked != [first]


def test_three_missed_pings_are_a_death() -> None:
    pool = Pool()
    pool.up()
    pool.feed(ev.PeerPinged("w1", False))
    assert pool.pool.members["w1"].state is MemberState.UNHEALTHY
    pool.feed(ev.PeerPinged("w1", True))
    assert pool.pool.members["w1"].state is MemberState.HEALTHY
    for _ in range(3):
        pool.feed(ev.PeerPinged("w1", False))
    assert pool.pool.members["w1"].state is MemberState.DEAD


def test_illegal_transitions_raise_and_change_nothing() -> None:
    member = Member("w", MemberState.BANNED)
    with pytest.raises(IllegalTransition):
        member.to(MemberState.HEALTHY)
    with pytest.raises(IllegalTransition):
        unit(1).to(UnitState.SETTLED)


PEER_EVENTS = ["announce", "join", "decline", "miss", "pong", "gone", "tokens", "finish", "claim"]
OTHER_EVENTS = ["up", "broken", "claims_failed", "accept", "reject", "settle", "tick"]
EVENTS = st.sampled_from([*PEER_EVENTS, *OTHER_EVENTS])


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=120), st.integers(0, 2**32))
def test_any_order_of_events_keeps_the_books_straight(names: list[str], seed: int) -> None:
    """Whatever happens: no illegal step, no worker in two rings, and nothing is paid twice."""
    choose = random.Random(seed)
    pool = Pool(stages=choose.choice([0, 2, 3]))
    works = tuple(unit(n) for n in range(1, 4))
    pool.feed(ev.OperatorSubmitted(works))
    pool.feed(ev.PeerValidates("v1", True))
    settled: list[bytes] = []
    for name in names:
        pool.now += choose.random() * 5
        for command in pool.feed(_event(name, pool, works, choose)):
            if isinstance(command, ev.RecordSettled):
                settled.append(command.unit_id)
        live = [g for g in pool.pool.groups.values() if g.live]
        peers = [p for g in live if g.state is not GroupState.REPAIRING for p in g.peers]
        assert len(peers) == len(set(peers))
        assert len(settled) == len(set(settled))
        for work in works:
            for s in pool.pool.units[work.unit_id].sequences:
                assert len(s.output_ids) <= s.max_tokens


def _event(name: str, pool: Pool, works: Seq[Unit], choose: random.Random) -> ev.Event:
    peer = choose.choice([*WORKERS, "w4"])
    current = pool.pool.units[choose.choice(works).unit_id]
    groups = list(pool.pool.groups.values())
    group = choose.choice(groups) if groups else None
    group_id = group.group_id if group else b""
    generation = group.generation if group and choose.random() < 0.9 else 1
    seq = choose.choice(current.sequences)
    ids = tuple(choose.randrange(9) for _ in range(choose.randint(1, 9)))
    offset = choose.randint(0, len(seq.output_ids))
    grown = (seq.output_ids + ids)[:8]
    match name:
        case "announce":
            return ev.PeerAnnounced(peer, 1, 0.0, None, "")
        case "join":
            return ev.PeerJoined(peer, "0x", "0x")
        case "decline":
            return ev.PeerDeclined(peer, "no")
        case "miss" | "pong":
            return ev.PeerPinged(peer, name == "pong")
        case "gone":
            return ev.PeerGone(peer, "gone")
        case "up":
            return ev.GroupUp(group_id, generation)
        case "broken":
            return ev.GroupBroken(group_id, generation, "broke", choose.choice([peer, ""]))
        case "tokens":
            return ev.PeerTokens(generation, current.unit_id, seq.sequence_id, offset, ids)
        case "finish":
            return ev.PeerFinished(
                generation, current.unit_id, seq.sequence_id, "length", grown, "t"
            )
        case "claim":
            return ev.PeerClaimed(current.unit_id, generation, choose.randrange(3), b"c")
        case "claims_failed":
            return ev.ClaimsFailed(current.unit_id, generation, "late")
        case "accept" | "reject":
            if current.state is UnitState.VERIFYING:
                pool.bundle(current)
            bundle_id = pool.pool.units[current.unit_id].bundle_id
            faulty = peer if name == "reject" and choose.random() < 0.3 else ""
            return ev.PeerVerdict(current.unit_id, bundle_id, name == "accept", faulty, name, {})
        case "settle":
            return ev.ChainSettled(1, "0x1", (current.unit_id,))
    return ev.Tick()
