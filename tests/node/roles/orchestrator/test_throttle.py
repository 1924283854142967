"""No more is generated than validators judge, nor than workers can keep the rows of."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import PeerPinged, QueueRead, Tick
from node.roles.orchestrator.coordinator.pool import Policy
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.snapshot import waits_for
from tests.node.roles.orchestrator.coordination import Pool, planner, unit

BOUND, IN_FLIGHT = 4, 2


class Throttled(Pool):
    """A ring that works on two units of two sequences, before a few judges."""

    def __init__(self) -> None:
        super().__init__()
        policy = Policy(stages=3, sequences_in_flight=2 * IN_FLIGHT, units_unjudged=BOUND)
        draw = random.Random(0).random
        self.coordinator = Coordinator(policy, planner, identity=b"test", draw=draw)
        self.pool = self.coordinator.pool
        self.validators(v1=1)
        self.up()

    def count(self, *states: UnitState) -> int:
        return sum(u.state in states for u in self.pool.units.values())

    @property
    def unjudged(self) -> int:
        return self.count(UnitState.PRODUCED, UnitState.VERIFYING)


def accept_one(pool: Throttled, works: list[Unit]) -> None:
    for work in works:
        current = pool.pool.units.get(work.unit_id)
        if current is not None and current.state is UnitState.VERIFYING:
            pool.verdict(work)
            return


def work_all(pool: Throttled, works: list[Unit]) -> None:
    """Whatever the ring has is finished."""
    while pool.count(UnitState.ASSIGNED):
        for work in works:
            current = pool.pool.units.get(work.unit_id)
            if current is not None and current.state is UnitState.ASSIGNED:
                pool.produce(work)


def test_work_waits_for_verdicts_and_goes_on_with_them() -> None:
    pool, works = Throttled(), [unit(n) for n in range(1, 12)]
    pool.feed(QueueRead(tuple(works)))
    work_all(pool, works)
    assert pool.unjudged == BOUND + IN_FLIGHT
    assert "6 units are finished and not judged, of at most 4" in waits_for(pool.pool)
    assert "1 validators are here" in waits_for(pool.pool)
    while pool.pool.units:
        accept_one(pool, works)
        work_all(pool, works)
    assert all(pool.state(work) is UnitState.ACCEPTED for work in works)
    assert waits_for(pool.pool) == ""


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), max_size=60))
def test_the_bound_holds_however_slowly_they_judge(course: list[bool]) -> None:
    pool, works = Throttled(), [unit(n) for n in range(1, 30)]
    pool.feed(QueueRead(tuple(works)))
    for produces in course:
        if produces:
            work_all(pool, works)
        else:
            accept_one(pool, works)
        pool.now += 0.3
        pool.feed(Tick())
        assert pool.unjudged <= BOUND + IN_FLIGHT
        if pool.unjudged < BOUND and pool.count(UnitState.QUEUED):
            assert pool.count(UnitState.ASSIGNED)


@pytest.mark.parametrize("busy", ["w1", "w2", "w3"])
def test_a_ring_with_a_worker_that_keeps_too_much_gets_nothing_new(busy: str) -> None:
    pool, works = Throttled(), [unit(n) for n in range(1, 4)]
    pool.feed(QueueRead(tuple(works[:1])))
    pool.feed(PeerPinged(busy, True, "hidden states take 9 bytes"))
    pool.feed(QueueRead(tuple(works)))
    assert [pool.state(work) for work in works] == [
        UnitState.ASSIGNED,  # what it has it finishes
        UnitState.QUEUED,
        UnitState.QUEUED,
    ]
    said = waits_for(pool.pool)
    assert busy in said
    assert "hidden states take 9 bytes" in said
    pool.feed(PeerPinged(busy, True))
    assert pool.state(works[1]) is UnitState.ASSIGNED
