"""The journal's tables, and how old files are migrated.

`events` and `state` are every role's. `jobs`, `units`, `progress` and `epochs` are an
orchestrator's: a unit is one row that is written again as it comes along, so that a history of any
length is no longer than the list of its units (`node/roles/orchestrator/ledger`). `filled` has the
epochs of all pools whose data were here, and `paid`, at validators, what they paid for
(`node/settlement/paid.py`).

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

OLDEST = 5
"""Version 1 was that of prime-node 0.1.0, version 2 had no tables of work, version 3 did not know
what a job's key stands for, version 4 nothing of units under way."""
_V5 = (
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
    """CREATE TABLE jobs (
        number    INTEGER PRIMARY KEY AUTOINCREMENT,
        at        REAL NOT NULL,
        job_id    TEXT NOT NULL UNIQUE,
        model_id  BLOB NOT NULL,
        sampled   INTEGER NOT NULL,
        sealed    INTEGER NOT NULL,
        cancelled INTEGER NOT NULL,
        ended     REAL NOT NULL,
        exported  REAL NOT NULL,
        refused   INTEGER NOT NULL,
        content   BLOB NOT NULL,
        shown     INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE units (
        cursor  INTEGER PRIMARY KEY AUTOINCREMENT,
        unit_id BLOB NOT NULL UNIQUE,
        job     INTEGER NOT NULL,
        first   INTEGER NOT NULL,
        last    INTEGER NOT NULL,
        size    INTEGER NOT NULL,
        state   INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        tokens  INTEGER NOT NULL,
        epoch   INTEGER NOT NULL,
        prompts BLOB NOT NULL,
        outcome BLOB
    ) STRICT""",
    "CREATE INDEX units_by_job ON units (job, state, cursor, size, tokens)",
    "CREATE UNIQUE INDEX units_in_order ON units (job, last)",
    """CREATE TABLE progress (
        id      INTEGER PRIMARY KEY,
        unit    BLOB NOT NULL,
        attempt INTEGER NOT NULL,
        tokens  INTEGER NOT NULL,
        body    BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX progress_by_unit ON progress (unit, id)",
    "CREATE TABLE epochs (number INTEGER PRIMARY KEY, payment TEXT NOT NULL) STRICT",
    """CREATE TABLE filled (
        pool  INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        root  BLOB NOT NULL,
        work  INTEGER NOT NULL,
        PRIMARY KEY (pool, epoch)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE paid (
        pool  INTEGER NOT NULL,
        unit  BLOB NOT NULL,
        stage INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        leaf  INTEGER NOT NULL,
        PRIMARY KEY (pool, unit, stage, epoch, leaf)
    ) STRICT, WITHOUT ROWID""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_V5,)
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
