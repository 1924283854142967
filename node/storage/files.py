"""Files of one kind in a folder: which there are, and removing some.

The functions block and are called in threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import trio

from node.storage.report import Pruned
from node.storage.retention import FileLimits, StoredFile, files_to_remove


def stored(folder: Path, suffix: str) -> list[StoredFile]:
    """Files right in the folder whose names end in `suffix`; hidden ones are still being written.
    Nothing where there is no folder."""
    found: list[StoredFile] = []
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return found
    with entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.name.endswith(suffix):
                continue
            try:
                stat = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            found.append(StoredFile(entry.name, stat.st_size, stat.st_mtime))
    return found


def remove(folder: Path, files: Iterable[StoredFile]) -> None:
    """Remove these files; one that is gone already is no matter. Raises `OSError`."""
    for file in files:
        (folder / file.name).unlink(missing_ok=True)


class FileKeeper:
    """Files that their quota and age decide about, but for those that are `needed`, by name; asked
    for in a thread."""

    writes = False

    def __init__(
        self,
        what: str,
        folder: Path,
        suffix: str,
        limits: FileLimits,
        now: Callable[[], float],
        needed: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._needed = needed
        self._what = what
        self._folder = folder
        self._suffix = suffix
        self._limits = limits
        self._now = now

    async def prune(self, *, dry: bool) -> Pruned:
        """Remove the oldest beyond the quota."""
        files = await trio.to_thread.run_sync(stored, self._folder, self._suffix)
        needed = await trio.to_thread.run_sync(self._needed)
        gone = files_to_remove(files, needed, self._limits, self._now())
        if not dry:
            await trio.to_thread.run_sync(remove, self._folder, gone)
        freed = sum(file.size for file in gone)
        left = sum(file.size for file in files) - freed
        return Pruned(self._what, len(gone), freed, len(files) - len(gone), left, "within quota")
