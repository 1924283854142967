"""Durable before visible: what the tables show is never ahead of the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
import trio.testing

from node.roles.orchestrator.coordinator.commands import BanWorker, BuildGroup, Command, Record
from node.roles.orchestrator.coordinator.events import (
    Event,
    PeerGone,
    PeerTokens,
    PeerValidates,
    PeerVerdict,
    QueueRead,
    Tick,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.tables import Tracked
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.transitions import (
    EVENT_WEIGHT,
    INBOX_WEIGHT,
    TransitionFailed,
    Transitions,
)
from tests.node.roles.orchestrator.coordination import Pool, unit


class Disk:
    """A journal that writes while it is let, and the commands that were begun."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.free = trio.Event()
        self.free.set()
        self.written: list[Command] = []
        self.begun: list[Command] = []
        self.asked = trio.Event()
        self.surprises: list[Exception] = []
        self.transitions = Transitions(
            pool.coordinator,
            lambda: pool.now,
            self._write,
            self._began,
            self.surprises.append,
        )

    def stall(self) -> None:
        self.free, self.asked = trio.Event(), trio.Event()

    async def _write(self, commands: Sequence[Command]) -> None:
        self.asked.set()
        await self.free.wait()
        self.written += [c for c in commands if isinstance(c, Record)]

    def _began(
        self, events: Sequence[Event], commands: Sequence[Command], units: dict[bytes, None]
    ) -> None:
        self.begun += commands


def judged() -> tuple[Pool, Unit, PeerVerdict]:
    """A unit that waits for a verdict, and one that convicts the second stage."""
    pool, work = Pool(), unit(1)
    pool.up("w1", "w2", "w3", "w4")
    pool.validators(v1=1)
    pool.feed(QueueRead((work,)))
    pool.produce(work)
    bundle = pool.bundle(work)
    convicts = PeerVerdict("v1", work.unit_id, bundle, False, "w2", "boundary is off", {})
    return pool, work, convicts


async def test_a_caller_that_gives_up_loses_its_wait_and_not_the_transition(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pool, work, convicts = judged()
    disk = Disk(pool)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk.transitions.run)
        disk.stall()
        with trio.move_on_after(15.0) as deadline:
            await disk.transitions.feed(convicts)
        assert deadline.cancelled_caught
        assert pool.state(work) is UnitState.VERIFYING  # nothing is seen, nothing has begun
        assert pool.pool.members["w2"].state is MemberState.HEALTHY
        assert disk.begun == []
        disk.free.set()
        await disk.transitions.feed(Tick())
        assert pool.pool.members["w2"].state is MemberState.BANNED
        assert pool.state(work) is UnitState.QUEUED
        (build,) = [c for c in disk.begun if isinstance(c, BuildGroup)]
        assert BanWorker("w2", "boundary is off") in disk.written
        assert build in disk.written  # with it its generation, which no later run may use again
        nursery.cancel_scope.cancel()


async def test_nobody_is_told_of_a_transition_that_the_end_cut_short() -> None:
    pool, work, convicts = judged()
    disk = Disk(pool)
    told: list[str] = []

    async def ask() -> None:
        with pytest.raises(TransitionFailed):
            await disk.transitions.feed(convicts)
        told.append("refused")

    async with trio.open_nursery() as peers, trio.open_nursery() as role:
        role.start_soon(disk.transitions.run)
        disk.stall()
        peers.start_soon(ask)  # a handler outlives the role that it asks
        await disk.asked.wait()
        role.cancel_scope.cancel()
    assert told == ["refused"]
    assert pool.state(work) is UnitState.VERIFYING


async def test_events_that_come_while_the_disk_stalls_are_one_commit_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pool, _, convicts = judged()
    commits = 0
    disk = Disk(pool)

    async def write(commands: Sequence[Command]) -> None:
        nonlocal commits
        commits += 1
        await disk._write(commands)

    transitions = Transitions(
        pool.coordinator, lambda: pool.now, write, disk._began, disk.surprises.append
    )
    more = [unit(n) for n in range(2, 20)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transitions.run)
        disk.stall()
        async with trio.open_nursery() as feeding:
            feeding.start_soon(transitions.feed, convicts)
            await disk.asked.wait()
            for another in more:
                feeding.start_soon(transitions.feed, QueueRead((another,)))
            await trio.testing.wait_all_tasks_blocked()
            assert not any(another.unit_id in pool.pool.units for another in more)
            disk.free.set()
        assert all(another.unit_id in pool.pool.units for another in more)
        assert commits == 1
        nursery.cancel_scope.cancel()


async def test_the_inbox_is_bounded_by_what_lies_in_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pool, _, convicts = judged()
    disk = Disk(pool)
    large = PeerTokens(1, b"", b"", 0, (1,) * (INBOX_WEIGHT - EVENT_WEIGHT - 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk.transitions.run)
        disk.stall()
        nursery.start_soon(disk.transitions.feed, convicts)
        await disk.asked.wait()
        nursery.start_soon(disk.transitions.feed, large)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(10.0):
            await disk.transitions.feed(Tick())
        assert len(disk.transitions._inbox) == 1  # and the tick waits outside
        disk.free.set()
        await disk.transitions.feed(Tick())
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("state", [GroupState.LOADING, GroupState.REPAIRING])
def test_no_group_stays_between_states_for_ever(state: GroupState) -> None:
    """A build whose task is lost, and a repair that nobody is there for."""
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    group = pool.up()
    pool.feed(PeerTokens(group.generation, work.unit_id, work.sequences[0].sequence_id, 0, (7,)))
    policy = pool.pool.policy
    if state is GroupState.LOADING:
        pool.feed(PeerGone("w3", "gone"))
        pool.now += policy.load_timeout
        pool.feed(Tick())
        assert pool.pool.groups[group.group_id].state is GroupState.REPAIRING
        assert "not up after" in pool.pool.groups[group.group_id].reason
        return
    for name in ("w1", "w2", "w3"):
        pool.feed(PeerGone(name, "gone"))
    pool.now += policy.repair_timeout - 1
    pool.feed(Tick())
    assert pool.state(work) is UnitState.ASSIGNED
    pool.now += 1
    pool.feed(Tick())
    assert not pool.pool.groups
    assert pool.unit(work) == replace(
        work, state=UnitState.QUEUED, history=("its group could not be repaired",)
    )


def test_a_unit_whose_claims_never_come_is_proven_by_another_build() -> None:
    pool, work = Pool(), unit(1)
    pool.feed(QueueRead((work,)))
    group = pool.up()
    pool.finish(work)
    assert pool.state(work) is UnitState.PRODUCED
    pool.now += pool.pool.policy.claim_timeout
    pool.feed(Tick())
    assert pool.pool.groups[group.group_id].state is GroupState.REPAIRING
    pool.now += 1.0
    pool.feed(Tick())
    pool.build_done()
    assert pool.state(work) is UnitState.ASSIGNED


def test_a_table_remembers_every_way_in_which_it_was_written() -> None:
    table: Tracked[str, int] = Tracked()
    shown: dict[str, int] = {}
    table.update(a=1, b=2)
    assert table.setdefault("c", 3) == 3
    table.publish(shown)
    assert shown == {"a": 1, "b": 2, "c": 3}
    table["a"] = 1
    assert not table.changed
    assert table.pop("a") == 1
    assert table.pop("a", None) is None
    with pytest.raises(KeyError):
        table.pop("a")
    table.publish(shown)
    assert shown == table == {"b": 2, "c": 3}
    table.clear()
    table.publish(shown)
    assert shown == {}


def test_a_validator_that_was_never_here_may_be_gone() -> None:
    pool = Pool()
    assert pool.feed(PeerValidates("stranger", 0)) == []
    assert not pool.pool.validators
