"""Jobs and units on disk: taken in by batches, read by pages, counted as they go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from node.journal import AsyncJournal, open_journal
from node.journal.writer import WriterLimits
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.jobs.beacon import Beacon
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.jobs.refusals import PromptsRefused
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.roles.orchestrator.ledger.rows import RowState
from node.roles.orchestrator.ledger.writes import PayUnits, PutUnit
from proofs.evidence.sequence import FinishReason
from tests.node.journal.disks import Disk
from tests.node.roles.orchestrator.test_parts import Words

CUTTER = JobCutter(Words(), b"m" * 32, "tiny", context_length=64, unit_size=2, vocab_size=200)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[AsyncJournal, WorkLedger]]:
    """One life of a ledger."""
    async with open_journal(folder / "journal.sqlite") as journal:
        ledger = WorkLedger(journal, CUTTER)
        await ledger.load({})
        yield journal, ledger


async def batches(count: int, size: int = 4, **fields: object) -> AsyncIterator[Sequence[Prompt]]:
    """Prompts that fit, by batches."""
    prompts = [
        Prompt.model_validate({"prompt": f"p{n}", "max_tokens": 4, **fields}) for n in range(count)
    ]
    for at in range(0, count, size):
        yield prompts[at : at + size]


def judged(unit: Unit, state: UnitState) -> Unit:
    """The unit, generated and in that state."""
    ended = [s.ended(1, FinishReason.LENGTH, (65, 66, 67, 68)) for s in unit.sequences]
    return replace(unit, sequences=tuple(ended), state=state, bundle_id=unit.unit_id)


async def put(journal: AsyncJournal, ledger: WorkLedger, *units: Unit) -> None:
    await journal.write(*map(PutUnit.of, units))
    for unit in units:
        ledger.recorded(unit)


async def test_what_waits_is_read_in_order_and_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, ledger):
        assert (await ledger.submit("job", batches(21)))[1]
        assert not (await ledger.submit("job", batches(21)))[1]
        assert (await ledger.submit("later", batches(2)))[1]
        job = ledger.jobs["job"]
        assert (job.prompts, job.units[RowState.QUEUED], job.finished) == (21, 11, False)
        found: list[str] = []
        while units := await ledger.next_queued(3):
            assert len({unit.job_id for unit in units}) == 1
            found += [s.messages[0]["content"] for unit in units for s in unit.sequences]
        assert found == [f"p{n}" for n in range(21)] + ["p0", "p1"]
    async with opened(tmp_path) as (_, ledger):  # it was only read, so it still waits
        assert len(await ledger.next_queued(100)) == 11


async def test_a_sampled_job_waits_for_its_beacon_and_holds_nobody_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, ledger):
        await ledger.submit("sampled", batches(2, temperature=1.0))
        await ledger.submit("greedy", batches(2))
        assert [unit.job_id for unit in await ledger.next_queued(10)] == ["greedy"]
        assert await ledger.next_queued(10) == ()
        ledger.drawn("sampled", Beacon(b"b" * 32, 7))
        (unit,) = await ledger.next_queued(10)
        assert not unit.awaiting_beacon
        assert {s.noise.block for s in unit.sequences if s.noise} == {7}


async def test_counts_follow_the_rows_and_are_the_same_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, ledger):
        await ledger.submit("job", batches(12))
        units = await ledger.next_queued(6)
        await put(journal, ledger, *(judged(unit, UnitState.VERIFYING) for unit in units[:4]))
        await put(journal, ledger, judged(units[0], UnitState.ACCEPTED))
        await put(journal, ledger, judged(units[1], UnitState.EXPIRED))
        again = replace(judged(units[2], UnitState.QUEUED), attempt=1)
        await put(journal, ledger, again._from_nothing())
        before = ledger.jobs["job"]
        assert (before.prompts, ledger.tokens) == (12, 16)
    async with opened(tmp_path) as (_, ledger):
        after = ledger.jobs["job"]
        for counts in ("units", "sequences", "tokens"):
            assert +getattr(after, counts) == +getattr(before, counts)
        assert ledger.tokens == 16
        assert list(ledger._judged) == [units[3].unit_id]
        rest = await ledger.next_queued(6)
        assert [unit.unit_id for unit in rest] == [u.unit_id for u in (units[2], *units[4:])]
        assert rest[0].attempt == 1


async def test_a_unit_ends_once_and_is_paid_once_in_any_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, ledger):
        await ledger.submit("job", batches(6))
        units = await ledger.next_queued(3)
        ids = [unit.unit_id for unit in units]
        await journal.write(PayUnits(1, "0xaa", ids[:1]))  # before this node knew the verdict
        await put(journal, ledger, *(judged(unit, UnitState.ACCEPTED) for unit in units[:2]))
        await journal.write(PayUnits(2, "0xbb", ids[:2]), PayUnits(2, "0xbb", ids[:2]))
        (late,) = await journal.write(PutUnit.of(judged(units[0], UnitState.EXPIRED)))
        assert not late
        found = await ledger.units(await ledger.rows(queries.after_cursor(0, 10)))
        assert [(u.state, u.epoch, u.transaction) for u in found] == [
            (UnitState.SETTLED, 1, "0xaa"),
            (UnitState.SETTLED, 2, "0xbb"),
            (UnitState.QUEUED, 0, ""),
        ]
        assert ledger.jobs["job"].units[RowState.ACCEPTED] == 2


async def test_a_job_that_is_refused_half_way_leaves_nothing(tmp_path: Path) -> None:
    async def spoilt() -> AsyncIterator[Sequence[Prompt]]:
        async for batch in batches(8):
            yield batch
        yield [Prompt.model_validate({"prompt": "x", "max_tokens": 64})]

    async with opened(tmp_path) as (_, ledger):
        with pytest.raises(PromptsRefused, match="prompt 9"):
            await ledger.submit("job", spoilt(), all_or_nothing=True)
        assert await ledger.read(queries.after_cursor(0, 10)) == []
        assert await ledger.submit("job", batches(2))


async def test_a_job_that_was_cut_off_is_dropped_at_the_next_start(tmp_path: Path) -> None:
    from node.roles.orchestrator.ledger.writes import AddUnits, OpenJob

    async with opened(tmp_path) as (journal, _):
        row = (b"u" * 32, 0, 0, 1, b"")
        await journal.write(OpenJob("job", CUTTER.model_id), AddUnits("job", [row]))
    async with opened(tmp_path) as (_, ledger):
        assert not ledger.jobs
        assert await ledger.read(queries.after_cursor(0, 10)) == []


async def test_what_an_earlier_attempt_left_is_no_part_of_a_job(tmp_path: Path) -> None:
    from node.roles.orchestrator.ledger.writes import AddUnits, OpenJob

    async with opened(tmp_path) as (journal, ledger):
        row = (b"u" * 32, 0, 0, 1, b"")
        await journal.write(OpenJob("job", CUTTER.model_id), AddUnits("job", [row]))
        assert await ledger.submit("job", batches(2))
        found = await ledger.read(queries.after_cursor(0, 10))
        assert [row.size for row in found] == [2]
        assert b"u" * 32 not in {row.unit_id for row in found}


async def test_a_submission_that_waits_for_a_dead_disk_lets_the_node_end(tmp_path: Path) -> None:
    disk = Disk()
    limits = WriterLimits(closing=0.0)
    with trio.fail_after(120):
        async with open_journal(
            tmp_path / "journal.sqlite", store=disk.open, limits=limits
        ) as journal:
            ledger = WorkLedger(journal, CUTTER, dropping=0.01)
            await ledger.load({})
            async with trio.open_nursery() as nursery:
                disk.fail()
                nursery.start_soon(ledger.submit, "job", batches(2))
                await trio.testing.wait_all_tasks_blocked(0.01)
                journal.let_go()
                nursery.cancel_scope.cancel()
    assert not ledger.jobs


async def test_nothing_more_of_a_cancelled_job_is_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, ledger):
        await ledger.submit("job", batches(8))
        (unit,) = await ledger.next_queued(1)
        assert await ledger.cancel("job")
        assert not await ledger.cancel("job")
        assert await ledger.next_queued(1) == ()
        assert ledger.jobs["job"].finished
        await put(journal, ledger, judged(unit, UnitState.VERIFYING))
        assert not ledger.jobs["job"].finished
    async with opened(tmp_path) as (_, ledger):
        assert ledger.jobs["job"].cancelled
        assert await ledger.next_queued(1) == ()


async def test_a_page_of_a_job_begins_at_any_prompt(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, ledger):
        await ledger.submit("other", batches(4))
        await ledger.submit("job", batches(9))
        number = ledger.jobs["job"].number
        for index in range(9):
            rows = await ledger.rows(queries.of_job(number, index, 2))
            assert [row.first for row in rows] == [n for n in (0, 2, 4, 6, 8) if n > index - 2][:2]
        (last,) = await ledger.rows(queries.last(1))
        assert (last.first, last.size) == (8, 1)
        units = await ledger.next_queued(2)
        assert units[0].job_id == "other"
        await put(journal, ledger, judged(units[1], UnitState.ACCEPTED))
        rows = await ledger.rows(queries.accepted(ledger.jobs["other"].number, 0, 5))
        assert [row.first for row in rows] == [2]
