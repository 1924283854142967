"""Rows kept on disk: whole files under their hash, never more than the budget, never an error."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pipeline.engine.evidence.rows import RowsStore


def keep(store: RowsStore, data: bytes) -> str:
    rows = store.buffer()
    for start in range(0, len(data), 7):
        rows.add(memoryview(data)[start : start + 7])
    digest = hashlib.sha256(data).digest()
    store.keep(digest, rows)
    return f"{digest.hex()}.rows"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_holds_the_rows_under_their_hash(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    name = keep(RowsStore(folder, 100), b"rows" * 10)
    assert names(folder) == {name}
    assert (folder / name).read_bytes() == b"rows" * 10
    assert (folder / name).stat().st_mode & 0o077 == 0


def test_the_oldest_go_first(tmp_path: Path) -> None:
    store = RowsStore(tmp_path, 100)
    kept = [keep(store, bytes([n]) * 40) for n in range(3)]
    assert names(tmp_path) == set(kept[1:])
    assert keep(store, bytes([1]) * 40) == kept[1]  # again: now the newest
    last = keep(store, bytes([3]) * 40)
    assert names(tmp_path) == {kept[1], last}
    whole = keep(store, bytes(100))
    assert names(tmp_path) == {whole}


def test_a_new_store_takes_over_what_the_folder_holds(tmp_path: Path) -> None:
    store = RowsStore(tmp_path, 200)
    kept = [keep(store, bytes([n]) * 40) for n in range(4)]
    for age, name in enumerate((kept[2], kept[0], kept[3], kept[1])):
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    (tmp_path / "half.rows.part").write_bytes(b"cut short")
    (tmp_path / "other.txt").write_bytes(bytes(500))
    assert names(tmp_path) >= set(kept)
    smaller = RowsStore(tmp_path, 130)
    assert names(tmp_path) == {kept[0], kept[3], kept[1], "other.txt"}
    last = keep(smaller, bytes([9]) * 60)
    assert names(tmp_path) == {kept[1], last, "other.txt"}


def test_what_exceeds_the_budget_is_not_kept_and_costs_nobody_else(tmp_path: Path) -> None:
    store = RowsStore(tmp_path, 100)
    name = keep(store, bytes(60))
    large = store.buffer()
    for _ in range(3):
        large.add(memoryview(bytes(50)))
    assert (large.size, large.data) == (150, None)
    store.keep(bytes(32), large)
    assert names(tmp_path) == {name}


def test_files_that_somebody_removed_are_no_trouble(tmp_path: Path) -> None:
    store = RowsStore(tmp_path, 100)
    (tmp_path / keep(store, bytes(60))).unlink()
    name = keep(store, bytes(70))
    assert names(tmp_path) == {name}


def test_a_folder_that_is_a_file_or_goes_away_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    keep(RowsStore(tmp_path / "file", 100), b"rows")
    store = RowsStore(tmp_path / "gone", 100)
    (tmp_path / "gone").rmdir()
    keep(store, b"rows")
    assert names(tmp_path) == {"file"}


def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RowsStore(tmp_path, 100)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        keep(store, b"rows" * 5)
    assert names(tmp_path) == set()
    assert names(tmp_path) | {keep(store, b"rows" * 5)} == names(tmp_path)
