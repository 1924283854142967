"""What posted epochs have paid for, as the journal has it.

A validator must know of every unit whether an epoch has paid it, for as long as there is the pool.
That is a row for each receipt, so that neither memory nor a restart grows with it. Other roles keep
only which epochs' data they have seen and found to be the posted root's.

Rows are written before memory shows the epoch as filled. Those of a root that was voided stay until
another root of that number is filled; whoever asks names the newest epoch that counts.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from node.journal import AsyncJournal
from proofs.encoding.receipts import EpochRoot
from proofs.settlement.audit import Work
from proofs.settlement.epoch_data import Epoch

AT_ONCE = 500
"""Units of one statement."""


@dataclass(frozen=True)
class FillEpoch:
    """An epoch's data were here and fit `root` (a hash of the posted one). `work` is what it paid
    for, in the order of its leaves; empty where this node need not know."""

    pool: int
    epoch: int
    root: bytes
    work: tuple[Work, ...]

    @property
    def size(self) -> int:
        """Bytes of the rows."""
        return 64 * (1 + len(self.work))

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False where that was so already. What another root of that number paid goes."""
        known = connection.execute(
            "SELECT root, work FROM filled WHERE pool = ? AND epoch = ?", (self.pool, self.epoch)
        ).fetchone()
        if known is not None and known[0] == self.root and known[1] >= bool(self.work):
            return False
        if known is not None and known[1]:
            connection.execute(
                "DELETE FROM paid WHERE pool = ? AND epoch = ?", (self.pool, self.epoch)
            )
        connection.execute(
            "INSERT OR REPLACE INTO filled VALUES (?, ?, ?, ?)",
            (self.pool, self.epoch, self.root, int(bool(self.work))),
        )
        connection.executemany(
            "INSERT INTO paid VALUES (?, ?, ?, ?, ?)",
            [
                (self.pool, unit, stage, self.epoch, leaf)
                for leaf, (unit, stage) in enumerate(self.work)
            ],
        )
        return True


class PaidWork:
    """Reads and writes these rows. `by_work` says whether this node must know what was paid."""

    def __init__(self, journal: AsyncJournal, *, by_work: bool = True) -> None:
        self._journal = journal
        self._by_work = by_work

    async def note(self, posted: EpochRoot, epoch: Epoch) -> None:
        """The data of a posted root are here; on disk on return."""
        work = epoch.work if self._by_work else ()
        await self._journal.write(
            FillEpoch(posted.pool_id, posted.epoch, root_hash(posted), tuple(work))
        )

    async def filled(self) -> dict[tuple[int, int], bytes]:
        """The hashes of the roots that were filled, by pool and epoch."""
        least = int(self._by_work)
        rows = await self._journal.read(
            lambda connection: connection.execute(
                "SELECT pool, epoch, root FROM filled WHERE work >= ?", (least,)
            ).fetchall()
        )
        return {(pool, epoch): root for pool, epoch, root in rows}

    async def places(
        self, pool_id: int, work: Iterable[Work], until: int
    ) -> dict[Work, tuple[int, int]]:
        """Which leaf of the epochs up to `until` was the first to pay for each of these: (epoch,
        index)."""
        wanted, found = set(work), dict[Work, tuple[int, int]]()
        rows = await self._rows(pool_id, {unit for unit, _ in wanted}, until)
        for unit, stage, epoch, leaf in rows:
            if (unit, stage) in wanted:
                place = found.get((unit, stage), (epoch, leaf))
                found[unit, stage] = min(place, (epoch, leaf))
        return found

    async def units(self, pool_id: int, unit_ids: Collection[bytes], until: int) -> set[bytes]:
        """Those of these units that an epoch up to `until` has paid."""
        return {row[0] for row in await self._rows(pool_id, unit_ids, until)}

    async def _rows(
        self, pool_id: int, unit_ids: Collection[bytes], until: int
    ) -> list[tuple[bytes, int, int, int]]:
        ids = sorted(unit_ids)

        def query(connection: sqlite3.Connection) -> list[tuple[bytes, int, int, int]]:
            rows: list[tuple[bytes, int, int, int]] = []
            for at in range(0, len(ids), AT_ONCE):
                part = ids[at : at + AT_ONCE]
                rows += connection.execute(
                    "SELECT unit, stage, epoch, leaf FROM paid WHERE pool = ? AND epoch <= ?"
                    f" AND unit IN ({', '.join('?' * len(part))})",
                    (pool_id, until, *part),
                )
            return rows

        return await self._journal.read(query) if ids else []


def root_hash(root: EpochRoot) -> bytes:
    """What a root is known by here."""
    return hashlib.sha256(root.to_bytes()).digest()
