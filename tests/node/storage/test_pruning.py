"""A round of pruning: files first, failures named, nothing written while the disk takes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio
import trio.testing

from node.journal import open_journal
from node.journal.store import Journal
from node.roles.worker.journal_events import EvidenceSaid, PoolJoined
from node.storage.files import FileKeeper, stored
from node.storage.pruning import Compactor, Pruner, PruneTiming
from node.storage.records import DropOld, RecordKeeper
from node.storage.report import Pruned
from node.storage.retention import FileLimits

LOG = structlog.get_logger("test")


@dataclass
class Plain:
    """A keeper that writes down when it was asked."""

    name: str
    writes: bool
    asked: list[tuple[str, bool]] = field(default_factory=list)
    error: OSError | None = None

    async def prune(self, *, dry: bool) -> Pruned:
        self.asked.append((self.name, dry))
        if self.error is not None:
            raise self.error
        return Pruned(self.name, removed=1)


async def test_files_go_first_and_a_failing_keeper_holds_up_no_other() -> None:
    asked: list[tuple[str, bool]] = []
    rows, files = Plain("rows", True, asked), Plain("files", False, asked)
    broken = Plain("broken", False, asked, OSError(5, "the disk fails"))
    found = await Pruner([rows, broken, files], lambda: "", LOG).prune(dry=True)
    assert asked == [("broken", True), ("files", True), ("rows", True)]
    assert [each.removed for each in found] == [0, 1, 1]
    assert "the disk fails" in found[0].why


async def test_a_disk_that_takes_no_writes_still_loses_its_files() -> None:
    asked: list[tuple[str, bool]] = []
    pruner = Pruner(
        [Plain("rows", True, asked), Plain("files", False, asked)], lambda: "the disk is full", LOG
    )
    found = await pruner.prune(dry=False)
    assert asked == [("files", False)]
    assert found[1].why == "not looked at: the disk is full"
    await pruner.prune(dry=True)
    assert asked[1:] == [("files", True), ("rows", True)]


async def test_a_running_node_prunes_now_and_then(autojump_clock: trio.testing.MockClock) -> None:
    keeper = Plain("files", False)
    with trio.move_on_after(95.0):
        await Pruner([keeper], lambda: "", LOG, PruneTiming(every=30.0)).run()
    assert keeper.asked == [("files", False)] * 3


async def test_the_oldest_files_beyond_a_quota_go(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.rows").write_bytes(bytes(100))
    (tmp_path / ".4.rows").write_bytes(bytes(100))
    (tmp_path / "other").write_bytes(bytes(100))
    last = max(file.written for file in stored(tmp_path, ""))
    keeper = FileKeeper("rows", tmp_path, ".rows", FileLimits(200, young=0.0), lambda: last)
    shown = await keeper.prune(dry=True)
    assert (shown.removed, shown.freed, shown.kept, shown.left) == (2, 200, 2, 200)
    assert len(stored(tmp_path, "")) == 5
    assert await keeper.prune(dry=False) == shown
    assert len(stored(tmp_path, ".rows")) == 2
    assert (tmp_path / ".4.rows").exists()
    assert (tmp_path / "other").exists()
    gone = FileKeeper("rows", tmp_path / "none", ".rows", FileLimits(1), lambda: last)
    assert await gone.prune(dry=False) == Pruned("rows", why="within quota")


def said(number: int) -> EvidenceSaid:
    return EvidenceSaid(
        unit_id=number.to_bytes(32, "big"),
        group_id=b"g" * 32,
        generation=1,
        stage=0,
        commitment=b"c" * 32,
    )


async def test_old_records_go_and_other_events_stay(tmp_path: Path) -> None:
    now = 0.0
    async with open_journal(tmp_path / "journal.sqlite", clock=lambda: now) as journal:
        await journal.record(*(said(number) for number in range(5)), PoolJoined(pool_id=1))
        now = 100.0
        await journal.record(said(5))
        keeper = RecordKeeper(journal, [EvidenceSaid], 60.0, lambda: now)
        shown = await keeper.prune(dry=True)
        assert (shown.removed, shown.kept) == (5, 1)
        assert await keeper.prune(dry=False) == shown
        assert await journal.replay(EvidenceSaid) == [said(5)]
        assert await journal.replay(PoolJoined)
        never = RecordKeeper(journal, [EvidenceSaid], 0.0, lambda: 1e12)
        assert (await never.prune(dry=False)).removed == 0
        (more,) = await journal.write(DropOld(EvidenceSaid.kind, 1e12, limit=1))
        assert more
        assert await journal.replay(EvidenceSaid) == []


async def test_room_in_the_journal_goes_back_to_the_file_system(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path, lambda: 1.0) as journal:
        for number in range(64):
            journal.append("self.big", str(number), bytes(100_000))
    full = path.stat().st_size
    async with open_journal(path) as opened:
        await opened.write(DropOld("self.big", 2.0))
        compactor = Compactor(opened)
        shown = await compactor.prune(dry=True)
        assert shown.freed > 6_000_000
        assert await opened.free_bytes() == shown.freed
        assert (await compactor.prune(dry=False)).freed == shown.freed
        assert await opened.free_bytes() == 0
    assert path.stat().st_size < full - 6_000_000
