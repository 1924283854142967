"""Frames waiting for the one task that writes to the connection.

Two queues. *Urgent* frames (credit, pings, ACKs, refusals, goodbye) go first, so that credit is not
stuck behind a bulk transfer; a peer provokes them, so their number is bounded. *Ordered* frames
(data, and the SYN, FIN and RST of their streams) keep their order. `put` never waits and a frame is
whole or absent: that is what makes a cancelled writer harmless to the connection. Waiting for room
is the writers' own business (`full`, `wait_sent`).
"""

from __future__ import annotations

from collections import deque

import trio

DATA_LIMIT = 512 * 1024  # bytes at which writers of data wait
URGENT_LIMIT = 4096  # frames; only a peer that never reads can make so many
BATCH = 256 * 1024  # bytes of data joined into one write


class Outbox:
    """The outgoing queue of one connection."""

    def __init__(self) -> None:
        self._urgent: deque[bytes] = deque()
        self._ordered: deque[bytes] = deque()
        self._bytes = 0
        self._in_flight = False
        self._filled = trio.Event()
        self._drained = trio.Event()

    def put(self, frame: bytes, *, urgent: bool) -> bool:
        """Queue one whole frame; False when the urgent queue is at its limit."""
        if urgent:
            if len(self._urgent) >= URGENT_LIMIT:
                return False
            self._urgent.append(frame)
        else:
            self._ordered.append(frame)
            self._bytes += len(frame)
        self._filled.set()
        return True

    @property
    def full(self) -> bool:
        """Whether writers of data should wait."""
        return self._bytes >= DATA_LIMIT

    async def next_batch(self) -> bytes:
        """Wait for frames and take as many as fit one write."""
        while not self._urgent and not self._ordered:
            self._filled = trio.Event()
            await self._filled.wait()
        parts = list(self._urgent)
        self._urgent.clear()
        size = 0
        while self._ordered and size < BATCH:
            parts.append(self._ordered.popleft())
            size += len(parts[-1])
        self._bytes -= size
        self._in_flight = True
        return b"".join(parts)

    def sent(self) -> None:
        """The last batch is on its way: wake whoever waits for room."""
        self._in_flight = False
        self._wake()

    async def wait_sent(self) -> None:
        """Sleep until a batch was sent or the connection ended."""
        await self._drained.wait()

    async def wait_empty(self) -> None:
        """Sleep until everything was sent or the connection ended."""
        while self._urgent or self._ordered or self._in_flight:
            await self._drained.wait()

    def clear(self) -> None:
        """The connection ended: drop everything and wake all waiters."""
        self._urgent.clear()
        self._ordered.clear()
        self._bytes = 0
        self._in_flight = False
        self._wake()

    def _wake(self) -> None:
        self._drained.set()
        self._drained = trio.Event()
