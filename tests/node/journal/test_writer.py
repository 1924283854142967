"""Group commit under trio: order, sharing, failure, closing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from node.journal import AsyncJournal, Entry, Journal, JournalError, open_journal


async def test_appends_are_on_disk_when_they_return(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    async with open_journal(path, lambda: 1.0) as journal:
        assert await journal.append("self.a", "1", [1])
        assert not await journal.append("self.a", "1")
        with Journal(path, lambda: 2.0) as reader:
            assert [e.key for e in reader.events()] == ["1"]
        assert await journal.commit([Entry("self.a", "2")], {"n": 5}) == [True]
        assert await journal.state("n") == 5
        found = await journal.get("self.a", "2")
        assert found is not None
        assert found.at == 1.0
        assert [e.key for e in await journal.events(["self.a"], after_id=1)] == ["2"]
        assert [e.key for e in await journal.page(limit=1)] == ["1"]


async def test_concurrent_appends_share_transactions_and_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    plain = Journal.commit_packed

    def counting(self: Journal, groups):  # type: ignore[no-untyped-def]
        sizes.append(len(groups))
        return plain(self, groups)

    monkeypatch.setattr(Journal, "commit_packed", counting)
    async with open_journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        asked: list[str] = []

        async def append(key: str) -> None:
            asked.append(key)
            assert await journal.append("self.k", key)

        async with trio.open_nursery() as nursery:
            for n in range(300):
                nursery.start_soon(append, str(n))
        assert [e.key for e in await journal.events()] == asked
    assert sum(sizes) == 300
    assert len(sizes) < 30


async def test_of_equal_concurrent_appends_one_wins(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        results: list[bool] = []

        async def append() -> None:
            results.append(await journal.append("self.k", "same"))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(append)
    assert sorted(results) == [False] * 19 + [True]


async def test_a_bad_body_fails_its_caller_alone(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        with pytest.raises(JournalError, match="not a journal value"):
            await journal.append("self.k", "1", object())
        with pytest.raises(JournalError, match="not a journal value"):
            await journal.set_state("self.k", 2**64)
        assert await journal.append("self.k", "1")


async def test_a_failing_disk_fails_everyone_who_waits_and_not_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Journal.commit_packed

    def full(self: Journal, groups):  # type: ignore[no-untyped-def]
        raise JournalError("disk full")

    async with open_journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        monkeypatch.setattr(Journal, "commit_packed", full)
        refused: list[str] = []

        async def append(key: str) -> None:
            with pytest.raises(JournalError, match="not written"):
                await journal.append("self.k", key)
            refused.append(key)

        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(append, str(n))
        assert len(refused) == 5
        monkeypatch.setattr(Journal, "commit_packed", plain)
        assert await journal.append("self.k", "1")


async def test_leaving_writes_what_is_queued_and_closes(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    kept: list[AsyncJournal] = []
    async with trio.open_nursery() as nursery, open_journal(path, lambda: 0.0) as journal:
        kept.append(journal)
        for n in range(20):
            nursery.start_soon(journal.append, "self.k", str(n))
        await trio.testing.wait_all_tasks_blocked()
    with Journal(path, lambda: 0.0) as reader:
        assert len(list(reader.events())) == 20
    with pytest.raises(JournalError, match="closed"):
        await kept[0].append("self.k", "late")


async def test_a_cancelled_caller_leaves_the_journal_working(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.append("self.k", "1")
        assert scope.cancelled_caught
        await journal.append("self.k", "1")
        assert [e.key for e in await journal.events()] == ["1"]
