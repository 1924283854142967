"""A stream that is written behind the program's back, so that no reader holds the program up.

A pipe or a terminal takes nothing while its other end is not read: a pager that waits, Ctrl-S. A
node that waited for it would miss its pings and be taken for dead. So a thread writes; what waits
for it has a bound, and lines beyond it are counted and told of once there is room again.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from node.console.streams import Lasting

MOST_WAITING = 2**20
"""Characters."""
_BLOCKS = (stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISSOCK)


def may_block(stream: TextIO) -> bool:
    """Whether what is written may have to wait for a reader."""
    with suppress(OSError, ValueError, AttributeError):
        mode = os.fstat(stream.fileno()).st_mode
        return any(kind(mode) for kind in _BLOCKS)
    return False


class Behind:
    """As much of a text stream as loggers need. `lost` makes the line for a number of lost ones."""

    def __init__(
        self, stream: TextIO, lost: Callable[[int], str], most: int = MOST_WAITING
    ) -> None:
        self._stream = Lasting(stream)
        self._line_of = lost
        self._most = most
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._size = 0
        self._begun = ""
        self._lost = 0
        self._busy = False
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> int:
        """Take a text; whole lines go on their way."""
        with self._changed:
            self._begun += text
            if self._begun.endswith("\n"):
                self._take(self._begun)
                self._begun = ""
        return len(text)

    def flush(self) -> None:
        """Nothing to do: lines are on their way."""

    def isatty(self) -> bool:
        """Whether people read along."""
        return self._stream.isatty()

    def settle(self, seconds: float) -> None:
        """Wait until everything is written, but no longer than that."""
        end = time.monotonic() + seconds
        with self._changed:
            while (self._waiting or self._busy) and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def _take(self, line: str) -> None:
        if self._size + len(line) > self._most:
            self._lost += 1
            return
        if self._lost:
            line = self._line_of(self._lost) + line
            self._lost = 0
        self._waiting.append(line)
        self._size += len(line)
        if self._thread is None:
            # A daemon: a reader that never reads must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                text = "".join(self._waiting)
                self._waiting.clear()
                self._busy = True
            self._stream.write(text)
            self._stream.flush()
            with self._changed:
                # What is being written counts until it is, or a stalled reader would have it twice.
                self._size -= len(text)
                self._busy = False
                self._changed.notify_all()
