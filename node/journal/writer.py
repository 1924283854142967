"""The journal under trio: one worker thread, and one fsync for all who wait.

An fsync takes milliseconds and blocks, so it belongs in a thread. `AsyncJournal.record` hands its
events to a committer task over a bounded channel and waits. The committer takes all that queued up
while the last fsync ran, writes it in a single transaction, and wakes everybody: under load many
appends share one fsync (group commit), and an idle journal commits at once. Events are encoded by
the caller, so only the disk can fail a shared transaction, and then it fails for all of its
members.

Order is kept: commits are written in the order in which they were asked for. A commit whose caller
was cancelled while it waited may or may not be written, like any write whose answer got lost.
Leaving `open_journal` writes what is queued and then closes the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import trio

from node.journal.store import Journal, JournalError, Write, pack
from node.journal.typed import JournalEvent

QUEUE = 1024
MAX_GROUP = 256

T = TypeVar("T")
E = TypeVar("E", bound=JournalEvent)


@dataclass
class _Pending:
    entries: Sequence[Write]
    state: Mapping[str, bytes]
    done: trio.Event = field(default_factory=trio.Event)
    result: list[bool] | None = None
    error: JournalError | None = None


class AsyncJournal:
    """The trio face of a `Journal`. Made by `open_journal`; all methods raise `JournalError`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._limiter = trio.CapacityLimiter(1)
        self._reads = trio.CapacityLimiter(1)
        self._queue, self._work = trio.open_memory_channel[_Pending](QUEUE)

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._journal.path

    async def record(
        self, *events: JournalEvent, state: Mapping[str, Any] | None = None
    ) -> list[bool]:
        """Append typed events (all or none) and set state with them, on disk on return; one bool
        an event, False for one that was there already."""
        return await self._commit([event.to_entry() for event in events], state)

    async def write(self, *writes: Write, state: Mapping[str, Any] | None = None) -> list[bool]:
        """Like `record`, of anything that can be written."""
        return await self._commit(writes, state)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What `query` finds of what was committed; it waits for no write."""
        return await trio.to_thread.run_sync(self._journal.read, query, limiter=self._reads)

    async def newest(self, kind: type[E], limit: int) -> list[E]:
        """At most `limit` events of this class, the newest first."""
        stored = await self._in_thread(lambda: self._journal.newest(kind.kind, limit))
        return [kind.from_stored(event) for event in stored]

    async def find(self, kind: type[E], key: str) -> E | None:
        """The event of this class and key."""
        stored = await self._in_thread(lambda: self._journal.get(kind.kind, key))
        return None if stored is None else kind.from_stored(stored)

    async def replay(self, *kinds: type[E]) -> list[E]:
        """All events of these classes, in the order in which they were written; for a start."""
        by_name = {kind.kind: kind for kind in kinds}
        stored = await self._in_thread(lambda: list(self._journal.events(list(by_name))))
        return [by_name[event.kind].from_stored(event) for event in stored]

    async def set_state(self, name: str, value: Any) -> None:
        """Set one value, on disk on return."""
        await self._commit([], {name: value})

    async def state(self, name: str, default: Any = None) -> Any:
        """The value last set under `name`."""
        return await self._in_thread(lambda: self._journal.state(name, default))

    async def _commit(
        self, entries: Sequence[Write], state: Mapping[str, Any] | None = None
    ) -> list[bool]:
        packed = {name: pack(value) for name, value in (state or {}).items()}
        pending = _Pending(tuple(entries), packed)
        try:
            await self._queue.send(pending)
        except (trio.ClosedResourceError, trio.BrokenResourceError) as exc:
            raise JournalError(f"{self.path}: closed") from exc
        await pending.done.wait()
        if pending.result is None:
            raise JournalError(f"{self.path}: not written") from pending.error
        return pending.result

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, limiter=self._limiter)

    async def _committer(self) -> None:
        async for first in self._work:
            group = [first]
            while len(group) < MAX_GROUP:
                try:
                    group.append(self._work.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            await self._write(group)

    async def _write(self, group: list[_Pending]) -> None:
        try:
            results = await self._in_thread(
                lambda: self._journal.commit_packed([(p.entries, p.state) for p in group])
            )
            for pending, result in zip(group, results, strict=True):
                pending.result = result
        except JournalError as exc:
            for pending in group:
                pending.error = exc
        finally:
            for pending in group:
                pending.done.set()


@asynccontextmanager
async def open_journal(
    path: Path,
    clock: Callable[[], float] = time.time,
    store: Callable[[Path, Callable[[], float]], Journal] = Journal,
) -> AsyncIterator[AsyncJournal]:
    """Open or make the journal at `path`; ready on entry. Raises `JournalError`.

    `clock` gives the unix seconds that events are stamped with, `store` opens the file.
    """
    journal = await trio.to_thread.run_sync(store, path, clock)
    opened = AsyncJournal(journal)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened._committer)
            async with opened._queue:
                yield opened
    finally:
        journal.close()
