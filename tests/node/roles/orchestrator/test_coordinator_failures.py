"""Units that stages cannot work on, or say so: other rings try them, and nothing else stops."""

from __future__ import annotations

from dataclasses import replace

from node.roles.orchestrator.coordinator.commands import BuildGroup, ForgetUnit, RecordUnit
from node.roles.orchestrator.coordinator.events import (
    GroupBroken,
    PeerAnnounced,
    PeerJoined,
    QueueRead,
    Tick,
    UnitRefused,
    UnitsFailed,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from tests.node.roles.orchestrator.coordination import Pool, unit

NAN = "hidden states after layers 10-20 are not finite"


def of_job(job_id: str, number: int) -> Unit:
    return replace(unit(number), job_id=job_id)


class Failing(Pool):
    """A pool whose stages say that they cannot work."""

    def fail(self, *works: Unit, stage: int = 1) -> None:
        """The stage says so of all of these that it has, and a new ring comes up if one is built.
        Units of other rings are left alone."""
        first = self.pool.units[works[0].unit_id]
        ids = tuple(
            w.unit_id
            for w in works
            if w.unit_id in self.pool.units
            and self.pool.units[w.unit_id].generation == first.generation
        )
        before = self.builds
        self.feed(UnitsFailed(first.group_id, first.generation, stage, ids, NAN))
        self.now += 11.0
        self.feed(Tick())
        if self.builds > before:
            self.build_done()

    def settle(self, work: Unit) -> None:
        """Let time pass until a ring has the unit."""
        for _ in range(100):
            if self.state(work) is UnitState.ASSIGNED:
                return
            self.now += 11.0
            self.feed(Tick())
            self.build_done()
        raise AssertionError("no ring takes it")

    @property
    def builds(self) -> int:
        return sum(isinstance(c, BuildGroup) for c in self.commands)

    def peers(self) -> tuple[str, ...]:
        (group,) = self.pool.groups.values()
        return group.peers


def test_a_unit_that_nobody_can_work_on_is_given_up_with_the_reason() -> None:
    pool, work = Failing(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.up()
    for attempt in range(3):
        assert (pool.state(work), pool.unit(work).attempt) == (UnitState.ASSIGNED, attempt)
        pool.fail(work)
    over = pool.unit(work)
    assert (over.state, over.why) == (UnitState.EXPIRED, f"failed: {NAN}")
    assert len({failure.generation for failure in over.failures}) == 3
    assert work.unit_id not in pool.pool.units
    recorded = [c.unit for c in pool.commands if isinstance(c, RecordUnit)]
    assert [u.state for u in recorded] == [UnitState.QUEUED, UnitState.QUEUED, UnitState.EXPIRED]
    forgotten = [c.generation for c in pool.commands if isinstance(c, ForgetUnit)]
    assert forgotten == [f.generation for f in over.failures]
    assert all(m.usable(pool.now) for m in pool.pool.members.values())


def test_a_job_that_cannot_work_at_all_costs_a_few_rebuilds_and_others_go_on() -> None:
    pool = Failing()
    bad = [of_job("bad", n) for n in range(1, 41)]
    good = [of_job("good", n) for n in range(101, 121)]
    mixed = [u for pair in zip(bad[:20], good, strict=True) for u in pair] + bad[20:]
    pool.validators(v1=1)
    pool.feed(QueueRead(tuple(mixed)))
    pool.up()
    while pool.pool.units:
        at_work = [u for u in pool.pool.units.values() if u.state is UnitState.ASSIGNED]
        failing = [u for u in at_work if u.job_id == "bad"]
        if failing:
            pool.fail(*failing)
        for work in at_work:
            if work.job_id == "good" and pool.state(work) is UnitState.ASSIGNED:
                pool.produce(work)
                pool.verdict(work)
    assert pool.builds == 4  # the first, two in between, and one with everybody at the end
    assert pool.peers() == ("w1", "w2", "w3")
    assert {pool.state(u) for u in bad} == {UnitState.EXPIRED}
    assert {pool.state(u) for u in good} == {UnitState.ACCEPTED}
    assert {pool.unit(u).attempt for u in good} == {0}


def test_whoever_says_so_is_left_out_where_the_others_can_do_without_it() -> None:
    pool, work = Failing(), unit(1)
    pool.validators(v1=1)
    pool.feed(QueueRead((work,)))
    pool.up()
    pool.fail(work, stage=1)
    assert pool.peers() == ("w1", "w3")
    pool.produce(work)
    pool.verdict(work)
    done = pool.unit(work)
    assert (done.state, done.attempt) == (UnitState.ACCEPTED, 1)
    pool.now += 31.0  # with nothing to do it is planned with everybody again
    pool.feed(Tick())
    pool.build_done()
    assert pool.peers() == ("w1", "w2", "w3")
    builds = pool.builds
    pool.now += 3600.0
    pool.feed(Tick())
    assert pool.builds == builds


def test_where_nobody_can_be_spared_the_same_ring_is_built_again() -> None:
    pool, work = Failing(stages=2), unit(1)
    pool.feed(QueueRead((work,)))
    pool.up("w1", "w2")
    pool.fail(work)
    assert pool.peers() == ("w1", "w2")
    assert pool.state(work) is UnitState.ASSIGNED


def test_another_ring_that_runs_tries_it_and_nothing_is_rebuilt() -> None:
    pool, work = Failing(), unit(1)
    pool.up("w1", "w2", "w3")
    for name in ("x1", "x2", "x3"):
        pool.feed(PeerAnnounced(name, 1 << 30, 0.01, None, ""))
        pool.feed(PeerJoined(name, name, name))
    pool.now += 1
    pool.feed(Tick())
    pool.build_done()
    pool.feed(QueueRead((work,)))
    tried = []
    for _ in range(2):
        tried.append(pool.unit(work).group_id)
        builds = pool.builds
        pool.fail(work)
    assert set(tried) == set(pool.pool.groups)
    assert builds == 2
    assert pool.builds == 3  # it has failed in both


def test_a_stage_that_lies_about_honest_work_gets_known_and_nothing_is_lost() -> None:
    """Of four workers one says of everything that it cannot be worked on. Between two jobs the ring
    breaks for other reasons, so that it is planned again with everybody who may be."""
    pool, liar = Failing(), "w2"
    pool.validators(v1=1)
    pool.up("w1", "w2", "w3", "w4")
    jobs, lies = [of_job(f"job {n}", n) for n in range(1, 41)], 0
    for work in jobs:
        pool.feed(QueueRead((work,)))
        pool.settle(work)
        while liar in pool.peers():
            lies += 1
            pool.fail(work, stage=pool.peers().index(liar))
            pool.settle(work)
        pool.produce(work)
        pool.verdict(work)
        pool.now += 30.0
        (group,) = pool.pool.groups.values()
        pool.feed(GroupBroken(group.group_id, group.generation, "restarted"))
    assert {pool.state(work) for work in jobs} == {UnitState.ACCEPTED}
    rests = {m.peer_id: m.rest_until - pool.now for m in pool.pool.members.values()}
    assert rests.pop(liar) > 600.0
    assert max(rests.values()) < 60.0, rests
    assert lies < 12


def test_an_old_generation_says_nothing_of_the_new_one() -> None:
    pool, work = Failing(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.up()
    old = pool.unit(work)
    pool.fail(work)
    late = UnitsFailed(old.group_id, old.generation, 1, (work.unit_id, b"?" * 32), NAN)
    assert pool.feed(late) == []
    assert len(pool.unit(work).failures) == 1


def test_a_unit_that_is_refused_is_tried_elsewhere_and_given_up_at_last() -> None:
    pool, work = Failing(), unit(1)
    pool.feed(QueueRead((work,)))
    pool.up()
    for _ in range(3):
        pool.feed(UnitRefused(work.unit_id, pool.unit(work).generation, "absurd"))
        if work.unit_id in pool.pool.units:
            pool.now += 11.0
            pool.feed(Tick())
            pool.build_done()
    assert (pool.state(work), pool.unit(work).why) == (UnitState.EXPIRED, "failed: absurd")


def test_what_cannot_even_be_sent_is_given_up_at_once() -> None:
    pool, work = Failing(), unit(1)
    pool.feed(QueueRead((work,)))
    group = pool.up()
    pool.feed(UnitRefused(work.unit_id, group.generation, "over the limit", impossible=True))
    assert (pool.state(work), pool.builds) == (UnitState.EXPIRED, 1)
    assert pool.pool.groups[group.group_id].state is GroupState.RUNNING
