"""The rows that a stage received, kept on disk so that it can show them in a dispute. No torch.

A stage whose predecessor sent it something wrong is innocent, and its proof of that is the very
bytes it got: they hash to the `received` that it signed and to the `sent` that its predecessor
signed. So the file of a sequence is named by that hash, and no request removes it; only the byte
budget does, the oldest first.

Keeping is an insurance and must never cost the work that it insures: whatever the disk says is
logged, and the stage goes on. Files are not synced, so a power cut may leave one short; whoever
uses a file compares its hash with its name.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from pathlib import Path

import structlog

log = structlog.get_logger("pipeline.engine")

SUFFIX = ".rows"
_ASIDE = ".part"


class RowsBuffer:
    """Raw rows of one running sequence. Gives them up once they exceed `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.size = 0

    def add(self, rows: memoryview) -> None:
        """Append the bytes of the next rows (copied, since an edge reuses its buffers)."""
        self.size += len(rows)
        if self.size <= self._limit:
            self._data += rows
        elif self._data:
            self._data = bytearray()

    @property
    def data(self) -> bytearray | None:
        """All bytes added, None if they were too many to keep."""
        return self._data if self.size <= self._limit else None


class RowsStore:
    """Files `<sha256 hex>.rows` in a folder of this store alone, `budget` bytes in all.

    What the folder holds already counts, ordered by modification time. Not thread-safe; others may
    read the files at any time, since each appears whole.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder = folder
        self._budget = budget
        self._sizes: OrderedDict[str, int] = OrderedDict()  # oldest first
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._scan()
            self._make_room(0)
        except OSError as exc:
            log.warning("folder of received rows is unusable", path=str(folder), reason=str(exc))

    def buffer(self) -> RowsBuffer:
        """A buffer for a sequence that begins."""
        return RowsBuffer(self._budget)

    def keep(self, digest: bytes, rows: RowsBuffer) -> None:
        """Write the rows of a finished sequence; `digest` is their sha256. Never raises OSError."""
        data = rows.data
        if data is None:
            log.warning("received rows exceed the budget", bytes=rows.size, budget=self._budget)
            return
        try:
            self._write(digest.hex() + SUFFIX, data)
        except OSError as exc:
            log.warning("received rows are not kept", path=str(self._folder), reason=str(exc))

    def _scan(self) -> None:
        found: list[tuple[int, str, int]] = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(OSError):  # gone meanwhile
                if entry.name.endswith(_ASIDE):
                    os.unlink(entry.path)  # a write that a crash cut short
                elif entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, entry.name, status.st_size))
        for _, name, size in sorted(found):
            self._sizes[name] = size

    def _make_room(self, size: int) -> None:
        used = sum(self._sizes.values())
        while self._sizes and used + size > self._budget:
            oldest = next(iter(self._sizes))
            (self._folder / oldest).unlink(missing_ok=True)
            used -= self._sizes.pop(oldest)

    def _write(self, name: str, data: bytearray) -> None:
        self._sizes.pop(name, None)  # a sequence sealed again with the same rows becomes the newest
        self._make_room(len(data))
        aside = self._folder / (name + _ASIDE)
        try:
            # Hidden states give prompts away: for this user only.
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(aside, self._folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        self._sizes[name] = len(data)
