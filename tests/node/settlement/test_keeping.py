"""Epochs' data on disk: the newest of every pool stay, and what is no epoch's data does, too."""

from __future__ import annotations

import os
from pathlib import Path

from node.journal import open_journal
from node.settlement.events import ChainPlace, RootSeen
from node.settlement.history import KEPT
from node.settlement.keeping import EpochKeeper
from node.storage.retention import FileLimits
from proofs.settlement.epoch_data import Epoch
from tests.node.settlement.test_history import SIGNERS, epoch_after

DAY = 86_400.0


def place(number: int) -> ChainPlace:
    return ChainPlace(rewinds=0, block=number, log_index=0, transaction=bytes(32))


async def test_old_data_go_and_the_newest_and_foreign_files_stay(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    epochs = list[Epoch]()
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        for number in range(1, KEPT + 3):
            epochs.append(epoch_after(epochs[-1] if epochs else None, number))
            seen = RootSeen(
                place=place(number), root=epochs[-1].root, signers=SIGNERS, claimable_at=0
            )
            await journal.record(seen)
        never_posted = epoch_after(None, 99)
        for number, epoch in enumerate([*epochs, never_posted]):
            path = blobs / f"{epoch.root.data_hash.hex()}.epoch"
            path.write_bytes(epoch.content)
            os.utime(path, (1000.0 + number, 1000.0 + number))
        profile = blobs / f"{'ab' * 32}.epoch"
        profile.write_bytes(b'[limits]\nname = "mine"\n')
        os.utime(profile, (0.0, 0.0))
        now = 1000.0 + 40 * DAY
        keeper = EpochKeeper(blobs, journal, FileLimits(2**30, 30 * DAY), lambda: now)
        shown = await keeper.prune(dry=True)
        assert (shown.removed, shown.kept) == (3, KEPT + 1)
        assert f"{KEPT} the newest of their pools" in shown.why
        assert len(list(blobs.iterdir())) == KEPT + 4
        assert await keeper.prune(dry=False) == shown
        left = {path.name for path in blobs.iterdir()}
        newest = {f"{epoch.root.data_hash.hex()}.epoch" for epoch in epochs[-KEPT:]}
        assert left == {*newest, profile.name}
        validator = EpochKeeper(blobs, journal, FileLimits(0), lambda: now)
        assert (await validator.prune(dry=False)).removed == 0
