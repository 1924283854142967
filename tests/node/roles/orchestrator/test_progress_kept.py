"""A restart redoes what was generated since the last note, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.journal import AsyncJournal, open_journal
from node.journal.writer import WriterLimits
from node.retry import Backoff
from node.roles.orchestrator.coordinator.commands import RecordProgress
from node.roles.orchestrator.coordinator.events import (
    BundleMade,
    Ending,
    PeerClaimed,
    PeerFinished,
    PeerTokens,
    PeerValidates,
    PeerVerdict,
    Tick,
)
from node.roles.orchestrator.coordinator.notes import NOTE_TOKENS, Notes
from node.roles.orchestrator.coordinator.tables import UnitTable
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.ledger.progress import PutProgress, resumed
from proofs.evidence.sequence import FinishReason
from tests.node.journal.disks import Disk
from tests.node.roles.orchestrator.coordination import unit
from tests.node.roles.orchestrator.lives import CUTTER, Life, one_batch

IDS = (60, 61, 62, 63, 64, 65, 66, 67)


@asynccontextmanager
async def run(folder: Path) -> AsyncIterator[tuple[AsyncJournal, Life, list[Unit]]]:
    """One run of the job, with a group that is up."""
    async with open_journal(folder / "journal.sqlite") as journal:
        life = await Life.begin(journal)
        if not life.ledger.jobs:
            await life.ledger.submit("job", one_batch())
        works = await life.gather()
        await life.ring()
        yield journal, life, works


async def bring(life: Life, work: Unit, count: int) -> None:
    """Stage 0 reports tokens of the first sequence up to `count`."""
    current = life.unit(work)
    first = current.sequences[0]
    at = len(first.output_ids)
    tokens = IDS[at:count]
    await life.tell(PeerTokens(current.generation, work.unit_id, first.sequence_id, at, tokens))


def outputs(life: Life, work: Unit) -> list[tuple[int, ...]]:
    return [s.output_ids for s in life.unit(work).sequences]


async def test_a_restart_goes_on_from_the_last_note(tmp_path: Path) -> None:
    async with run(tmp_path) as (_, life, (work, *_)):
        await bring(life, work, 2)  # the first ones are noted at once
        life.now += 1.0
        await bring(life, work, 4)
        life.now += 0.6
        await life.tell(Tick())  # these after a while
        await bring(life, work, 7)  # and these are lost
        before = life.unit(work)
    async with run(tmp_path) as (_, life, (work, *others)):
        again = life.unit(work)
        assert outputs(life, work) == [IDS[:4], ()]
        assert all(outputs(life, other) == [(), ()] for other in others)
        assert again.state is UnitState.ASSIGNED  # and these go along with the order
        assert again.generation != before.generation
        life.now += 10.0
        await bring(life, work, 6)
        assert life.unit(work).sequences[0].segments == (
            (0, before.generation),
            (4, again.generation),
        )
    async with run(tmp_path) as (_, life, (work, *_)):
        assert outputs(life, work) == [IDS[:6], ()]
        assert [at for at, _ in life.unit(work).sequences[0].segments] == [0, 4]


async def test_what_had_ended_is_proven_anew(tmp_path: Path) -> None:
    async with run(tmp_path) as (_, life, (work, *_)):
        current = life.unit(work)
        name = current.sequences[0].sequence_id
        await life.tell(
            PeerFinished(current.generation, work.unit_id, name, FinishReason.LENGTH, IDS)
        )
    async with run(tmp_path) as (_, life, (work, *_)):
        first, _ = life.unit(work).sequences
        assert (first.output_ids, first.finished) == (IDS[:7], False)


async def test_one_write_has_all_units_and_an_orderly_end_leaves_nothing(tmp_path: Path) -> None:
    async with run(tmp_path) as (_, life, works):
        await bring(life, works[0], 1)
        for work in works:
            await bring(life, work, 3)
        life.now += 1.5
        notes = [c for c in await life.tell(Tick()) if isinstance(c, RecordProgress)]
        assert [{u.unit_id for u in note.units} for note in notes] == [
            {work.unit_id for work in works}
        ]
        assert await life.tell(Tick()) == []  # nothing new, nothing written
        await bring(life, works[1], 5)
        await life.tell(Ending())
        await bring(life, works[2], 4)
    async with run(tmp_path) as (_, life, works):
        assert [len(outputs(life, work)[0]) for work in works] == [3, 5, 4]


async def test_notes_go_once_the_row_of_the_unit_says_more(tmp_path: Path) -> None:
    async with run(tmp_path) as (journal, life, (work, *_)):
        await bring(life, work, 3)
        await life.tell(PeerValidates("v1", 1))
        assert await rows(journal) == 1
        current = life.unit(work)
        for s in current.sequences:
            await life.tell(
                PeerFinished(
                    current.generation, work.unit_id, s.sequence_id, FinishReason.LENGTH, IDS
                )
            )
        await claimed(life, work)
        await life.tell(BundleMade(work.unit_id, b"b" * 32))
        assert await rows(journal) == 0
        late = PutProgress(work.unit_id, 0, 1, b"", False)
        assert await journal.write(late) == [False]  # and it takes no more


async def claimed(life: Life, work: Unit) -> None:
    current = life.unit(work)
    plan = life.pool.plan_of(current)
    assert plan is not None
    for stage in range(len(plan.stages)):
        await life.tell(PeerClaimed(work.unit_id, current.generation, stage, b"claim"))


async def rows(journal: AsyncJournal) -> int:
    return await journal.read(
        lambda c: int(c.execute("SELECT COUNT(*) FROM progress").fetchone()[0])
    )


async def test_nothing_is_kept_of_a_ring_with_a_worker_that_was_convicted(tmp_path: Path) -> None:
    async with run(tmp_path) as (_, life, (first, second, _)):
        await life.tell(PeerValidates("v1", 1))
        await bring(life, second, 3)
        current = life.unit(first)
        for s in current.sequences:
            await life.tell(
                PeerFinished(
                    current.generation, first.unit_id, s.sequence_id, FinishReason.LENGTH, IDS
                )
            )
        await claimed(life, first)
        await life.tell(BundleMade(first.unit_id, b"b" * 32))
        life.now += 2.0
        await life.tell(Tick())
        assert outputs(life, second) == [IDS[:3], ()]
    async with open_journal(tmp_path / "journal.sqlite") as journal:  # judged by the next run
        life = await Life.begin(journal)
        waits = await life.gather()
        assert outputs(life, second) == [IDS[:3], ()]
        verdict = PeerVerdict("v1", first.unit_id, b"b" * 32, False, "w2", "off", {})
        await life.tell(PeerValidates("v1", 1), verdict)
        assert {u.unit_id for u in waits} == {w.unit_id for w in life.pool.units.values()}
        assert outputs(life, second) == [(), ()]
    async with open_journal(tmp_path / "journal.sqlite") as journal:  # and known to all later ones
        life = await Life.begin(journal)
        await life.gather()
        assert outputs(life, second) == [(), ()]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgpack.packb(7),
        msgpack.packb([[0, 1, [60], [[1, 1]], False]]),
        msgpack.packb([[0, 0, [60], [], False]]),
        msgpack.packb([[0, 0, [60], [[0, -1]], False]]),
        msgpack.packb([[0, 0, [60, 61], [[0, 1], [1, 1], [0, 1]], False]]),
        msgpack.packb([[0, 0, [-1], [[0, 1]], False]]),
        msgpack.packb([[0, 0, [200], [[0, 1]], False]]),
        msgpack.packb([[0, 0, [2, 60], [[0, 1]], False]]),
        msgpack.packb([[0, 0, [60] * 9, [[0, 1]], False]]),
        msgpack.packb([[2, 0, [60], [[0, 1]], False]]),
        msgpack.packb([[-1, 0, [60], [[0, 1]], False]]),
        msgpack.packb([[0, 0, [60], [[0, 1]]]]),
        msgpack.packb([[0, 0, "abc", [[0, 1]], False]]),
    ],
)
async def test_a_damaged_note_costs_the_unit_its_tokens_and_nothing_else(
    tmp_path: Path, body: bytes
) -> None:
    async with run(tmp_path) as (journal, _, (work, *_)):
        await journal.write(PutProgress(work.unit_id, 0, 1, body, True))
    async with run(tmp_path) as (_, life, (work, *_)):
        assert outputs(life, work) == [(), ()]
        await bring(life, work, 2)
    async with run(tmp_path) as (_, life, (work, *_)):
        assert outputs(life, work) == [IDS[:2], ()]


@given(st.binary(max_size=64))
def test_no_bytes_make_more_of_a_unit_than_its_prompts_allow(body: bytes) -> None:
    work = unit(1)
    found = resumed(work, [(0, body)], CUTTER.unfinished_fault)
    assert all(not s.finished and len(s.output_ids) < 9 for s in found.sequences)


def test_notes_of_another_attempt_are_none() -> None:
    body = msgpack.packb([[0, 0, [60], [[0, 1]], False]])
    work = unit(1)
    assert resumed(work, [(1, body)], CUTTER.unfinished_fault) == work
    assert resumed(work, [(0, body)], CUTTER.unfinished_fault) != work


async def test_a_full_disk_holds_the_tables_and_loses_nothing(tmp_path: Path) -> None:
    async with run(tmp_path) as (_, life, (work, *_)):
        await bring(life, work, 1)
    disk = Disk()
    limits = WriterLimits(retry=Backoff.every(0.01))
    with trio.fail_after(120):
        async with open_journal(
            tmp_path / "journal.sqlite", store=disk.open, limits=limits
        ) as journal:
            life = await Life.begin(journal)
            await life.gather()
            await life.ring()
            disk.fail()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bring, life, work, 5)
                await disk.tried()
                await disk.tried()
                assert outputs(life, work) == [IDS[:1], ()]  # nobody sees what is not there
                assert life.ledger.tokens_shown() == 1
                disk.heal()
            assert outputs(life, work) == [IDS[:5], ()]
            assert life.ledger.tokens_shown() == 5
    async with run(tmp_path) as (_, life, (work, *_)):
        assert outputs(life, work) == [IDS[:5], ()]


def test_a_note_has_a_bound_and_what_was_not_written_is_noted_again() -> None:
    units, notes = UnitTable(), Notes(1.5)
    for number in range(3):
        work = replace(unit(number), state=UnitState.ASSIGNED, group_id=b"g")
        units[work.unit_id] = work
        notes.brought(work.unit_id, NOTE_TOKENS)
    found = [command for _ in range(4) for command in notes.due(units, 0.0)]
    assert [[u.unit_id[-1] for u in c.units] for c in found if isinstance(c, RecordProgress)] == [
        [0],
        [1],
        [2],
    ]
    notes.undone(units)
    (again,) = notes.due(units, 0.0)
    assert isinstance(again, RecordProgress)
    assert len(again.units) == 3
    assert notes.due(units, 0.0) == []
