"""Having every keeper remove what nobody needs any more: now and then, or because somebody asks.

A keeper knows one kind of thing and what of it is still needed. A running node prunes by itself,
and `prime-node prune` asks it to; where none runs, the command does the same on the data folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from node.journal import AsyncJournal, JournalError
from node.storage.report import Pruned

STEP = 4 * 2**20
"""Bytes that are given back at once; commits wait meanwhile."""


class Keeper(Protocol):
    """Keeps one kind of thing. `writes` says that it deletes from the journal, too, and so can do
    nothing while the disk takes no writes."""

    @property
    def writes(self) -> bool:
        """See above."""
        ...

    async def prune(self, *, dry: bool) -> Pruned:
        """Remove what may go, or with `dry` only say what that is. Raises `OSError` and
        `JournalError`."""
        ...


@dataclass(frozen=True)
class PruneTiming:
    """Seconds between two rounds in a running node."""

    every: float = 600.0


class Pruner:
    """All keepers of a node, one round at a time; files go first, which makes room for writing.
    `failing` says why the disk takes no writes."""

    def __init__(
        self,
        keepers: Sequence[Keeper],
        failing: Callable[[], str],
        log: Any,
        timing: PruneTiming | None = None,
    ) -> None:
        self._keepers = sorted(keepers, key=lambda keeper: keeper.writes)
        self._failing = failing
        self._log = log
        self._timing = timing or PruneTiming()
        self._busy = trio.Lock()

    async def run(self) -> None:
        """Prune until cancelled. Age makes things superfluous, and no event tells."""
        while True:
            await trio.sleep(self._timing.every)
            for each in await self.prune(dry=False):
                if each.removed or each.freed:
                    self._log.info("pruned", what=each.what, removed=each.removed, bytes=each.freed)

    async def prune(self, *, dry: bool) -> list[Pruned]:
        """One round. A keeper that the disk fails says so and holds up none of the others."""
        found = []
        async with self._busy:
            for keeper in self._keepers:
                reason = self._failing()
                if keeper.writes and reason and not dry:
                    found.append(Pruned(type(keeper).__name__, why=f"not looked at: {reason}"))
                    continue
                try:
                    found.append(await keeper.prune(dry=dry))
                except (OSError, JournalError) as exc:
                    what = type(keeper).__name__
                    self._log.warning("not pruned", what=what, reason=str(exc))
                    found.append(Pruned(what, why=f"failed: {exc}"))
        return found


class Compactor:
    """Gives the journal's empty pages back to the file system. It comes last: what others delete
    leaves such pages."""

    writes = True

    def __init__(self, journal: AsyncJournal) -> None:
        self._journal = journal

    async def prune(self, *, dry: bool) -> Pruned:
        """Compact the file, a bit at a time."""
        freed = await self._journal.free_bytes() if dry else 0
        while not dry and (step := await self._journal.compact(STEP)) > 0:
            freed += step
        size = await trio.to_thread.run_sync(lambda: self._journal.path.stat().st_size)
        left = max(size - freed, 0) if dry else size
        return Pruned("journal, empty pages", freed=freed, left=left, why="in use")
