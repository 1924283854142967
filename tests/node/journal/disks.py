"""A journal's disk that a test can fill, break, stall and heal while a node runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import trio

from node.journal import DiskError, Journal

PATIENCE = 120.0
"""Seconds that a thread of a test waits at most for the test to heal its disk."""


class Disk:
    """Give `disk.open` to `open_journal(store=...)`. Use from within trio alone."""

    def __init__(self) -> None:
        self.trouble = ""
        self.kind = ""
        self._passes = threading.Event()
        self._passes.set()
        self._tried = trio.Event()
        self.tries = 0

    def open(self, path: Path, clock: Callable[[], float]) -> Journal:
        """The journal's file on this disk."""
        return _JournalOnDisk(path, clock, self)

    def fail(self, reason: str = "the disk is full", kind: str = "") -> None:
        """Refuse every write from now on; of `kind` alone, if it is named."""
        self.trouble, self.kind = reason, kind

    def stall(self, kind: str = "") -> None:
        """Answer no write from now on; of `kind` alone, if it is named."""
        self.kind = kind
        self._passes.clear()

    def heal(self) -> None:
        """Take writes again, those that hang included."""
        self.trouble = ""
        self._passes.set()

    async def tried(self) -> None:
        """Return once the next write has reached the disk."""
        await self._tried.wait()

    def write(self, kinds: Collection[str]) -> None:
        """Called by the journal's thread before it writes events of these kinds."""
        if self.kind and self.kind not in kinds:
            return
        trio.from_thread.run_sync(self._count)
        assert self._passes.wait(PATIENCE), "the test never healed its disk"
        if self.trouble:
            raise DiskError(f"the test's disk: {self.trouble}", "heal it", self.trouble)

    def _count(self) -> None:
        self.tries += 1
        self._tried.set()
        self._tried = trio.Event()


class _JournalOnDisk(Journal):
    def __init__(self, path: Path, clock: Callable[[], float], disk: Disk) -> None:
        super().__init__(path, clock)
        self._disk = disk

    def commit_packed(self, groups: Any) -> list[list[bool]]:
        self._disk.write({getattr(e, "kind", "") for entries, _ in groups for e in entries})
        return super().commit_packed(groups)
