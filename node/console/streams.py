"""Streams whose other end may fail: the reader goes away, or the disk behind it is full.

A node lives longer than whoever reads its log. A pipe without a reader is replaced by nothing at
all, for everybody in this process; a disk that takes nothing loses lines until it takes some again.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TextIO


class Lasting:
    """A text stream to write to that never raises; as much of one as loggers need."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            self._stream.write(text)
        except (OSError, ValueError) as exc:
            self._lost(exc)
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered, if it can be."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as exc:
            self._lost(exc)

    def isatty(self) -> bool:
        """Whether people read along."""
        with suppress(ValueError):
            return self._stream.isatty()
        return False

    def _lost(self, exc: OSError | ValueError) -> None:
        if isinstance(exc, OSError) and exc.errno == errno.EPIPE:
            forget(self._stream)


def forget(stream: TextIO) -> None:
    """Let everything that is written to `stream` from now on, and what it holds, go nowhere."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


def show_anything(*streams: TextIO) -> None:
    """Have streams write as an escape what their encoding lacks, instead of failing."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with suppress(OSError, ValueError):
                reconfigure(errors="backslashreplace")
