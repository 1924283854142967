"""The journal's file: idempotence, atomicity, order, migrations, and damaged files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.journal import Entry, Journal, JournalError
from node.journal.schema import NEWEST, OLDEST


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    ticks = count(100)
    with Journal(tmp_path / "j.sqlite", lambda: float(next(ticks))) as opened:
        yield opened


def test_an_event_is_appended_once(journal: Journal) -> None:
    assert journal.append("self.verdict", "u1", {"ok": True})
    assert not journal.append("self.verdict", "u1", {"ok": False})
    assert journal.append("self.work", "u1")
    event = journal.get("self.verdict", "u1")
    assert event is not None
    assert (event.body, event.origin, event.id) == ({"ok": True}, "self", 1)
    assert journal.get("self.verdict", "u2") is None


def test_a_batch_is_all_or_nothing(journal: Journal) -> None:
    journal.append("self.a", "2")
    assert journal.commit([Entry("self.a", str(n)) for n in (1, 2, 3, 3)]) == [
        True,
        False,
        True,
        False,
    ]
    with sqlite3.connect(journal.path) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.key = '9'"
            " BEGIN SELECT RAISE(ABORT, 'no room for 9'); END"
        )
    with pytest.raises(JournalError, match="no room for 9"):
        journal.commit([Entry("self.a", "8"), Entry("self.a", "9")], {"x": 1})
    assert journal.get("self.a", "8") is None
    assert journal.state("x") is None


def test_events_are_read_in_order_by_kind_and_position(journal: Journal) -> None:
    for n in range(600):
        journal.append("self.even" if n % 2 == 0 else "self.odd", str(n), n)
    assert [e.body for e in journal.events()] == list(range(600))
    assert [e.body for e in journal.events(["self.odd"])] == list(range(1, 600, 2))
    assert [e.body for e in journal.events(["self.odd", "self.even"], after_id=595)] == [
        595,
        596,
        597,
        598,
        599,
    ]
    assert list(journal.events([])) == []
    assert [e.body for e in journal.page(None, 3, 2)] == [3, 4]
    times = [e.at for e in journal.events()]
    assert times == sorted(times)


def test_state_is_set_with_its_events_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path, lambda: 0.0) as journal:
        journal.commit([Entry("self.a", "1")], {"cursor": 1, "name": "x"})
        journal.set_state("cursor", 2)
    with Journal(path, lambda: 0.0) as journal:
        assert journal.state("cursor") == 2
        assert journal.state("name") == "x"
        assert journal.state("none", "default") == "default"
        assert len(list(journal.events())) == 1


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(_VALUES, max_size=4))
def test_bodies_survive(tmp_path_factory: pytest.TempPathFactory, values: list[object]) -> None:
    path = tmp_path_factory.mktemp("journal") / "j.sqlite"
    with Journal(path, lambda: 0.0) as journal:
        journal.commit([Entry("self.k", str(n), value) for n, value in enumerate(values)])
        assert [event.body for event in journal.events()] == values


@pytest.mark.parametrize("body", [object(), 2**64, {"a": {1, 2}}, b"x" * (17 << 20)])
def test_what_cannot_be_stored_is_refused_before_anything_is_written(body: object) -> None:
    with pytest.raises(JournalError):
        Entry("self.k", "1", body)


@pytest.mark.parametrize(("kind", "key"), [("self.a", ""), ("self.a", "x" * 513)])
def test_names_are_bounded(kind: str, key: str) -> None:
    with pytest.raises(JournalError, match="1 to 512 characters"):
        Entry(kind, key)


def test_every_commit_is_synced(journal: Journal) -> None:
    connection = journal._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_schema_version_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    Journal(path, lambda: 7.0).close()
    Journal(path, lambda: 8.0).close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NEWEST,)
        assert connection.execute("SELECT * FROM migrations").fetchall() == [(OLDEST, 7.0)]


@pytest.mark.parametrize("version", [1, 99])
def test_a_newer_file_is_refused_and_so_is_one_with_other_events(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "j.sqlite"
    Journal(path, lambda: 0.0).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(JournalError, match=rf"version {version}.*move it away"):
        Journal(path, lambda: 0.0)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(JournalError, match="another program's"):
        Journal(path, lambda: 0.0)
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    assert tables == [("theirs",)]


def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path, lambda: 0.0) as journal:
        journal.commit([Entry("self.k", str(n), "x" * 100) for n in range(500)])
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xa5" * 8192
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"damaged.*move it away") as caught:
        Journal(path, lambda: 0.0)
    assert str(path) in str(caught.value)
    path.write_bytes(b"this is no database at all, but long enough to look" * 100)
    with pytest.raises(JournalError, match="not a database"):
        Journal(path, lambda: 0.0)


def test_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="unable to open"):
        Journal(tmp_path / "none" / "j.sqlite", lambda: 0.0)
