"""Old events of the journal that only document what was: deleted by age, a page at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.journal import AsyncJournal, JournalEvent
from node.storage.report import Pruned

PAGE = 4096


@dataclass(frozen=True)
class DropOld:
    """Delete at most `limit` events of a kind that were written before a time (Unix seconds)."""

    kind: str
    before: float
    limit: int = PAGE

    @property
    def size(self) -> int:
        """Nothing to speak of."""
        return 64

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """Whether there may be more."""
        done = connection.execute(
            "DELETE FROM events WHERE id IN (SELECT id FROM"
            " (SELECT id, at FROM events WHERE kind = ? ORDER BY id LIMIT ?) WHERE at < ?)",
            (self.kind, self.limit, self.before),
        )
        return done.rowcount == self.limit


class RecordKeeper:
    """Events of these classes go after `age` seconds, 0: never."""

    writes = True

    def __init__(
        self,
        journal: AsyncJournal,
        kinds: Sequence[type[JournalEvent]],
        age: float,
        now: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._kinds = [kind.kind for kind in kinds]
        self._age = age
        self._now = now

    async def prune(self, *, dry: bool) -> Pruned:
        """Delete what is too old."""
        before = self._now() - self._age if self._age else 0.0
        had = await self._journal.read(self._count)
        if dry:
            gone = await self._journal.read(lambda connection: self._older(connection, before))
        else:
            for kind in self._kinds:
                while (await self._journal.write(DropOld(kind, before)))[0]:
                    pass
            gone = had - await self._journal.read(self._count)
        why = "younger than retention.records" if self._age else "kept for ever"
        return Pruned("signed and refused, records", gone, kept=had - gone, why=why)

    def _count(self, connection: sqlite3.Connection) -> int:
        """How many there are: of the index alone, as bodies are many."""
        marks = ", ".join("?" * len(self._kinds))
        row = connection.execute(
            f"SELECT COUNT(*) FROM events WHERE kind IN ({marks})", self._kinds
        ).fetchone()
        return int(row[0])

    def _older(self, connection: sqlite3.Connection, before: float) -> int:
        """How many were written before a time. Events were written in order."""
        found = 0
        for kind in self._kinds:
            row = connection.execute(
                "SELECT MIN(id) FROM events WHERE kind = ? AND at >= ?", (kind, before)
            ).fetchone()
            newer = (kind,) if row[0] is None else (kind, row[0])
            bound = "" if row[0] is None else " AND id < ?"
            count = connection.execute(
                f"SELECT COUNT(*) FROM events WHERE kind = ?{bound}", newer
            ).fetchone()
            found += int(count[0])
        return found
