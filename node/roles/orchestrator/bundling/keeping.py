"""How long an orchestrator keeps bundles: until their quota is full, or as long as its jobs.

A bundle that validators are judging is sent again after a restart, so it never goes. Of a unit that
has ended it is what proves it: rows of a dataset without it have no stages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import trio

from node.journal import AsyncJournal
from node.roles.orchestrator.ledger.rows import RowState, unpack_outcome
from node.storage.files import remove, stored
from node.storage.names import BUNDLE
from node.storage.report import Pruned
from node.storage.retention import FileLimits, files_to_remove


class SentBundles:
    """Bundles right in the folder `blobs`; a validator's are in one of their own."""

    writes = False

    def __init__(
        self,
        blobs: Path,
        journal: AsyncJournal,
        limits: FileLimits,
        now: Callable[[], float],
    ) -> None:
        self._blobs = blobs
        self._journal = journal
        self._limits = limits
        self._now = now

    async def prune(self, *, dry: bool) -> Pruned:
        """Remove bundles beyond the quota, and old ones."""
        files = await trio.to_thread.run_sync(stored, self._blobs, BUNDLE)
        needed = {f"{digest.hex()}{BUNDLE}" for digest in await self._journal.read(_judged_now)}
        gone = files_to_remove(files, needed, self._limits, self._now())
        if not dry:
            await trio.to_thread.run_sync(remove, self._blobs, gone)
        freed = sum(file.size for file in gone)
        left = sum(file.size for file in files) - freed
        why = "within retention.bundles"
        if waiting := sum(file.name in needed for file in files):
            why += f", {waiting} being judged"
        return Pruned("bundles that were sent", len(gone), freed, len(files) - len(gone), left, why)


def _judged_now(connection: sqlite3.Connection) -> list[bytes]:
    """Ids of the bundles that validators have."""
    numbers = [number for (number,) in connection.execute("SELECT number FROM jobs")]
    found = []
    for number in numbers:
        rows = connection.execute(
            "SELECT outcome FROM units WHERE job = ? AND state = ? AND outcome IS NOT NULL",
            (number, int(RowState.VERIFYING)),
        )
        found += [unpack_outcome(outcome)[2] for (outcome,) in rows]
    return found
