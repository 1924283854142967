"""Frames on their way out of a stage: computing goes on while the last one is encrypted and sent.

A few frames wait at most, each bounded as the ring's batches are; `put` blocks beyond that, so a
slow wire slows the stage down and costs no more memory. Order is kept: one thread takes.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

SLOTS = 2
"""Frames that wait: one is being sent meanwhile."""


@dataclass(frozen=True)
class OutFrame:
    """A frame's header and payload; the payload's memory is not used again."""

    header: bytes
    payload: memoryview | None


class Outbox:
    """Between the thread that computes and the one that sends; `close` frees both."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._changed = threading.Condition()
        self._frames: deque[OutFrame] = deque()
        self._closed = False

    def put(self, frame: OutFrame) -> bool:
        """Wait for a slot and queue a frame; False once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._frames) < self._slots)
            if self._closed:
                return False
            self._frames.append(frame)
            self._changed.notify_all()
            return True

    def take(self) -> OutFrame | None:
        """Wait for the next frame; None once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._frames))
            if self._closed:
                return None
            frame = self._frames.popleft()
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        """Whoever waits returns, and what was not sent is dropped. Idempotent."""
        with self._changed:
            self._closed = True
            self._frames.clear()
            self._changed.notify_all()
