"""The journal's file: an append-only list of accepted events, and a little state beside it.

An event is something the node acted on: a message of a peer, a fact of the chain, an order of the
operator, or its own decision. Its `kind` says which (`self.verdict`: the part before the dot is the
origin), and its `key` is unique within the kind, so appending the same event twice is harmless and
says so. What follows from an event can be written as state in the same transaction: either both are
on disk or neither. Which kinds there are, and what their bodies hold, is `node.journal.typed`.

SQLite in WAL mode with synchronous=FULL: once `commit` returns, the events survive `kill -9` and
power loss. There is one writer (the data folder's lock sees to that). Calls are short and block;
the trio side uses `node.journal.writer`. Bodies are MessagePack.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgpack

from node.errors import ResourceError
from node.journal.schema import UnknownSchema, migrate

ORIGINS = ("peer", "chain", "operator", "self")

MAX_BODY = 16 * 2**20
MAX_NAME = 512
MAX_WAL = 64 * 2**20
"""Bytes that the log beside the file keeps on disk once it was written back."""
_PAGE = 256
_LAST = chr(0x10FFFF)
"""Sorts after whatever a key holds."""
_REASONS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "the disk fails",
    "SQLITE_READONLY": "the disk cannot be written",
    "SQLITE_CANTOPEN": "the journal's file cannot be opened",
    "SQLITE_BUSY": "another program holds the journal's file",
}
"""By the first letters of SQLite's names of errors."""


T = TypeVar("T")


class Write(Protocol):
    """Something to be written in a commit. It must be packed by the time it is handed over, so that
    only the disk can fail it. `size` is the bytes that it holds until then."""

    @property
    def size(self) -> int:
        """Bytes it takes in memory, about."""
        ...

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """Write it at `at` (unix seconds); False where it was there already."""
        ...


class JournalError(ResourceError):
    """The journal cannot be opened, read or written; the message names the file."""


class DiskError(JournalError):
    """The disk did not take it this time; it may another time. `reason` says why, without paths."""

    def __init__(self, message: str, hint: str, reason: str) -> None:
        super().__init__(message, hint)
        self.reason = reason


@dataclass(frozen=True)
class Entry:
    """An event to append. `body` is anything MessagePack holds; it is encoded here, at once, and
    what waits for the disk is `packed` alone. With `erase` the event of this kind and key is
    deleted instead."""

    kind: str
    key: str
    body: InitVar[Any] = None
    erase: bool = False
    packed: bytes = field(init=False, repr=False)

    def __post_init__(self, body: Any) -> None:
        check_kind(self.kind)
        if not 0 < len(self.key) <= MAX_NAME:
            raise JournalError(f"a key has 1 to {MAX_NAME} characters, not {len(self.key)}")
        object.__setattr__(self, "packed", pack(body))

    @property
    def size(self) -> int:
        """Bytes of its body."""
        return len(self.packed)

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """Append it, unless an event of this kind and key is there already; or erase that."""
        if self.erase:
            gone = connection.execute(
                "DELETE FROM events WHERE kind = ? AND key = ?", (self.kind, self.key)
            )
            return gone.rowcount == 1
        cursor = connection.execute(
            "INSERT INTO events (at, kind, key, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (kind, key) DO NOTHING",
            (at, self.kind, self.key, self.packed),
        )
        return cursor.rowcount == 1


@dataclass(frozen=True)
class Trim:
    """Deletes the events of a kind (and whose keys begin with `prefix`) but for the `most` newest.
    What it costs follows from `most`."""

    kind: str
    most: int
    prefix: str = ""

    @property
    def size(self) -> int:
        """It holds nothing."""
        return 0

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """Delete what is beyond; False where nothing was."""
        chosen, values = "kind = ?", [self.kind]
        if self.prefix:
            chosen += " AND key >= ? AND key < ?"
            values += [self.prefix, self.prefix + _LAST]
        gone = connection.execute(
            f"DELETE FROM events WHERE {chosen} AND id <= (SELECT id FROM events WHERE {chosen}"
            " ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (*values, *values, self.most),
        )
        return gone.rowcount > 0


@dataclass(frozen=True)
class Event:
    """An event on disk. `id` rises with every event; `at` is unix seconds."""

    id: int
    at: float
    kind: str
    key: str
    body: Any

    @property
    def origin(self) -> str:
        """Who caused it: `peer`, `chain`, `operator` or `self`."""
        return self.kind.partition(".")[0]


def check_kind(kind: str) -> None:
    """Raise `JournalError` unless `kind` is an origin, a dot and a name."""
    origin, _, name = kind.partition(".")
    if origin not in ORIGINS or not name or len(kind) > MAX_NAME:
        raise JournalError(
            f"a kind is like self.verdict, with an origin of {ORIGINS}, not {kind!r}"
        )


def pack(value: Any) -> bytes:
    """MessagePack of `value`. Raises `JournalError` where it cannot be one or is too large."""
    try:
        data = bytes(msgpack.packb(value, use_bin_type=True))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise JournalError(f"not a journal value: {exc}") from exc
    if len(data) > MAX_BODY:
        raise JournalError(f"a journal value has at most {MAX_BODY} bytes, not {len(data)}")
    return data


class Journal:
    """An open journal. One thread at a time. `clock` gives unix seconds.

    `Journal(path, clock)` opens or makes the file. Raises `JournalError`.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self._clock = clock
        self._reading: sqlite3.Connection | None = None
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=5.0, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute(f"PRAGMA journal_size_limit = {MAX_WAL}")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA trusted_schema = OFF")
                self._check()
                migrate(self._connection, clock())
            except BaseException:
                self._connection.close()
                raise

    def _check(self) -> None:
        found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(str(found))

    def append(self, kind: str, key: str, body: Any = None) -> bool:
        """Append one event. False: an event of this kind and key is there already."""
        return self.commit([Entry(kind, key, body)])[0]

    def commit(
        self, entries: Sequence[Write], state: Mapping[str, Any] | None = None
    ) -> list[bool]:
        """Append events (all or none of those that are new) and set state, in one transaction; one
        bool an entry, as in `append`. Raises `JournalError`."""
        return self.commit_packed(
            [(entries, {name: pack(value) for name, value in (state or {}).items()})]
        )[0]

    def commit_packed(
        self, groups: Sequence[tuple[Sequence[Write], Mapping[str, bytes]]]
    ) -> list[list[bool]]:
        """Several commits, in order, in one transaction (one fsync); one list each."""
        results: list[list[bool]] = []
        at = self._clock()
        with self._translated():
            if self._connection.in_transaction:  # a failing disk refused even the rollback
                self._connection.rollback()
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                for entries, state in groups:
                    results.append([entry.apply(self._connection, at) for entry in entries])
                    self._connection.executemany(
                        "INSERT INTO state VALUES (?, ?)"
                        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                        list(state.items()),
                    )
        return results

    def events(self, kinds: Sequence[str] | None = None, after_id: int = 0) -> Iterator[Event]:
        """Events with id > `after_id` in order, of the given kinds (None: all), read by pages."""
        while page := self.page(kinds, after_id, _PAGE):
            yield from page
            after_id = page[-1].id

    def page(self, kinds: Sequence[str] | None, after_id: int, limit: int) -> list[Event]:
        """At most `limit` events as in `events`."""
        chosen = "" if kinds is None else f" AND kind IN ({', '.join('?' * len(kinds))})"
        with self._translated():
            rows = self._connection.execute(
                "SELECT id, at, kind, key, body FROM events"
                f" WHERE id > ?{chosen} ORDER BY id LIMIT ?",
                (after_id, *(kinds or ()), limit),
            ).fetchall()
            return [self._event(row) for row in rows]

    def get(self, kind: str, key: str) -> Event | None:
        """The event of this kind and key."""
        with self._translated():
            row = self._connection.execute(
                "SELECT id, at, kind, key, body FROM events WHERE kind = ? AND key = ?",
                (kind, key),
            ).fetchone()
            return None if row is None else self._event(row)

    def state(self, name: str, default: Any = None) -> Any:
        """The value last set under `name`."""
        with self._translated():
            row = self._connection.execute(
                "SELECT value FROM state WHERE name = ?", (name,)
            ).fetchone()
            return default if row is None else unpack(row[0])

    def set_state(self, name: str, value: Any) -> None:
        """Set one value. Raises `JournalError`."""
        self.commit([], {name: value})

    def newest(self, kind: str, limit: int) -> list[Event]:
        """At most `limit` events of this kind, the newest first."""
        with self._translated():
            rows = self._connection.execute(
                "SELECT id, at, kind, key, body FROM events"
                " WHERE kind = ? ORDER BY id DESC LIMIT ?",
                (kind, limit),
            ).fetchall()
            return [self._event(row) for row in rows]

    def keys(self, kind: str) -> list[str]:
        """The keys of all events of this kind."""
        with self._translated():
            rows = self._connection.execute("SELECT key FROM events WHERE kind = ?", (kind,))
            return [key for (key,) in rows]

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What `query` finds, on a connection of its own that sees what was committed. May be
        called beside a commit, from one thread at a time."""
        with self._translated():
            if self._reading is None:
                self._reading = sqlite3.connect(
                    f"{self.path.absolute().as_uri()}?mode=ro",
                    uri=True,
                    timeout=5.0,
                    isolation_level=None,
                    check_same_thread=False,
                )
            return query(self._reading)

    def compact(self, most: int) -> int:
        """Give pages that nothing is in back to the file system, about `most` bytes; how many bytes
        were. Raises `JournalError`."""
        with self._translated():
            page = int(self._connection.execute("PRAGMA page_size").fetchone()[0])
            before = self._free_pages()
            # Only a script is stepped through to its end.
            self._connection.executescript(f"PRAGMA incremental_vacuum({max(most // page, 1)})")
            return (before - self._free_pages()) * page

    def free_bytes(self) -> int:
        """Bytes of the file that nothing is in. Raises `JournalError`."""
        with self._translated():
            page = int(self._connection.execute("PRAGMA page_size").fetchone()[0])
            return self._free_pages() * page

    def _free_pages(self) -> int:
        return int(self._connection.execute("PRAGMA freelist_count").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        if self._reading is not None:
            self._reading.close()
        self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @staticmethod
    def _event(row: tuple[int, float, str, str, bytes]) -> Event:
        return Event(*row[:4], body=unpack(row[4]))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        way_out = "move it away to start afresh, or restore a copy"
        try:
            yield
        except UnknownSchema as exc:
            raise JournalError(f"{self.path}: not usable: {exc}", way_out) from exc
        except sqlite3.OperationalError as exc:
            raise DiskError(
                f"{self.path}: {exc}",
                "check the folder's permissions and the disk's free space",
                _reason(exc),
            ) from exc
        except (sqlite3.DatabaseError, ValueError, msgpack.UnpackException) as exc:
            reason = " ".join(str(exc).split())
            raise JournalError(f"{self.path}: damaged: {reason}", way_out) from exc


def _reason(exc: sqlite3.OperationalError) -> str:
    """What is wrong with the disk, for people; SQLite's own word where it is something else."""
    name = getattr(exc, "sqlite_errorname", "")
    for prefix, reason in _REASONS.items():
        if name.startswith(prefix):
            return reason
    return str(exc)


def unpack(data: bytes) -> Any:
    """Inverse of `pack`. Raises ValueError or msgpack's errors."""
    return msgpack.unpackb(data, raw=False, strict_map_key=False, use_list=False)
