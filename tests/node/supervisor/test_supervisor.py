"""No part's surprise ends a node: three days of them on a virtual clock."""

from __future__ import annotations

import random

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.errors import InputError
from node.supervisor.life import PartBook, PartLife, PartState, RestartPolicy, reason_of
from node.supervisor.supervisor import Supervisor

HOURS = 3600.0
PARTS = 4
POLICY = RestartPolicy()


def supervisor() -> Supervisor:
    def drop(*_args: object) -> str:
        raise structlog.DropEvent

    return Supervisor(structlog.wrap_logger(None, processors=[drop]), POLICY, trio.current_time)


async def test_a_surprise_ends_its_part_alone_and_the_part_begins_again(autojump_clock) -> None:
    house, begun = supervisor(), []

    async def shaky() -> None:
        begun.append(trio.current_time())
        if len(begun) < 4:
            raise ValueError("a surprise")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        house.keep(nursery, "steady", trio.sleep_forever)
        house.keep(nursery, "shaky", shaky)
        await trio.sleep(0.25)
        failed, steady = house.reports()
        assert (failed.state, failed.reason) == (PartState.FAILED, "ValueError: a surprise")
        assert failed.next_try == pytest.approx(begun[0] + 0.5)
        assert steady.state is PartState.RUNNING
        await trio.sleep(10.0)
        failed, steady = house.reports()
        assert (failed.state, failed.surprises, failed.next_try) == (PartState.RUNNING, 3, 0.0)
        assert steady.surprises == 0
        nursery.cancel_scope.cancel()
    assert [b - begun[0] for b in begun] == pytest.approx([0.0, 0.5, 1.5, 3.5])


async def test_what_ends_the_first_start_is_the_starters_and_later_it_is_a_surprise(
    autojump_clock,
) -> None:
    house, tries = supervisor(), 0

    async def misconfigured(*, task_status) -> None:
        raise InputError("no such model")

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await house.start(nursery, "worker", misconfigured)
    assert caught.group_contains(InputError, match="no such model")

    async def later(*, task_status) -> None:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise InputError("not even started")
        task_status.started()
        if tries == 1:
            raise ValueError("after it started")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await house.start(nursery, "later", later)
        await trio.sleep(60.0)
        assert tries == 3
        nursery.cancel_scope.cancel()


async def test_cancellation_and_interrupts_pass(autojump_clock) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            supervisor().keep(nursery, "part", interrupted)
    assert caught.group_contains(KeyboardInterrupt)

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it is cancelled")

    house = supervisor()
    with trio.move_on_after(1.0) as scope:
        async with trio.open_nursery() as nursery:
            house.keep(nursery, "part", stubborn)
    assert scope.cancelled_caught


async def test_a_task_is_not_repeated_and_its_owner_is_told(autojump_clock) -> None:
    house, told, ran = supervisor(), [], []

    async def task(number: int) -> None:
        ran.append(number)
        raise ZeroDivisionError

    async def failed(reason: str) -> None:
        told.append(reason)

    async with trio.open_nursery() as nursery:
        house.task(nursery, "command", task, 7, failed=failed)
    assert (ran, told) == ([7], ["ZeroDivisionError"])
    (report,) = house.reports()
    assert (report.state, report.surprises) == (PartState.ENDED, 1)


async def test_three_days_in_which_every_part_keeps_failing_end_nothing(autojump_clock) -> None:
    house, source = supervisor(), random.Random(7)
    begun = dict.fromkeys(range(PARTS), 0)

    async def part(number: int) -> None:
        begun[number] += 1
        async with trio.open_nursery() as nursery:  # half of them fail in a child
            await trio.sleep(source.uniform(0.0, 5.0) if number % 2 else 0.0)
            nursery.start_soon(_raise, source.choice([ValueError, OSError, OverflowError]))

    async with trio.open_nursery() as nursery:
        for number in range(PARTS):
            house.keep(nursery, f"part {number}", part, number)
        house.keep(nursery, "calm", trio.sleep_forever)
        await trio.sleep(72 * HOURS)
        reports = {report.name: report for report in house.reports()}
        assert reports["calm"].surprises == 0
        # Never given up, and never more often than the longest pause allows.
        for number, times in begun.items():
            assert 72 * HOURS / (POLICY.last + 5.0) <= times <= 72 * HOURS / POLICY.last + 10
            assert reports[f"part {number}"].surprises >= times - 1
        nursery.cancel_scope.cancel()


async def _raise(kind: type[Exception]) -> None:
    raise kind("surprise")


@given(st.lists(st.floats(0.0, 10_000.0), max_size=2000))
def test_pauses_stay_between_first_and_last_and_start_over_after_calm(lasted: list[float]) -> None:
    life = PartLife(POLICY, 0.0)
    for seconds in lasted:
        before = life.pause
        pause = life.failed(life.begun + seconds)
        assert POLICY.first <= pause <= POLICY.last
        if abs(seconds - POLICY.calm) > 0.01:
            assert pause == POLICY.first if seconds > POLICY.calm else pause >= before


def test_a_book_tells_the_newest_and_counts_all() -> None:
    book = PartBook()
    book.runs("a")
    book.failed("a", "x" * 1000, 5.0, 2.0)
    book.failed("a", "second", 9.0, 4.0)
    assert book.reports["a"].next_try == 13.0
    book.runs("a")
    book.ended("a")
    report = book.reports["a"]
    assert (report.state, report.surprises, report.reason) == (PartState.ENDED, 2, "second")
    assert len(reason_of(ExceptionGroup("g", [ExceptionGroup("h", [KeyError("k")])]))) < 30
