"""How much of the operator's disk this worker takes.

Received rows have a bound of their own and give way: they get what the rest of the data folder
leaves of `policy.disk`. So the rest is what counts against it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import trio

from node.config.schema import NodeConfig
from node.storage.names import rows_folder


class WorkerDisk:
    """Looks at the data folder, in a thread."""

    def __init__(self, config: NodeConfig) -> None:
        self._folder = config.data_dir
        self._rows = rows_folder(config.data_dir)
        self._keep = config.retention.rows
        self._lent = config.policy.disk

    async def used(self) -> int:
        """Bytes of all files of the data folder but received rows."""
        return await trio.to_thread.run_sync(lambda: sum(_sizes(self._folder, self._rows)))

    async def rows(self) -> int:
        """Bytes of received rows that may be kept."""
        if not self._lent:
            return self._keep
        return min(self._keep, max(0, self._lent - await self.used()))


def _sizes(folder: Path, but: Path) -> Iterator[int]:
    """Of every file below a folder, links not followed; what vanishes meanwhile takes nothing."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                if Path(entry.path) != but:
                    yield from _sizes(Path(entry.path), but)
            else:
                yield entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
