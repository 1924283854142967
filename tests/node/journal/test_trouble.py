"""A full, a failing and a stuck disk: nothing is lost, callers wait, and it recovers by itself."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from node.journal import DiskError, Journal, JournalError, JournalEvent, WriterLimits, open_journal
from node.journal.health import DiskHealth
from tests.node.journal.disks import Disk


class Said(JournalEvent, kind="self.test-said"):
    """An event of any size."""

    name: str
    text: str = ""

    @property
    def key(self) -> str:
        return self.name


def keys(path: Path) -> list[str]:
    """What a restart would find."""
    with Journal(path, lambda: 0.0) as reader:
        return [event.key for event in reader.events()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_keeps_callers_waiting_and_goes_on_when_there_is_room(
    small_disk: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path, filler = small_disk / "j.sqlite", small_disk / "filler"
    async with open_journal(path) as journal:
        await journal.record(Said(name="before"))
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        assert shutil.disk_usage(small_disk).free == 0
        done: list[str] = []

        async def record(name: str) -> None:
            assert await journal.record(Said(name=name, text="x" * 20_000)) == [True]
            done.append(name)

        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(record, str(n))
            while not journal.trouble:
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert journal.trouble in ("the disk is full", "the disk fails")
            assert done == []
            filler.unlink()
            await journal.wait_well()
        assert sorted(done) == [str(n) for n in range(5)]
        assert journal.trouble == ""
    assert sorted(keys(path)) == ["0", "1", "2", "3", "4", "before"]


def test_sqlites_own_word_for_a_full_disk_is_a_disk_error(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        event = Said(name="1", text="x" * 100_000).to_entry()
        with pytest.raises(DiskError) as caught:
            journal.commit([event])
        assert caught.value.reason == "the disk is full"
        assert list(journal.events()) == []
        journal._connection.execute(f"PRAGMA max_page_count = {pages + 100}")
        assert journal.commit([event]) == [True]


def test_a_file_that_another_program_holds_is_a_disk_error(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite", lambda: 0.0) as journal:
        journal._connection.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(journal.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DiskError) as caught:
            journal.append("self.test-said", "1")
        assert caught.value.reason == "another program holds the journal's file"
        other.close()
        assert journal.append("self.test-said", "1")


async def test_a_failing_disk_fails_nobody_and_tells_when_it_recovers(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    disk = Disk()
    async with open_journal(tmp_path / "j.sqlite", store=disk.open) as journal:
        disk.fail("the disk fails")
        results: list[bool] = []

        async def record(name: str) -> None:
            results.extend(await journal.record(Said(name=name), state={"last": name}))

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "a"):
                nursery.start_soon(record, name)
            for _ in range(20):
                await disk.tried()
            assert journal.trouble == "the disk fails"
            assert results == []
            disk.heal()
            await journal.wait_well()
        assert sorted(results) == [False, True, True]
        assert await journal.state("last") in ("a", "b")


async def test_a_disk_that_does_not_answer_is_trouble_until_it_does(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    disk, now = Disk(), [0.0]
    async with open_journal(
        tmp_path / "j.sqlite", store=disk.open, monotonic=lambda: now[0]
    ) as journal:
        disk.stall()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.record, Said(name="slow"))
            await disk.tried()
            now[0] = 9.9
            assert journal.trouble == ""
            now[0] = 25.0
            assert journal.trouble == "the disk has not answered for 25 s"
            nursery.start_soon(journal.wait_well)
            await trio.testing.wait_all_tasks_blocked()
            disk.heal()
        assert journal.trouble == ""
        assert await journal.find(Said, "slow") is not None


async def test_a_caller_whose_event_is_taken_is_not_torn_from_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    disk = Disk()
    table: set[str] = set()
    async with open_journal(tmp_path / "j.sqlite", store=disk.open) as journal:
        disk.fail()

        async def transition(name: str) -> None:
            await journal.record(Said(name=name))
            table.add(name)  # what memory makes of it
            await trio.lowlevel.checkpoint()
            table.clear()  # not reached: here the caller's deadline has passed

        async with trio.open_nursery() as nursery:
            nursery.start_soon(transition, "a")
            await disk.tried()
            nursery.cancel_scope.cancel()
            nursery.start_soon(_heal_later, disk)
        assert table == {"a"}
        assert await journal.find(Said, "a") is not None


async def _heal_later(disk: Disk) -> None:
    with trio.CancelScope(shield=True):
        await disk.tried()
        disk.heal()


async def test_what_waits_is_bounded_in_bytes_and_the_line_is_kept(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    disk, limits = Disk(), WriterLimits(waiting=10_000)
    async with open_journal(tmp_path / "j.sqlite", store=disk.open, limits=limits) as journal:
        disk.fail()
        async with trio.open_nursery() as nursery:
            for n in range(30):
                nursery.start_soon(journal.record, Said(name=f"{n:02}", text="x" * 2000))
                await trio.testing.wait_all_tasks_blocked(0.001)
            await disk.tried()
            assert 0 < journal.waiting_bytes <= limits.waiting
            with trio.CancelScope() as scope:  # in line, nothing is taken yet
                scope.cancel()
                await journal.record(Said(name="impatient"))
            assert scope.cancelled_caught
            disk.heal()
        assert journal.waiting_bytes == 0
        # One event alone may be larger than the bound.
        assert await journal.record(Said(name="large", text="x" * 50_000)) == [True]
    assert keys(tmp_path / "j.sqlite") == [*(f"{n:02}" for n in range(30)), "large"]


@pytest.mark.parametrize("how", ["fails", "stalls"])
async def test_a_node_can_end_while_its_disk_is_in_trouble(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    disk, now = Disk(), [0.0]
    async with open_journal(
        tmp_path / "j.sqlite", store=disk.open, monotonic=lambda: now[0]
    ) as journal:
        disk.fail() if how == "fails" else disk.stall()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.let_go_when_cancelled)
            nursery.start_soon(journal.record, Said(name="lost"))
            await disk.tried()
            now[0] = 60.0
            nursery.cancel_scope.cancel()
        assert journal.waiting_bytes > 0
    disk.heal()


async def test_an_event_that_is_at_fault_itself_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    async with open_journal(path) as journal:
        with sqlite3.connect(path) as other:
            other.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.key = '9'"
                " BEGIN SELECT RAISE(ABORT, 'no 9'); END"
            )
        refused: list[str] = []

        async def record(name: str) -> None:
            try:
                await journal.record(Said(name=name))
            except JournalError:
                refused.append(name)

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(record, str(n))
        assert refused == ["9"]
        assert journal.trouble == ""
    assert len(keys(path)) == 19


def test_too_little_room_is_trouble_though_writes_succeed() -> None:
    health = DiskHealth(stalled=10.0)
    assert health.trouble(0.0) == ""
    health.room = "less than 256 MiB are free"
    assert health.trouble(0.0) == "less than 256 MiB are free"
    health.write_begins(0.0)
    health.write_ends("the disk is full")
    assert health.trouble(1.0) == "the disk is full"
    health.write_begins(1.0)
    health.write_ends()
    assert health.trouble(100.0) == "less than 256 MiB are free"
