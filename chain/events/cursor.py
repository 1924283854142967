"""How far an event reader has got, as stored: a cursor and past checkpoints.

The cursor is the number and hash of the last block whose events were handled. Behind it stands a
list of checkpoints, earlier cursors, dense near the cursor and sparser the older they are. After a
reorganisation deeper than expected the newest checkpoint that is still on the chain says where to
start reading again, at most about twice as far back as the reorganisation reached.

The cursor moves in one database transaction with whatever the consumer wants to keep, and only from
where the batch began: what was finished already, or was overtaken by a rewind, is not done again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chain.database import Database

Effects = Callable[[sqlite3.Cursor], None]

_TABLES = (
    "CREATE TABLE IF NOT EXISTS event_cursor"
    " (name TEXT PRIMARY KEY, block_number INTEGER NOT NULL, block_hash BLOB) STRICT",
    "CREATE TABLE IF NOT EXISTS event_checkpoint (name TEXT NOT NULL,"
    " block_number INTEGER NOT NULL, block_hash BLOB NOT NULL,"
    " PRIMARY KEY (name, block_number)) STRICT",
)


@dataclass(frozen=True)
class Position:
    """A handled block: number and 32-byte hash; `hash` None where nothing can be compared."""

    number: int
    hash: bytes | None


def kept(numbers: Iterable[int], newest: int) -> set[int]:
    """Which of the checkpoints to keep: for each power of two the newest and the oldest of those
    that lie so far before `newest`. Bounded by twice the bits of a block number."""
    ages: dict[int, list[int]] = {}
    for number in numbers:
        ages.setdefault((newest - number).bit_length(), []).append(number)
    return {number for group in ages.values() for number in (min(group), max(group))}


class CursorStore:
    """One named cursor. Blocking; run through `Database.run`. Raises StoreError."""

    def __init__(self, database: Database, name: str, start: int) -> None:
        self.database = database
        self._name = name
        self.start = Position(start, None)

    def load(self) -> Position:
        """The cursor; the block before the first when nothing was handled yet."""
        with self._transaction() as cursor:
            return self._load(cursor)

    def checkpoints(self) -> list[Position]:
        """Earlier cursors, newest first."""
        with self._transaction() as cursor:
            rows = cursor.execute(
                "SELECT block_number, block_hash FROM event_checkpoint WHERE name = ?"
                " ORDER BY block_number DESC",
                (self._name,),
            ).fetchall()
        return [Position(number, block_hash) for number, block_hash in rows]

    def advance(
        self, expected: Position, base: Position, to: Position, effects: Effects | None
    ) -> bool:
        """Run `effects` and move the cursor from `expected` to `to`, both or neither.

        `base` is where the batch began: `expected`, or an older checkpoint, and what lies between
        is forgotten. Returns False, without `effects`, when the cursor is not at `expected`.
        """
        with self._transaction() as cursor:
            if self._load(cursor) != expected:
                return False
            if effects is not None:
                effects(cursor)
            self._forget_after(cursor, base.number)
            self._move(cursor, to)
            self._remember(cursor, to)
        return True

    def rewind(self, number: int) -> None:
        """Set the cursor to block `number`, wherever it stands now."""
        with self._transaction() as cursor:
            self._forget_after(cursor, number)
            self._move(cursor, Position(number, None))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self.database.transaction() as cursor:
            for table in _TABLES:
                cursor.execute(table)
            yield cursor

    def _load(self, cursor: sqlite3.Cursor) -> Position:
        row = cursor.execute(
            "SELECT block_number, block_hash FROM event_cursor WHERE name = ?", (self._name,)
        ).fetchone()
        return self.start if row is None else Position(row[0], row[1])

    def _move(self, cursor: sqlite3.Cursor, to: Position) -> None:
        cursor.execute(
            "INSERT INTO event_cursor VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
            " block_number = excluded.block_number, block_hash = excluded.block_hash",
            (self._name, to.number, to.hash),
        )

    def _remember(self, cursor: sqlite3.Cursor, position: Position) -> None:
        cursor.execute(
            "INSERT OR REPLACE INTO event_checkpoint VALUES (?, ?, ?)",
            (self._name, position.number, position.hash),
        )
        numbers = {
            row[0]
            for row in cursor.execute(
                "SELECT block_number FROM event_checkpoint WHERE name = ?", (self._name,)
            )
        }
        cursor.executemany(
            "DELETE FROM event_checkpoint WHERE name = ? AND block_number = ?",
            [(self._name, number) for number in numbers - kept(numbers, position.number)],
        )

    def _forget_after(self, cursor: sqlite3.Cursor, number: int) -> None:
        cursor.execute(
            "DELETE FROM event_checkpoint WHERE name = ? AND block_number > ?", (self._name, number)
        )
