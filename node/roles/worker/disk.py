"""How much of the operator's disk this worker takes.

Received rows have a bound of their own and give way: they get what the rest of the data folder
leaves of `policy.disk`. So the rest is what counts against it. Rows of units that nobody has judged
do not give way, so no new work may come once they leave no room for what is under way.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import trio

from node.config.schema import NodeConfig
from node.storage.names import rows_folder
from pipeline.engine.evidence.held import HeldRows


class WorkerDisk:
    """Looks at the data folder, in a thread."""

    def __init__(self, config: NodeConfig) -> None:
        self._folder = config.data_dir
        self._rows = rows_folder(config.data_dir)
        self._keep = config.retention.rows
        self._lent = config.policy.disk
        self._held = HeldRows(self._rows, config.retention.unjudged)

    async def used(self) -> int:
        """Bytes of all files of the data folder but received rows."""
        return await trio.to_thread.run_sync(lambda: sum(_sizes(self._folder, self._rows)))

    async def rows(self) -> int:
        """Bytes of received rows that may be kept."""
        if not self._lent:
            return self._keep
        return min(self._keep, max(0, self._lent - await self.used()))

    async def held(self) -> int:
        """Bytes of received rows of units that nobody has judged."""
        return await trio.to_thread.run_sync(lambda: sum(self._held.sizes().values()))

    async def release(self, sequence_ids: Collection[bytes]) -> None:
        """These sequences are judged, or given up: their rows may go."""
        await trio.to_thread.run_sync(self._held.release, sequence_ids)

    async def full(self, under_way: int) -> str:
        """Why no new work may come to this stage, or "". `under_way` is how many bytes of rows the
        sequences may have that it can hold at a time, 0 where it keeps none."""
        if not under_way:
            return ""
        held, room = await self.held(), await self.rows()
        if held + under_way <= room:
            return ""
        return (
            f"hidden states of units that nobody has judged take {held} bytes, those of the work"
            f" under way up to {under_way}, and the quota is {room} (retention.rows, policy.disk)"
        )


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
