"""A log file that stays within its quota: it and the one before it, each of half of it.

When a file is full it takes the place of the one before, `<name>.1`, and a new one begins. Files
are the operator's alone. What an engine process logs goes to stderr all the same.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from node.errors import InputError, system_error

LEAST = 64 * 1024


class RotatingFile:
    """As much of a text stream as loggers need. `most` is bytes of both files together. Raises
    `InputError` where the file cannot be opened; `write` raises `OSError`."""

    def __init__(self, path: Path, most: int) -> None:
        if most < LEAST:
            raise InputError(f"retention.logs {most}: too small", f"at least {LEAST} bytes")
        self._path = path
        self._half = most // 2
        self._descriptor = -1
        self._size = 0
        try:
            self._open()
        except OSError as exc:
            raise system_error(path, "cannot open the log file", exc) from exc

    def write(self, text: str) -> int:
        """Append text, which is never torn apart between two files."""
        data = text.encode("utf-8", "backslashreplace")
        if self._size and self._size + len(data) > self._half:
            self._close()
            with suppress(FileNotFoundError):
                os.replace(self._path, self._before)
        if self._descriptor < 0:  # also after a disk that refused a new one
            self._open()
        self._size += os.write(self._descriptor, data)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """Never."""
        return False

    @property
    def _before(self) -> Path:
        return self._path.with_name(self._path.name + ".1")

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._size = -1, 0

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size
