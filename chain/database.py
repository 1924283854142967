"""The SQLite file in which one key's dealings with one chain are kept.

It belongs to one account on one chain: chain id, genesis hash and address are written at creation
and compared at every opening, so that a restarted development chain (same id, new genesis) or a
swapped key is noticed before a nonce is misread. One process at a time may open it; SQLite's
exclusive lock holds that. Writes are flushed to disk before they return (`synchronous=FULL`).

Calls block for a disk flush, so trio callers run them in a thread (`run`), one at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import trio

from chain.errors import StoreError, WrongChain

T = TypeVar("T")

_SCHEMA_VERSION = 1


class Database:
    """An open database; close it with `close`."""

    def __init__(self, path: Path | str, *, chain_id: int, genesis: bytes, address: str) -> None:
        """Open or create; `genesis` is the hash of block 0. Raises StoreError, WrongChain."""
        self._path = str(path)
        self._limiter = trio.CapacityLimiter(1)
        try:
            self._connection = sqlite3.connect(
                self._path, timeout=0.5, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as exc:
            raise StoreError(f"cannot open {self._path}: {exc}") from exc
        try:
            self._prepare(f"{_SCHEMA_VERSION}/{chain_id}/{genesis.hex()}/{address}")
        except (StoreError, WrongChain):
            self._connection.close()
            raise

    def _prepare(self, identity: str) -> None:
        with self._translated():
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchone()
            self._connection.execute("PRAGMA synchronous=FULL")
        with self.transaction() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS identity (value TEXT NOT NULL)")
            row = cursor.execute("SELECT value FROM identity").fetchone()
            if row is None:
                cursor.execute("INSERT INTO identity VALUES (?)", (identity,))
            elif row[0] != identity:
                raise WrongChain(
                    f"{self._path} was written for another chain or key (schema/chain/genesis/"
                    f"address {row[0]}, now {identity}); use that chain "
                    "and key. A development chain that was started again is another one: give the "
                    "node a new data folder for it"
                )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """One atomic, durable write; raises StoreError."""
        with self._translated(), closing(self._connection.cursor()) as cursor:
            try:
                cursor.execute("BEGIN IMMEDIATE")
                yield cursor
                cursor.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise StoreError(f"{self._path}: {exc}; is another process using it?") from exc

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking `work` on this database in a worker thread, one at a time."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def close(self) -> None:
        """Close the file; everything written is already on disk."""
        self._connection.close()
