"""The rows that a stage received, kept on disk so that it can show them in a dispute. No torch.

A stage whose predecessor sent it something wrong is innocent, and its proof of that is the very
bytes it got: they hash to the `received` that it signed and to the `sent` that its predecessor
signed. So the file of a sequence is named by that hash, and no request removes it; only the byte
budget does, the oldest first, and never one of a unit that nobody has judged (`held.py`). Those of
the work under way are written though the rest leaves no room: a worker takes no more work in time.

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

from pipeline.engine.evidence.held import HeldRows

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
    """Files `<sha256 hex>.rows` in a folder of this store alone, `budget` bytes in all, and what is
    `held`.

    What the folder holds already counts, ordered by modification time. Not thread-safe; others may
    read the files at any time, since each appears whole.
    """

    def __init__(self, folder: Path, budget: int, held: HeldRows | None = None) -> None:
        self._folder = folder
        self._budget = budget
        self._held = held or HeldRows(folder)
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

    def keep(self, digest: bytes, rows: RowsBuffer, sequence_id: bytes = b"") -> None:
        """Write the rows of a finished sequence; `digest` is their sha256. They are held until the
        sequence is released, where it is named. Never raises OSError."""
        data = rows.data
        if data is None:
            log.warning("received rows exceed the budget", bytes=rows.size, budget=self._budget)
            return
        try:
            name = digest.hex() + SUFFIX
            self._write(name, data)
            if sequence_id:
                self._held.hold(sequence_id, name, len(data))
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
        if used + size <= self._budget:
            return
        held = self._held.sizes()
        for name in [name for name in self._sizes if name not in held]:
            if used + size <= self._budget:
                return
            (self._folder / name).unlink(missing_ok=True)
            used -= self._sizes.pop(name)

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
