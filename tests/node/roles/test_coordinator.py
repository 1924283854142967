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


def test_a_silent_ring_is_rebuilt_and_then_stage_after_stage_rests() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(ev.OperatorSubmitted((work,)))
    pool.up()
    patience = pool.pool.policy.stall_timeout
    pool.now += patience - 1
    assert not pool.feed(ev.Tick())
    rested = []
    for _ in range(3):
        before = pool.pool.generation
        pool.now += patience
        pool.feed(ev.Tick())
        pool.now += 30.0
        pool.feed(ev.Tick())
        assert pool.pool.generation == before + 1
        rested.append([m.peer_id for m in pool.pool.members.values() if m.strikes])
        pool.build_done()
    assert rested == [[], ["w1"], ["w1", "w2"]]


def test_tokens_hold_the_stall_off_and_a_finished_unit_clears_it() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(ev.OperatorSubmitted((work,)))
    group = pool.up()
    first = work.sequences[0].sequence_id
    for offset in range(4):
        pool.now += pool.pool.policy.stall_timeout - 1
        pool.feed(ev.PeerTokens(group.generation, work.unit_id, first, offset, (5,)))
    assert pool.pool.groups[group.group_id].state is GroupState.RUNNING
    pool.now += pool.pool.policy.stall_timeout - 1  # a repetition is no progress
    pool.feed(ev.PeerTokens(group.generation, work.unit_id, first, 0, (5, 5)))
    pool.now += 1
    pool.feed(ev.Tick())
    assert pool.pool.groups[group.group_id].stalls == 1
    pool.now += 1
    pool.feed(ev.Tick())
    pool.build_done()
    pool.feed(ev.PeerValidates("v1", True))
    pool.produce(work)
    assert pool.pool.groups[group.group_id].stalls == 0


def test_a_unit_that_stage_0_withholds_rests_stage_0() -> None:
    pool, works = Pool(), (unit(1), unit(2, size=1))
    pool.feed(ev.OperatorSubmitted(works))
    group = pool.up()
    first, patience = works[0].sequences[0].sequence_id, pool.pool.policy.stall_timeout
    for offset in range(5):
        pool.now += patience * 0.99
        pool.feed(ev.PeerTokens(group.generation, works[0].unit_id, first, offset, (7,)))
    assert pool.pool.groups[group.group_id].state is GroupState.RUNNING
    pool.now += patience * 0.1
    pool.feed(ev.Tick())
    assert pool.pool.groups[group.group_id].state is not GroupState.RUNNING
    assert [m.peer_id for m in pool.pool.members.values() if m.strikes] == ["w1"]


def test_a_stage_without_evidence_rests_and_another_build_proves_the_unit() -> None:
    pool, work = Pool(), unit(1, size=1)
    pool.feed(ev.OperatorSubmitted((work,)))
    group = pool.up()
    only = work.sequences[0].sequence_id
    pool.feed(ev.PeerFinished(group.generation, work.unit_id, only, "length", tuple(range(8)), "t"))
    pool.feed(ev.ClaimsFailed(work.unit_id, group.generation, "nothing", ("w3",)))
    assert pool.pool.units[work.unit_id].state is UnitState.PRODUCED
    pool.now += 1.0
    commands = pool.feed(ev.Tick())
    (build,) = [c for c in commands if isinstance(c, ev.BuildGroup)]
    assert [s.peer_id for s in build.plan.stages] == ["w1", "w2"]
    commands = pool.feed(ev.GroupUp(build.group_id, build.generation))
    assert ev.AssignUnit(group.group_id, build.generation, work.unit_id) in commands
    late = pool.feed(ev.ClaimsFailed(work.unit_id, group.generation, "late", ("w1",)))
    assert late == []
    assert pool.pool.members["w1"].strikes == 0


def test_each_suspicion_doubles_the_rest_and_accepted_work_shortens_it() -> None:
    member = Member("w", MemberState.HEALTHY)
    rests = []
    for _ in range(12):
        member = member.suspected(0.0, "silent")
        rests.append(member.rest_until)
    assert rests[:3] == [20.0, 40.0, 80.0]
    assert rests[-1] == 3600.0
    assert member.proved().strikes == member.strikes - 1


def test_a_ring_that_never_lasts_is_rebuilt_ever_more_slowly() -> None:
    pool = Pool()
    group = pool.up()
    delays = []
    for _ in range(8):
        current = pool.pool.groups[group.group_id]
        pool.feed(ev.GroupBroken(group.group_id, current.generation, "edge"))
        delays.append(pool.pool.groups[group.group_id].retry_at - pool.now)
        pool.now += delays[-1]
        pool.feed(ev.Tick())
        pool.build_done()
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    pool.now += 60.0
    current = pool.pool.groups[group.group_id]
    pool.feed(ev.GroupBroken(group.group_id, current.generation, "edge"))
    assert pool.pool.groups[group.group_id].retry_at - pool.now == 0.25


def test_a_unit_that_is_refused_starts_again_and_expires_at_last() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(ev.OperatorSubmitted((work,)))
    group = pool.up()
    for attempt in range(MAX_ATTEMPTS):
        assert pool.pool.units[work.unit_id].attempt == attempt
        commands = pool.feed(ev.UnitRefused(work.unit_id, group.generation, "absurd"))
        assert ev.RecordVerdict(work.unit_id) in commands
    assert pool.pool.units[work.unit_id].state is UnitState.EXPIRED
    assert pool.pool.groups[group.group_id].state is GroupState.RUNNING


def test_a_rejected_unit_goes_to_another_validator() -> None:
    pool, works = Pool(), (unit(1), unit(2))
    pool.feed(ev.OperatorSubmitted(works))
    pool.feed(ev.PeerValidates("v1", True))
    pool.feed(ev.PeerValidates("v2", True))
    pool.up()
    for work in works:
        pool.produce(work)
    for work in works:
        first = pool.pool.units[work.unit_id].validator
        pool.verdict(work, accepted=False)
        pool.produce(work)
        assert pool.pool.units[work.unit_id].validator not in ("", first)


def test_strangers_do_not_grow_the_tables_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.roles.orchestrator.pool.MAX_MEMBERS", 5)
    monkeypatch.setattr("node.roles.orchestrator.reconcile.MAX_INVITES", 4)
    pool = Pool()
    pool.up()
    invited = 0
    for number in range(50):
        name = f"sybil{number}"
        commands = pool.feed(ev.PeerAnnounced(name, 1, 0.0, None, ""))
        for command in commands:
            if isinstance(command, ev.InviteWorker):
                invited += 1
                pool.feed(ev.PeerDeclined(command.peer_id, "no"))
    assert len(pool.pool.members) == 5
    assert set(WORKERS) <= set(pool.pool.members)
    assert invited == 50
    waits = []
    for _ in range(8):
        (name,) = [m.peer_id for m in pool.pool.members.values() if m.peer_id == "sybil49"]
        waits.append(pool.pool.members[name].retry_at - pool.now)
        pool.now = pool.pool.members[name].retry_at
        pool.feed(ev.Tick())
        pool.feed(ev.PeerDeclined(name, "no"))
    assert waits[:3] == [10.0, 20.0, 40.0]
    assert waits[-1] == 600.0


def test_what_another_build_must_prove_again_loses_its_last_token_and_its_segment() -> None:
    done = sequence(1).ended(3, "eos", (7, 8), "t")
    grown = done.reopened().extended(4, 1, (9,))
    assert grown.output_ids == (7, 9)
    assert grown.segments == ((0, 3), (1, 4))
    short = sequence(1).extended(3, 0, (7,)).reopened()
    assert short.output_ids == ()
    assert short.segments == ()
    assert sequence(1).ended(3, "eos", (), "t") == sequence(1)


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
        case "refused":
            return ev.UnitRefused(current.unit_id, generation, "absurd")
        case "accept" | "reject":
            if current.state is UnitState.VERIFYING:
                pool.bundle(current)
            bundle_id = pool.pool.units[current.unit_id].bundle_id
            faulty = peer if name == "reject" and choose.random() < 0.3 else ""
            return ev.PeerVerdict(current.unit_id, bundle_id, name == "accept", faulty, name, {})
        case "settle":
            return ev.ChainSettled(1, "0x1", (current.unit_id,))
    return ev.Tick()
