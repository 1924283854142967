"""Group commit under trio: order, sharing, failure, closing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from node.journal import AsyncJournal, Journal, JournalError, JournalEvent, open_journal


class Numbered(JournalEvent, kind="self.test-numbered"):
    """An event of the test's own; `body` may be what no file can hold."""

    key_: str
    body: Any = None

    @property
    def key(self) -> str:
        return self.key_


def numbered(key: str, body: Any = None) -> Numbered:
    return Numbered(key_=key, body=body)


async def test_appends_are_on_disk_when_they_return(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    async with open_journal(path, lambda: 1.0) as journal:
        assert await journal.record(numbered("1", (1,))) == [True]
        assert await journal.record(numbered("1")) == [False]
        with Journal(path, lambda: 2.0) as reader:
            assert [e.key for e in reader.events()] == ["1"]
        assert await journal.record(numbered("2"), state={"n": 5}) == [True]
        assert await journal.state("n") == 5
        assert await journal.find(Numbered, "2") == numbered("2")
        assert await journal.replay(Numbered) == [numbered("1", (1,)), numbered("2")]
    with Journal(path, lambda: 2.0) as reader:
        assert [e.at for e in reader.events()] == [1.0, 1.0]
        assert [e.key for e in reader.events([Numbered.kind], after_id=1)] == ["2"]
        assert [e.key for e in reader.page(None, 0, limit=1)] == ["1"]


async def test_concurrent_appends_share_transactions_and_keep_their_order(
    tmp_path: Path,
) -> None:
    sizes: list[int] = []

    class Counting(Journal):
        def commit_packed(self, groups: Any) -> list[list[bool]]:
            sizes.append(len(groups))
            return super().commit_packed(groups)

    async with open_journal(tmp_path / "j.sqlite", lambda: 0.0, Counting) as journal:
        asked: list[str] = []

        async def append(key: str) -> None:
            asked.append(key)
            assert await journal.record(numbered(key)) == [True]

        async with trio.open_nursery() as nursery:
            for n in range(300):
                nursery.start_soon(append, str(n))
        assert [e.key for e in await journal.replay(Numbered)] == asked
    assert sum(sizes) == 300
    assert len(sizes) < 30


async def test_of_equal_concurrent_appends_one_wins(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        results: list[bool] = []

        async def append() -> None:
            results.extend(await journal.record(numbered("same")))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(append)
    assert sorted(results) == [False] * 19 + [True]


async def test_a_bad_body_fails_its_caller_alone(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        with pytest.raises(JournalError, match="not a journal value"):
            await journal.record(numbered("1", object()))
        with pytest.raises(JournalError, match="not a journal value"):
            await journal.set_state("k", 2**64)
        assert await journal.record(numbered("1")) == [True]


async def test_leaving_writes_what_is_queued_and_closes(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    kept: list[AsyncJournal] = []
    async with trio.open_nursery() as nursery, open_journal(path, lambda: 0.0) as journal:
        kept.append(journal)
        for n in range(20):
            nursery.start_soon(journal.record, numbered(str(n)))
        await trio.testing.wait_all_tasks_blocked()
    with Journal(path, lambda: 0.0) as reader:
        assert len(list(reader.events())) == 20
    with pytest.raises(JournalError, match="closed"):
        await kept[0].record(numbered("late"))


async def test_a_cancelled_caller_leaves_the_journal_working(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.record(numbered("1"))
        assert scope.cancelled_caught
        await journal.record(numbered("1"))
        assert [e.key for e in await journal.replay(Numbered)] == ["1"]
