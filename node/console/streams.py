"""Streams whose other end may fail: the reader goes away, or the disk behind it is full.

A node lives longer than whoever reads its log. A pipe without a reader is replaced by nothing at
all, for everybody in this process; a disk that takes nothing loses lines until it takes some again.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Protocol, TextIO

from node.console.rotating import RotatingFile


class Lasting:
    """A text stream to write to that never raises; as much of one as loggers need."""

    def __init__(self, stream: TextIO | RotatingFile) -> None:
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
        if isinstance(self._stream, RotatingFile):
            return
        if isinstance(exc, OSError) and exc.errno == errno.EPIPE:
            forget(self._stream)


_behind: list[Settling] = []


class Settling(Protocol):
    """A stream that writes later than it is told to."""

    def settle(self, seconds: float) -> None:
        """Wait until everything is written, but no longer than that."""


def write_behind(stream: Settling | None) -> None:
    """The stream, if any, that `settle` is to wait for from now on."""
    _behind[:] = [] if stream is None else [stream]


def settle(seconds: float = 2.0) -> None:
    """Let the log be written before something else is, as far as anybody reads it."""
    for stream in _behind:
        stream.settle(seconds)


def fill_standard_streams() -> None:
    """Have stdin, stdout and stderr be something, where whoever started us closed them.

    Else the first socket or file that is opened would take the place of one of them, and receive
    whatever is written there.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - stays


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
