"""Content that ends engine processes fails by unit, and everything else is done."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.roles.orchestrator.coordinator.commands import BuildGroup
from node.roles.orchestrator.coordinator.events import EngineEnded, GroupBroken, QueueRead, Tick
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from tests.node.roles.orchestrator.coordination import Pool, unit

REASON = "engine exited with code -11"


class Crashing(Pool):
    """A ring whose stage 1 dies of some units, whenever it gets to generate them."""

    def __init__(self, poison: set[bytes], *, report_first: bool = True) -> None:
        super().__init__()
        self.poison, self.crashes = poison, 0
        self._report_first = report_first
        self.validators(v1=1)
        self.up("w1", "w2", "w3", "w4")

    def work(self, works: list[Unit]) -> None:
        """Until nothing is left to do, or for very long."""
        self.feed(QueueRead(tuple(works)))
        for _ in range(2000):
            if not self.pool.units:
                return
            self._step(works)
        raise AssertionError("it never ends")

    def _step(self, works: list[Unit]) -> None:
        (group,) = self.pool.groups.values()
        if group.state is GroupState.LOADING:
            self.build_done()
        at_work = [u for u in self.pool.units.values() if u.state is UnitState.ASSIGNED]
        if group.state is GroupState.RUNNING and any(u.unit_id in self.poison for u in at_work):
            self.crashes += 1
            if not self._report_first:  # a neighbour hears it sooner
                self.feed(GroupBroken(group.group_id, group.generation, "downstream edge"))
            self.feed(EngineEnded(group.group_id, group.generation, 1, REASON))
        elif group.state is GroupState.RUNNING:
            for found in at_work:
                self.produce(found)
            for found in list(self.pool.units.values()):
                if found.state is UnitState.VERIFYING:
                    self.verdict(found)
        self.now += 1.0
        self.feed(Tick())


@pytest.mark.parametrize("report_first", [True, False])
def test_the_unit_that_engines_die_of_is_given_up_and_the_others_are_done(
    report_first: bool,
) -> None:
    works = [unit(n) for n in range(1, 6)]
    pool = Crashing({works[2].unit_id}, report_first=report_first)
    pool.work(works)
    assert [pool.state(work) for work in works] == [
        UnitState.EXPIRED if work is works[2] else UnitState.ACCEPTED for work in works
    ]
    assert pool.unit(works[2]).why.endswith(
        f"in each of 3 rings that had it, the last time alone: {REASON}"
    )
    assert pool.crashes == 3
    assert all(pool.unit(work).attempt == 0 for work in works)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(1, 12), max_size=4))
def test_each_costs_no_more_than_a_ring_of_its_own(bad: set[int]) -> None:
    works = [unit(n) for n in range(1, 13)]
    poison = {work.unit_id for work in works if work.unit_id[-1] in bad}
    pool = Crashing(poison)
    pool.work(works)
    for work in works:
        ended = UnitState.EXPIRED if work.unit_id in poison else UnitState.ACCEPTED
        assert pool.state(work) is ended
    assert pool.crashes <= 3 * len(bad)


def test_an_engine_that_ended_once_costs_nobody_anything() -> None:
    works = [unit(n) for n in range(1, 4)]
    pool = Crashing(set())
    pool.feed(QueueRead(tuple(works)))
    (group,) = pool.pool.groups.values()
    pool.feed(EngineEnded(group.group_id, group.generation, 2, REASON))
    assert pool.pool.groups[group.group_id].state is GroupState.REPAIRING
    assert {u.state for u in pool.pool.units.values()} == {UnitState.ASSIGNED}
    pool.work([])
    assert all(pool.state(work) is UnitState.ACCEPTED for work in works)
    old = EngineEnded(group.group_id, group.generation, 2, REASON)
    assert not [c for c in pool.feed(old) if isinstance(c, BuildGroup)]


def test_others_go_on_elsewhere_while_a_suspect_runs_alone() -> None:
    works = [unit(n) for n in range(1, 40)]
    pool = Pool(stages=3, sequences_in_flight=4)
    pool.validators(v1=1)
    pool.up("w1", "w2", "w3")
    pool.feed(QueueRead(tuple(works[:2])))
    for _ in range(2):
        (group,) = pool.pool.groups.values()
        pool.feed(EngineEnded(group.group_id, group.generation, 1, REASON))
        pool.now += 30.0
        pool.feed(Tick())
        pool.build_done()
    alone = [u for u in pool.pool.units.values() if u.state is UnitState.ASSIGNED]
    assert len(alone) == 1
    for name in ("w4", "w5", "w6"):
        pool.join(name)
    second = pool.build_done()
    pool.feed(QueueRead(tuple(works[2:])))
    at_work = [u for u in pool.pool.units.values() if u.state is UnitState.ASSIGNED]
    assert {u.group_id for u in at_work if u.unit_id != alone[0].unit_id} == {second.group_id}
    pool.produce(alone[0])
    (next_alone,) = [
        u
        for u in pool.pool.units.values()
        if u.state is UnitState.ASSIGNED and u.group_id == group.group_id
    ]
    assert next_alone.unit_id in {work.unit_id for work in works[:2]}
    pool.produce(next_alone)
    beside = [u for u in pool.pool.units.values() if u.state is UnitState.ASSIGNED]
    assert len([u for u in beside if u.group_id == group.group_id]) > 1  # all is as it was


@pytest.mark.parametrize("told_before", [False, True])
def test_whoever_stands_by_does_not_wait_for_an_engine_to_start(told_before: bool) -> None:
    """Whether the crash is the first that is heard of it, or a ping told before."""
    pool = Pool()
    group = pool.up()
    pool.join("w4")
    if told_before:
        reason = "w2 no longer holds its stage"
        pool.feed(GroupBroken(group.group_id, group.generation, reason, suspects=("w2",)))
    pool.feed(EngineEnded(group.group_id, group.generation, 1, "engine exited with code -9"))
    pool.now += 1.0
    pool.feed(Tick())
    assert pool.build_done().peers == ("w1", "w3", "w4")
    assert pool.pool.members["w2"].strikes == 0
    generation = pool.pool.generation
    for _ in range(100):  # and nothing is rebuilt for its sake: it stands by now
        pool.now += 10.0
        pool.feed(Tick())
    assert pool.pool.generation == generation


def test_where_nobody_stands_by_the_ring_waits_for_the_engine() -> None:
    pool = Pool()
    group = pool.up()
    pool.feed(EngineEnded(group.group_id, group.generation, 1, "engine exited with code -9"))
    pool.now += 1.0
    pool.feed(Tick())
    assert pool.build_done().peers == ("w1", "w2", "w3")
