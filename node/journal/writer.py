"""The journal under trio: one worker thread, one fsync for all who wait, and no event lost.

An fsync takes milliseconds and blocks, so it belongs in a thread. `AsyncJournal.record` hands its
events to a committer task and waits. The committer takes all that queued up while the last fsync
ran, writes it in a single transaction, and wakes everybody: under load many appends share one fsync
(group commit), and an idle journal commits at once. Events are encoded by the caller, so only the
disk can fail a shared transaction.

A full, failing or stuck disk fails nobody. The batch is kept and tried again, at growing intervals,
until the disk takes it; its callers wait. Meanwhile `trouble` says why, and whoever takes in new
work asks it first and refuses (`node/storage/intake.py`). What waits has a bound in bytes: callers
beyond it stand in line and hold no more than their own event.

Order is kept: commits are written in the order in which they were asked for. A caller may be
cancelled while it stands in line. Once its events are taken it is shielded, since they will be on
disk and memory has to follow them: what it does next, up to its next await, happens. On the way out
nobody is left to tell, so `let_go` ends the shielding, and `open_journal`, having been left, tries
once more for a while and closes.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import trio

from node.journal.health import DiskHealth
from node.journal.store import DiskError, Journal, JournalError, Write, pack
from node.journal.typed import Forget, JournalEvent, OnlyNewest
from node.retry import Backoff, tries

ENTRY_OVERHEAD = 512
"""Bytes that an event takes in memory beside its body, about."""

T = TypeVar("T")
E = TypeVar("E", bound=JournalEvent)


@dataclass(frozen=True)
class WriterLimits:
    """`waiting` is bytes that may wait for the disk, `group` how many callers share a transaction.
    Seconds: `stalled` until a disk that does not answer counts as stuck, `retry` between tries,
    `closing` for what is left to write on the way out while the disk is in trouble."""

    waiting: int = 32 * 2**20
    group: int = 256
    stalled: float = 10.0
    retry: Backoff = Backoff(first=0.25, last=10.0)
    closing: float = 10.0


@dataclass
class _Pending:
    entries: Sequence[Write]
    state: Mapping[str, bytes]
    done: trio.Event = field(default_factory=trio.Event)
    result: list[bool] | None = None
    error: JournalError | None = None

    @property
    def size(self) -> int:
        """Bytes it holds while it waits."""
        bodies = sum(entry.size + ENTRY_OVERHEAD for entry in self.entries)
        return bodies + sum(len(value) + ENTRY_OVERHEAD for value in self.state.values())


class AsyncJournal:
    """The trio face of a `Journal`. Made by `open_journal`; reading raises `JournalError`, writing
    only for values that no file can hold and once the journal is closed."""

    def __init__(
        self,
        journal: Journal,
        limits: WriterLimits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._limits = limits or WriterLimits()
        self._limiter = trio.CapacityLimiter(1)
        self._reads = trio.CapacityLimiter(1)
        self._monotonic = monotonic
        self._health = DiskHealth(self._limits.stalled)
        self._well = trio.Event()
        self._ill = trio.Event()
        self._waiting: deque[_Pending] = deque()
        self._bytes = 0
        self._line = trio.Lock()  # trio's locks are fair: first come, first served
        self._room = trio.Event()
        self._work = trio.Event()
        self._closed = False
        self._shielding = True
        self._shields: set[trio.CancelScope] = set()

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._journal.path

    @property
    def trouble(self) -> str:
        """Why the disk takes nothing now, or "" while it does. Without paths: peers may be told."""
        return self._health.trouble(self._monotonic())

    @property
    def failing(self) -> str:
        """Why nothing can be written at all, "" where it can, were there only little room."""
        return self._health.failing(self._monotonic())

    @property
    def waiting_bytes(self) -> int:
        """Bytes of events that wait for the disk."""
        return self._bytes

    async def wait_well(self) -> None:
        """Return as soon as there is no `trouble`."""
        while self.trouble:
            await self._well.wait()

    async def wait_trouble(self) -> str:
        """Return as soon as there is `trouble`, with what it is. A disk that hangs says nothing, so
        that is looked for now and then."""
        while not (trouble := self.trouble):
            with trio.move_on_after(self._limits.stalled / 2):
                await self._ill.wait()
        return trouble

    def report_room(self, trouble: str) -> None:
        """Say that there is too little room on the disk, and why; "" when there is enough."""
        self._health.room = trouble
        self._wake(True)

    async def record(
        self, *events: JournalEvent | Forget | OnlyNewest, state: Mapping[str, Any] | None = None
    ) -> list[bool]:
        """Append typed events, or have some deleted (all or none), and set state with them, on disk
        on return; one bool an event, False for one that was there already (or was not). Waits for
        as long as the disk is in trouble."""
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

    async def keys(self, kind: type[JournalEvent]) -> list[str]:
        """The keys of all events of this class; for kinds of which there are not too many."""
        return await self._in_thread(lambda: self._journal.keys(kind.kind))

    async def page(self, kind: type[E], after_id: int, limit: int) -> list[tuple[int, E]]:
        """At most `limit` events of this class, by id, whose ids are above `after_id`: for who need
        not have all of them in memory."""
        stored = await self._in_thread(lambda: self._journal.page([kind.kind], after_id, limit))
        return [(event.id, kind.from_stored(event)) for event in stored]

    async def set_state(self, name: str, value: Any) -> None:
        """Set one value, on disk on return."""
        await self._commit([], {name: value})

    async def state(self, name: str, default: Any = None) -> Any:
        """The value last set under `name`."""
        return await self._in_thread(lambda: self._journal.state(name, default))

    async def compact(self, most: int) -> int:
        """Give about `most` bytes that nothing is in back to the file system; how many were."""
        return await self._in_thread(lambda: self._journal.compact(most))

    async def free_bytes(self) -> int:
        """Bytes of the file that nothing is in."""
        return await self._in_thread(self._journal.free_bytes)

    def let_go(self) -> None:
        """Callers that wait for the disk can be cancelled from now on, since the node ends."""
        self._shielding = False
        for scope in self._shields:
            scope.shield = False

    async def let_go_when_cancelled(self) -> None:
        """Waits for its own cancellation, and lets go. For the nursery whose end is the node's."""
        try:
            await trio.sleep_forever()
        finally:
            self.let_go()

    # -- callers ---------------------------------------------------------------------------------

    async def _commit(
        self, entries: Sequence[Write], state: Mapping[str, Any] | None = None
    ) -> list[bool]:
        packed = {name: pack(value) for name, value in (state or {}).items()}
        pending = _Pending(tuple(entries), packed)
        async with self._line:
            while self._full(pending) and not self._closed:
                self._room = trio.Event()
                await self._room.wait()
            if self._closed:
                raise JournalError(f"{self.path}: closed")
            self._waiting.append(pending)
            self._bytes += pending.size
            self._work.set()
        with trio.CancelScope(shield=self._shielding) as scope:
            self._shields.add(scope)
            try:
                await pending.done.wait()
            finally:
                self._shields.discard(scope)
        if pending.result is None:
            raise JournalError(f"{self.path}: not written") from pending.error
        return pending.result

    def _full(self, pending: _Pending) -> bool:
        return bool(self._waiting) and self._bytes + pending.size > self._limits.waiting

    async def _in_thread(self, call: Callable[[], T], abandon: bool = False) -> T:
        return await trio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=abandon)

    # -- the committer ---------------------------------------------------------------------------

    async def _committer(self) -> None:
        """Writes what waits, until the journal is closed and nothing waits any more."""
        while self._waiting or not self._closed:
            if not self._waiting:
                self._work = trio.Event()
                await self._work.wait()
                continue
            group = [self._waiting[n] for n in range(min(len(self._waiting), self._limits.group))]
            await self._write(group)
            for pending in group:  # only now: what is being written still takes memory
                self._waiting.popleft()
                self._bytes -= pending.size
                pending.done.set()
            self._room.set()

    async def _write(self, group: Sequence[_Pending]) -> None:
        """Have the group on disk, however long that takes. What is at fault itself fails alone."""
        try:
            async for _ in tries(self._limits.retry):
                try:
                    results = await self._try_once(group)
                except DiskError:
                    continue
                for pending, result in zip(group, results, strict=True):
                    pending.result = result
                return
        except JournalError as exc:
            if len(group) > 1:
                for pending in group:
                    await self._write([pending])
            else:
                group[0].error = exc

    async def _try_once(self, group: Sequence[_Pending]) -> list[list[bool]]:
        had_trouble, failed = bool(self._health.failed), ""
        self._health.write_begins(self._monotonic())
        try:
            return await self._in_thread(
                lambda: self._journal.commit_packed([(p.entries, p.state) for p in group]),
                abandon=True,
            )
        except DiskError as exc:
            failed = exc.reason
            raise
        finally:
            had_trouble = had_trouble or bool(self.trouble)
            self._health.write_ends(failed)
            self._wake(had_trouble)

    def _wake(self, had_trouble: bool) -> None:
        if self.trouble:
            self._ill.set()
            self._ill = trio.Event()
        elif had_trouble:
            self._well.set()
            self._well = trio.Event()

    def _close(self) -> None:
        self._closed = True
        self._work.set()
        self._room.set()
        for pending in self._waiting:  # with nobody left to write them
            pending.done.set()
        if not self._limiter.borrowed_tokens:  # else a stuck disk has the file
            self._journal.close()


@asynccontextmanager
async def open_journal(
    path: Path,
    clock: Callable[[], float] = time.time,
    store: Callable[[Path, Callable[[], float]], Journal] = Journal,
    limits: WriterLimits | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[AsyncJournal]:
    """Open or make the journal at `path`; ready on entry. Raises `JournalError`.

    `clock` gives the unix seconds that events are stamped with, `monotonic` those by which a disk
    counts as stuck, and `store` opens the file.
    """
    journal = await trio.to_thread.run_sync(store, path, clock)
    opened = AsyncJournal(journal, limits, monotonic)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened._committer)
            try:
                yield opened
            finally:
                opened.let_go()
                opened._closed = True
                opened._work.set()
                if opened.trouble:
                    nursery.cancel_scope.deadline = trio.current_time() + opened._limits.closing
    finally:
        opened._close()
