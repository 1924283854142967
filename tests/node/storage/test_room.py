"""Intake stops before the disk is full, and goes on by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from node.journal import open_journal
from node.storage.intake import NoStorage, check_storage, require_storage
from node.storage.room import DiskWatch, room_left, shortage
from p2p.errors import Refused

MIB = 2**20


async def test_intake_stops_at_the_reserve_and_goes_on_above_it(tmp_path: Path) -> None:
    free = [1000 * MIB]
    async with open_journal(tmp_path / "j.sqlite") as journal:
        watch = DiskWatch(journal, 256 * MIB, structlog.get_logger(), lambda _folder: free[0])
        watch.look()
        check_storage(journal)
        require_storage(journal)
        free[0] = 255 * MIB
        watch.look()
        with pytest.raises(NoStorage, match="255 MiB of disk are free, 256 MiB are kept"):
            check_storage(journal)
        with pytest.raises(Refused, match=r"no_storage: .*255 MiB of disk"):
            require_storage(journal)
        free[0] = 300 * MIB  # not yet: it would stop again at once
        watch.look()
        with pytest.raises(NoStorage):
            check_storage(journal)
        free[0] = 320 * MIB
        watch.look()
        await journal.wait_well()
        check_storage(journal)


async def test_a_disk_that_cannot_be_looked_at_takes_nothing(tmp_path: Path) -> None:
    def broken(_folder: Path) -> int:
        raise OSError(5, os.strerror(5))

    async with open_journal(tmp_path / "j.sqlite") as journal:
        DiskWatch(journal, 1, structlog.get_logger(), broken).look()
        assert "Input/output error" in journal.trouble


@given(st.integers(0, 2**50), st.integers(0, 2**50), st.booleans())
def test_no_reserve_never_stops_and_a_shortage_ends_later_than_it_begins(free, reserve, short):
    assert shortage(free, 0, short) == ""
    if shortage(free, reserve, False):
        assert shortage(free, reserve, True)


def test_the_room_is_that_of_the_folders_own_disk(tmp_path: Path) -> None:
    assert 0 < room_left(tmp_path) < 2**60
