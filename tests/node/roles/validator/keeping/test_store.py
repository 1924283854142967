"""Bundles on disk, their names, and the events that go with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node.journal import AsyncJournal, open_journal
from node.roles.validator.journal_events import BundleTried, LimitsUsed, VerdictSigned
from node.roles.validator.keeping.retention import DAY, KeepLimits
from node.roles.validator.keeping.store import BundleStore, NoRoom
from tests.proofs.units import bundle, sequence

UNIT = bundle(2, (sequence(1),))
CONTENT = UNIT.to_bytes()
KEY = UNIT.content_id


class Desk:
    """A journal, the ids that are owed a verdict, and a clock."""

    def __init__(self, folder: Path, journal: AsyncJournal, limits: KeepLimits) -> None:
        self.owed: set[bytes] = set()
        self.wall = 0.0
        self.journal = journal
        self.folder = folder / "bundles"
        self.store = BundleStore(folder, journal, limits, lambda: self.owed, lambda: self.wall)

    def files(self) -> list[str]:
        return sorted(path.name[64:] for path in self.folder.iterdir())


@asynccontextmanager
async def desk(folder: Path, limits: KeepLimits | None = None) -> AsyncIterator[Desk]:
    async with open_journal(folder / "journal.db") as journal:
        found = Desk(folder, journal, limits or KeepLimits())
        found.wall = (folder / "journal.db").stat().st_mtime
        yield found


async def test_a_judged_bundle_is_there_until_its_time_is_over_and_then_nothing_is(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as d:
        await d.store.open()
        d.owed.add(KEY)
        await d.store.put(KEY, CONTENT)
        await d.journal.record(
            VerdictSigned(bundle_id=KEY, verdict=b"v"), LimitsUsed(bundle_id=KEY, limits="fp32")
        )
        await d.store.judged(KEY, accepted=True)
        await d.store.judged(KEY, accepted=True)  # after a crash it is said again
        d.owed.clear()
        await d.store.sweep()
        assert d.files() == [".accepted.bundle"]
        assert await d.store.get(KEY) == UNIT
        d.wall += DAY + 100.0
        await d.store.sweep()
        assert (d.files(), d.store.size) == ([], 0)
        assert await d.journal.replay(VerdictSigned, LimitsUsed) == []


async def test_a_restart_clears_away_what_nobody_owes_a_verdict_for(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.store.open()
        await d.store.put(KEY, CONTENT)
        (d.folder / f".{KEY.hex()}.open.bundle.1.ab").write_bytes(b"half")
        (d.folder / "README").write_text("not ours")
        d.owed.add(KEY)
        await d.store.open()
        assert d.files() == ["", ".open.bundle"]
        d.owed.clear()
        await d.store.open()
        assert d.files() == [""]


async def test_events_whose_file_is_gone_do_not_stay(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.store.open()
        await d.store.put(KEY, CONTENT)
        await d.store.judged(KEY, accepted=False)
        lost, dropped = b"l" * 32, b"d" * 32
        for bundle_id in (KEY, lost, dropped):
            await d.journal.record(VerdictSigned(bundle_id=bundle_id, verdict=b"v"))
        await d.store.drop(dropped)
        await d.store.open()
        assert [e.bundle_id for e in await d.journal.replay(VerdictSigned)] == [KEY]


async def test_a_full_quota_makes_room_or_refuses_and_owed_ones_stay(tmp_path: Path) -> None:
    limits = KeepLimits(bundle_bytes=2 * len(CONTENT))
    ids = [bytes([n]) * 32 for n in range(4)]
    async with desk(tmp_path, limits) as d:
        await d.store.open()
        d.owed |= set(ids)
        await d.store.put(ids[0], CONTENT)
        await d.store.put(ids[1], CONTENT)
        with pytest.raises(NoRoom):
            await d.store.put(ids[2], CONTENT)
        await d.store.judged(ids[0], accepted=True)
        d.owed.discard(ids[0])
        await d.store.put(ids[2], CONTENT)
        assert await d.store.get(ids[0]) is None
        assert d.store.size == limits.bundle_bytes
        await d.store.drop(ids[1])
        assert d.store.size == len(CONTENT)


async def test_tries_are_forgotten_by_age(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        ages = [2 * DAY] * 590 + [0.0] * 10
        tries = [BundleTried(bundle_id=KEY, attempt=n, at=d.wall - a) for n, a in enumerate(ages)]
        await d.journal.record(*tries)
        await d.store.open()
        assert [e.attempt for e in await d.journal.replay(BundleTried)] == list(range(590, 600))
