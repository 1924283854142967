"""Rows of units that nobody has judged are never evicted, and hold for no longer than an age."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.evidence.held import FOLDER, HeldRows
from pipeline.engine.evidence.rows import RowsStore


def keep(store: RowsStore, number: int, size: int) -> str:
    """Rows of sequence `number`."""
    data = bytes([number]) * size
    rows = store.buffer()
    rows.add(memoryview(data))
    digest = hashlib.sha256(data).digest()
    store.keep(digest, rows, name_of(number))
    return f"{digest.hex()}.rows"


def name_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_what_is_not_judged_stays_and_what_is_judged_gives_way(tmp_path: Path) -> None:
    held = HeldRows(tmp_path)
    store = RowsStore(tmp_path, 100, held)
    first, second, third = (keep(store, n, 40) for n in range(3))
    assert files(tmp_path) == {first, second, third}  # over the budget, and nothing goes
    assert held.sizes() == dict.fromkeys((first, second, third), 40)
    HeldRows(tmp_path).release([name_of(1), name_of(9)])  # another process, of more than there is
    fourth = keep(store, 3, 20)
    assert files(tmp_path) == {first, third, fourth}
    held.release([name_of(n) for n in range(4)])
    assert held.sizes() == {}
    assert files(tmp_path) == {first, third, fourth}  # may go, and need not
    RowsStore(tmp_path, 50, HeldRows(tmp_path))
    assert len(files(tmp_path)) == 1


def test_they_are_held_by_the_next_engine_too_but_not_for_ever(tmp_path: Path) -> None:
    store = RowsStore(tmp_path, 100, HeldRows(tmp_path))
    kept = {keep(store, n, 60) for n in range(2)}
    RowsStore(tmp_path, 10, HeldRows(tmp_path))
    assert files(tmp_path) == kept
    (mark, _) = sorted((tmp_path / FOLDER).iterdir())
    os.utime(mark, (1000, 1000))
    later = HeldRows(tmp_path, age=3600.0)
    assert len(later.sizes()) == 1
    assert not mark.exists()
    RowsStore(tmp_path, 10, later)
    assert len(files(tmp_path)) == 1


def test_one_sequence_may_have_rows_of_several_stages(tmp_path: Path) -> None:
    held = HeldRows(tmp_path)
    held.hold(name_of(1), "a.rows", 5)
    held.hold(name_of(1), "b.rows", 7)
    assert held.sizes() == {"a.rows": 5, "b.rows": 7}
    held.release([name_of(1)])
    assert held.sizes() == {}


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="/\0"), max_size=30)))
def test_whatever_lies_in_the_folder_is_no_trouble(names: list[str]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        (Path(folder) / FOLDER).mkdir()
        for name in names:
            if name.strip("."):
                (Path(folder) / FOLDER / name).write_bytes(b"")
        held = HeldRows(Path(folder), age=3600.0)
        assert all(size >= 0 for size in held.sizes().values())
        held.release([name_of(1)])
