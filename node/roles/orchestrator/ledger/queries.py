"""What is read of the tables of jobs and units: always a page, never the whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.roles.orchestrator.ledger.rows import COLUMNS, RowState, UnitRow

PAGE_BYTES = 8 * 2**20
"""Prompts and outcomes that one page may have, and the row that goes over it."""


@dataclass(frozen=True)
class JobRow:
    """A row of the table of jobs. `refused` counts prompts that were not taken, `content` is the
    digest of all that were submitted, `shown` output tokens that were shown of it."""

    number: int
    job_id: str
    model_id: bytes
    sampled: bool
    sealed: bool
    cancelled: bool
    refused: int
    content: bytes
    shown: int


@dataclass(frozen=True)
class Tally:
    """How many units of a job are in a state, with how many sequences and output tokens."""

    job: int
    state: RowState
    units: int
    sequences: int
    tokens: int


Query = Callable[[sqlite3.Connection], list[UnitRow]]


def jobs(connection: sqlite3.Connection) -> list[JobRow]:
    """All jobs, the oldest first."""
    rows = connection.execute(
        "SELECT number, job_id, model_id, sampled, sealed, cancelled, refused, content,"
        " shown FROM jobs"
        " ORDER BY number"
    )
    return [JobRow(*row[:3], *map(bool, row[3:6]), *row[6:]) for row in rows]


def tallies(connection: sqlite3.Connection) -> list[Tally]:
    """What all jobs come to."""
    rows = connection.execute(
        "SELECT job, state, COUNT(*), SUM(size), SUM(tokens) FROM units GROUP BY job, state"
    )
    return [Tally(job, RowState(state), *counts) for job, state, *counts in rows]


def in_state(job: int, state: RowState, after: int, limit: int) -> Query:
    """Units of a job in a state with cursor > `after`, rising."""
    return _page(
        "WHERE job = ? AND state = ? AND cursor > ? ORDER BY cursor LIMIT ?",
        (job, int(state), after, limit),
    )


def of_job(job: int, index: int, limit: int) -> Query:
    """Units of a job that hold its prompt number `index` (from 0) or later ones."""
    return _page(
        "INDEXED BY units_in_order WHERE job = ? AND last >= ? ORDER BY last LIMIT ?",
        (job, index, limit),
    )


def accepted(job: int, index: int, limit: int) -> Query:
    """The same, of those that validators accepted."""
    return _page(
        "INDEXED BY units_in_order WHERE job = ? AND last >= ? AND state IN (?, ?)"
        " ORDER BY last LIMIT ?",
        (job, index, int(RowState.ACCEPTED), int(RowState.SETTLED), limit),
    )


def after_cursor(after: int, limit: int) -> Query:
    """Units with cursor > `after`, rising."""
    return _page("WHERE cursor > ? ORDER BY cursor LIMIT ?", (after, limit))


def last(limit: int) -> Query:
    """The newest units, rising."""
    newest = _page("ORDER BY cursor DESC LIMIT ?", (limit,))
    return lambda connection: newest(connection)[::-1]


def one(unit_id: bytes) -> Query:
    """The unit of this id, if there is one."""
    return _page("WHERE unit_id = ?", (unit_id,))


def count(connection: sqlite3.Connection) -> int:
    """How many cursors were given to units so far."""
    found = connection.execute("SELECT MAX(cursor) FROM units").fetchone()
    return int(found[0] or 0)


def under_way(connection: sqlite3.Connection) -> dict[bytes, tuple[int, int]]:
    """Of the units of which there are notes: the job's number and the tokens of the newest one."""
    rows = connection.execute(
        "SELECT unit, job, progress.tokens, MAX(id) FROM progress JOIN units ON unit_id = unit"
        " WHERE progress.attempt = units.attempt GROUP BY unit"
    )
    return {unit: (job, tokens) for unit, job, tokens, _ in rows}


def progress(
    unit_ids: Sequence[bytes],
) -> Callable[[sqlite3.Connection], dict[bytes, list[tuple[int, bytes]]]]:
    """(attempt, body) of the notes of these units, the oldest first."""
    marks = ", ".join("?" * len(unit_ids))

    def query(connection: sqlite3.Connection) -> dict[bytes, list[tuple[int, bytes]]]:
        found: dict[bytes, list[tuple[int, bytes]]] = {}
        for unit, attempt, body in connection.execute(
            f"SELECT unit, attempt, body FROM progress WHERE unit IN ({marks}) ORDER BY id",
            [*unit_ids],
        ):
            found.setdefault(unit, []).append((attempt, body))
        return found

    return query


def payments(epochs: set[int]) -> Callable[[sqlite3.Connection], dict[int, str]]:
    """The transactions that settled these epochs."""
    marks = ", ".join("?" * len(epochs))
    return lambda connection: dict(
        connection.execute(
            f"SELECT number, payment FROM epochs WHERE number IN ({marks})", [*epochs]
        )
    )


def _page(where: str, values: tuple[object, ...]) -> Query:
    def query(connection: sqlite3.Connection) -> list[UnitRow]:
        found, size = [], 0
        for values_of_row in connection.execute(f"SELECT {COLUMNS} FROM units {where}", values):
            row = UnitRow(*values_of_row)
            found.append(row)
            size += len(row.prompts) + len(row.outcome or b"")
            if size > PAGE_BYTES:
                break
        return found

    return query
