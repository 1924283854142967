"""How whoever waits for an edge is told that nobody wants it any more.

It ends waits: for a neighbour to come, and between two attempts to reach one. It does not end an
attempt that is under way.
"""

from __future__ import annotations

import threading


class Recall:
    """Not given at first; given once, for good, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._waiting: list[threading.Condition] = []

    @property
    def given(self) -> bool:
        """Whether the edge is no longer wanted."""
        return self._event.is_set()

    def give(self) -> None:
        """Nobody wants the edge any more: wake whoever waits."""
        with self._lock:
            self._event.set()
            waiting = tuple(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for so long, or until it is given; whether it is."""
        return self._event.wait(seconds)

    def wake(self, condition: threading.Condition) -> None:
        """Notify this condition when it is given, until `leave`. Not while holding it."""
        with self._lock:
            self._waiting.append(condition)

    def leave(self, condition: threading.Condition) -> None:
        """No longer notify it."""
        with self._lock:
            self._waiting.remove(condition)
