"""A surprise in a decision takes back what was decided, and only those suffer who caused it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from node.roles.orchestrator.coordinator.events import Event, PeerAnnounced, QueueRead, Tick
from node.roles.orchestrator.coordinator.lobby.table import MemberTable
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.orchestrator.transitions import TransitionFailed
from tests.node.roles.orchestrator.coordination import Pool, unit
from tests.node.roles.orchestrator.test_coordinator_fuzz import EVENTS, _check_counts, _event
from tests.node.roles.orchestrator.test_transitions import Disk, judged


def tables_of(pool: Pool) -> Any:
    return pool.coordinator._applier._tables


def check_members(pool: Pool) -> None:
    """What the table of members has sorted is what sorting anew would give."""
    table, anew = tables_of(pool).members, MemberTable()
    for peer_id, member in table.items():
        anew[peer_id] = member
    assert (table.open, table.open_from) == (anew.open, anew.open_from)
    assert +table._levels == +anew._levels
    assert table.idle.size == anew.idle.size
    for state in MemberState:
        assert {m.peer_id for m in table.in_state(state)} == {
            m.peer_id for m in anew.in_state(state)
        }


def shown(pool: Pool) -> list[dict[Any, Any]]:
    view = pool.pool
    tables: list[Mapping[Any, Any]] = [
        view.units,
        view.members,
        view.groups,
        view.validators,
        view.weights,
    ]
    return [dict(table) for table in tables]


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.integers(0, 2**32))
def test_what_is_undone_leaves_the_tables_as_they_were_shown(names: list[str], seed: int) -> None:
    choose = random.Random(seed)
    pool, works = Pool(), tuple(unit(n) for n in range(1, 4))
    pool.feed(QueueRead(works))
    pool.validators(v1=3, v2=2)
    for name in names:
        pool.now += choose.random() * 5
        if choose.random() < 0.7:
            pool.feed(_event(name, pool, works, choose))
            continue
        before = shown(pool)
        batch = [_event(name, pool, works, choose) for _ in range(choose.randint(1, 3))]
        pool.coordinator.decide(batch, pool.now)
        pool.coordinator.undo()
        tables = tables_of(pool)
        assert shown(pool) == before
        assert before == [
            dict(table)
            for table in (
                tables.units,
                tables.members,
                tables.groups,
                tables.validators,
                tables.weights,
            )
        ]
        assert not pool.coordinator.publish()
        _check_counts(pool)
        check_members(pool)


def test_work_is_done_though_every_other_decision_is_undone() -> None:
    pool, work = Pool(), unit(1)

    def twice(event: Event) -> Any:
        pool.coordinator.decide([event], pool.now)
        pool.coordinator.undo()
        commands = pool.coordinator.handle(event, pool.now)
        pool.commands += commands
        return commands

    pool.feed = twice  # type: ignore[method-assign]
    pool.feed(QueueRead((work,)))
    pool.validators(v1=1)
    pool.up()
    pool.finish(work)
    pool.claim(work)
    pool.verdict(work)
    assert pool.state(work) is UnitState.ACCEPTED


async def test_an_event_that_cannot_be_decided_takes_no_other_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pool, _, convicts = judged()
    disk = Disk(pool)
    poison = PeerAnnounced("w9", 1, 0.0, None, "")
    apply, told = pool.coordinator._applier.apply, list[str]()

    def surprising(event: Event, now: float) -> Any:
        commands = apply(event, now)
        if event is poison:
            raise RuntimeError("nobody thought of this")
        return commands

    pool.coordinator._applier.apply = surprising  # type: ignore[method-assign]

    async def feed(name: str, event: Event) -> None:
        try:
            await disk.transitions.feed(event)
            told.append(name)
        except TransitionFailed:
            told.append(f"{name} not taken in")

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as feeding:  # all of them are one batch
            feeding.start_soon(feed, "poison", poison)
            feeding.start_soon(feed, "verdict", convicts)
            feeding.start_soon(feed, "tick", Tick())
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(disk.transitions.run)
        assert sorted(told) == ["poison not taken in", "tick", "verdict"]
        assert [str(exc) for exc in disk.surprises] == ["nobody thought of this"]
        assert pool.pool.members["w2"].state is MemberState.BANNED
        assert "w9" not in pool.pool.members
        await feed("tick", Tick())
        assert "w9" not in pool.pool.members  # not with the next batch either
        assert "w9" not in tables_of(pool).members
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_written_is_not_shown_later() -> None:
    pool, work, convicts = judged()
    disk = Disk(pool)

    async def write(commands: object) -> None:
        raise RuntimeError("not a journal value")

    good, disk.transitions._write = disk.transitions._write, write
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk.transitions.run)
        with pytest.raises(TransitionFailed):
            await disk.transitions.feed(convicts)
        disk.transitions._write = good
        await disk.transitions.feed(Tick())
        assert pool.pool.members["w2"].state is MemberState.HEALTHY
        assert pool.state(work) is UnitState.VERIFYING
        await disk.transitions.feed(convicts)
        assert pool.pool.members["w2"].state is MemberState.BANNED
        nursery.cancel_scope.cancel()
