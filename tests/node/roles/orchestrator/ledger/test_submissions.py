"""Jobs of which some prompts cannot be run, keys that come twice, rows that cannot be read."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from node.journal import open_journal
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.jobs.refusals import KeyTaken, PromptsRefused
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.roles.orchestrator.ledger.rows import RowState
from tests.node.roles.orchestrator.ledger.test_ledger import CUTTER, judged, put


def prompts(*texts: str) -> list[Prompt]:
    """Each of one token and four more; "long" ones are over the limit."""
    return [
        Prompt.model_validate({"prompt": text, "max_tokens": 64 if text == "long" else 4})
        for text in texts
    ]


async def by(size: int, *texts: str) -> AsyncIterator[Sequence[Prompt]]:
    asked = prompts(*texts)
    for at in range(0, len(asked), size):
        yield asked[at : at + size]


@asynccontextmanager
async def opened(folder: Path, cutter: JobCutter = CUTTER) -> AsyncIterator[WorkLedger]:
    """One life of a ledger."""
    async with open_journal(folder / "journal.sqlite") as journal:
        ledger = WorkLedger(journal, cutter)
        await ledger.load({})
        yield ledger


async def test_the_others_run_under_their_own_numbers(tmp_path: Path) -> None:
    texts = ("a", "long", "b", "c", "long", "long", "d")
    async with opened(tmp_path) as ledger:
        taken, _ = await ledger.submit("job", by(4, *texts))
        assert (taken.accepted, taken.refused) == (4, 3)
        assert [r.index for r in taken.refusals] == [1, 4, 5]
        assert "1 tokens + 64 new ones" in taken.refusals[0].reason
        units = await ledger.next_queued(10)
        assert [s.index for unit in units for s in unit.sequences] == [0, 2, 3, 6]
        again, new = await ledger.submit("job", by(7, *texts))
        assert (again, new) == (taken, False)
    async with opened(tmp_path) as ledger:
        job = ledger.jobs["job"]
        assert (job.prompts, job.refused, job.submitted) == (4, 3, 7)
        for index in range(7):
            rows = await ledger.rows(queries.of_job(job.number, index, 1))
            assert rows[0].last >= index
        assert await ledger.rows(queries.of_job(job.number, 7, 1)) == []


async def test_all_or_nothing_is_told_of_all_that_are_in_the_way(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        with pytest.raises(PromptsRefused, match=r"prompt 1: .* and 1 more") as caught:
            await ledger.submit("job", by(2, "long", "a", "b", "long"), all_or_nothing=True)
        assert [r.index for r in caught.value.refusals] == [0, 3]
        with pytest.raises(PromptsRefused) as none:
            await ledger.submit("job", by(2, "long"))
        assert none.value.refused == 1
        assert not ledger.jobs
        assert await ledger.read(queries.after_cursor(0, 10)) == []


@pytest.mark.parametrize("other", [("a", "x"), ("a",), ("a", "b", "c"), ("b", "a"), ("a", "long")])
async def test_a_key_stands_for_its_prompts(tmp_path: Path, other: tuple[str, ...]) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.submit("job", by(2, "a", "b"))
    async with opened(tmp_path) as ledger:
        with pytest.raises(KeyTaken, match="choose another key"):
            await ledger.submit("job", by(2, *other))
        taken, new = await ledger.submit("job", by(1, "a", "b"))
        assert (taken.accepted, new) == (2, False)
        assert ledger.jobs["job"].prompts == 2


async def test_what_cannot_be_read_any_more_is_given_up_and_holds_nothing_up(
    tmp_path: Path,
) -> None:
    """One unit is too long for the limit of today, one is damaged; the others go on."""
    async with opened(tmp_path) as ledger:
        await ledger.submit("job", by(8, "a", "b", "a b c d", "b", "c", "d", "e", "f"))
        await ledger.submit("later", by(2, "g"))
    with sqlite3.connect(tmp_path / "journal.sqlite") as file:
        file.execute("UPDATE units SET prompts = x'93' WHERE first = 4")
    async with opened(tmp_path, replace(CUTTER, context_length=6)) as ledger:
        found = []
        while units := await ledger.next_queued(1):
            found += [s.messages[0]["content"] for u in units for s in u.sequences]
        assert found == ["a", "b", "e", "f", "g"]
        job = ledger.jobs["job"]
        assert (job.units[RowState.EXPIRED], job.sequences[RowState.EXPIRED]) == (2, 4)
        assert (job.units[RowState.QUEUED], job.prompts) == (2, 8)
    async with opened(tmp_path) as ledger:
        job = ledger.jobs["job"]
        assert (job.units[RowState.EXPIRED], job.units[RowState.QUEUED]) == (2, 2)
        query = queries.in_state(job.number, RowState.EXPIRED, 0, 10)
        given_up = await ledger.units(await ledger.rows(query))
        assert {unit.state for unit in given_up} == {UnitState.EXPIRED}
        assert "over the 6 tokens" in given_up[0].why
        assert "cannot be read" in given_up[1].why


async def test_a_node_starts_with_a_damaged_unit_that_a_validator_has(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        ledger = WorkLedger(journal, CUTTER)
        await ledger.load({})
        await ledger.submit("job", by(4, "a", "b", "c", "d"))
        units = await ledger.next_queued(10)
        await put(journal, ledger, *(judged(unit, UnitState.VERIFYING) for unit in units))
    with sqlite3.connect(tmp_path / "journal.sqlite") as file:
        file.execute("UPDATE units SET outcome = x'93' WHERE first = 0")
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        ledger = WorkLedger(journal, CUTTER)
        (left,) = await ledger.load({})
        assert left.unit_id == units[1].unit_id
        counts = ledger.jobs["job"].units
        assert (counts[RowState.VERIFYING], counts[RowState.EXPIRED]) == (1, 1)
