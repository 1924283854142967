"""Looking into a journal that a running node may be writing.

Opens the file read-only, takes no lock that a writer would wait for, and sees what was committed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import msgpack

from node.journal.schema import APPLICATION_ID, NEWEST
from node.journal.store import Event, JournalError, unpack
from node.journal.typed import JournalEvent

MAX_EVENTS = 100_000

E = TypeVar("E", bound=JournalEvent)


def read_newest(path: Path, *kinds: type[E], key: str | None = None) -> list[E]:
    """Events of these classes (and this key), the newest first; none where there is no journal yet.

    Raises `JournalError`, also for an event that does not fit its class.
    """
    by_name = {kind.kind: kind for kind in kinds}
    return [by_name[e.kind].from_stored(e) for e in _read_stored(path, list(by_name), key)]


def _read_stored(path: Path, kinds: Sequence[str], key: str | None = None) -> list[Event]:
    if not path.exists():
        return []
    marks = ", ".join("?" * len(kinds))
    named, keys = ("", ()) if key is None else (" AND key = ?", (key,))
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
        with closing(connection):
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if application != APPLICATION_ID or version != NEWEST:
                raise JournalError(f"{path}: not a journal of this version", "run the node once")
            rows = connection.execute(
                "SELECT id, at, kind, key, body FROM events"
                f" WHERE kind IN ({marks}){named} ORDER BY id DESC LIMIT {MAX_EVENTS}",
                (*kinds, *keys),
            ).fetchall()
        return [Event(number, at, kind, key, unpack(body)) for number, at, kind, key, body in rows]
    except (sqlite3.Error, ValueError, msgpack.UnpackException) as exc:
        reason = " ".join(str(exc).split())
        raise JournalError(f"{path}: cannot be read: {reason}") from exc
