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
        old, _ = await self._journal.read(lambda c: self._count(c, before))
        if not dry:
            for kind in self._kinds:
                while (await self._journal.write(DropOld(kind, before)))[0]:
                    pass
        count, size = await self._journal.read(lambda c: self._count(c, None))
        gone = old if dry else 0
        why = "younger than retention.records" if self._age else "kept for ever"
        return Pruned("signed and refused, records", old, kept=count - gone, left=size, why=why)

    def _count(self, connection: sqlite3.Connection, before: float | None) -> tuple[int, int]:
        """How many there are, and their bytes where all are counted."""
        marks = ", ".join("?" * len(self._kinds))
        if before is None:
            row = connection.execute(
                f"SELECT COUNT(*), SUM(LENGTH(body)) FROM events WHERE kind IN ({marks})",
                self._kinds,
            ).fetchone()
        else:
            row = connection.execute(
                f"SELECT COUNT(*), 0 FROM events WHERE kind IN ({marks}) AND at < ?",
                (*self._kinds, before),
            ).fetchone()
        return int(row[0]), int(row[1] or 0)
