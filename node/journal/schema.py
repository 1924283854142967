"""The journal's tables, and how old files are migrated.

`PRAGMA user_version` holds the version of a file's schema, 0 that of an empty one. The first
migration makes version `OLDEST` of an empty file, and each of the others the next version; each
runs in one transaction together with the change of the version, and leaves a row in `migrations`. A
file of a version that we do not know (written by a newer prime-node) is refused, and so is one that
is older than `OLDEST`: its events had other bodies.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x7072_6A6E
"""Marks the file as a prime-node journal ("prjn")."""

OLDEST = 2
"""Version 1 was that of prime-node 0.1.0."""
_V2 = (
    "CREATE TABLE migrations (version INTEGER PRIMARY KEY, at REAL NOT NULL) STRICT",
    """CREATE TABLE events (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        at   REAL NOT NULL,
        kind TEXT NOT NULL,
        key  TEXT NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (kind, key)
    ) STRICT""",
    "CREATE INDEX events_by_kind ON events (kind, id)",
    "CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_V2,)
NEWEST = OLDEST + len(MIGRATIONS) - 1


class UnknownSchema(Exception):
    """The file is no journal, or one of a version that is not read."""


def migrate(connection: sqlite3.Connection, at: float) -> None:
    """Bring an open database (autocommit mode) to the newest version. Raises `UnknownSchema`."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    empty = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    if application != APPLICATION_ID and not empty:
        raise UnknownSchema("it is another program's database")
    if version > NEWEST or 0 < version < OLDEST:
        raise UnknownSchema(f"it has version {version}, this prime-node knows {OLDEST} to {NEWEST}")
    first = max(version + 1, OLDEST)
    for number, statements in enumerate(MIGRATIONS[first - OLDEST :], start=first):
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (number, at))
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
