"""Which rows may still be asked for: those of units that nobody has judged. No torch.

An honest stage that is accused shows the rows that it received, so they must be there until the
verdict, however full the folder is. The engine keeps them and knows of no verdicts; the control
process hears of those and may find another engine by then, or none. So what is held is written
beside the rows: an empty file in `held/`, named by the sequence, the rows and their bytes. It goes
when the orchestrator says that the unit is over, or, as orchestrators vanish, by age.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

FOLDER = "held"


class HeldRows:
    """Marks beside the rows in `folder`; one older than `age` seconds (0: none) holds nothing.
    Blocks. Whatever the disk says is left out, never raised: `hold` apart."""

    def __init__(
        self, folder: Path, age: float = 0.0, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder / FOLDER
        self._age = age
        self._now = now

    def hold(self, sequence_id: bytes, name: str, size: int) -> None:
        """The rows of this file, so many bytes, are of a sequence that is not judged. Raises
        `OSError`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = self._folder / f"{sequence_id.hex()}-{size}-{name}"
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT, 0o600))
        os.utime(mark)

    def release(self, sequence_ids: Collection[bytes]) -> None:
        """These are judged, or given up."""
        wanted = {sequence_id.hex() for sequence_id in sequence_ids}
        for mark in self._marks():
            if mark.partition("-")[0] in wanted:
                self._drop(mark)

    def sizes(self) -> dict[str, int]:
        """Files of rows that are held, and their bytes. Marks that are too old go."""
        found: dict[str, int] = {}
        for mark in self._marks():
            parts = mark.split("-", 2)
            if len(parts) != 3 or not parts[1].isdecimal() or len(parts[1]) > 18:
                continue
            if self._age and self._old(mark):
                self._drop(mark)
                continue
            found[parts[2]] = int(parts[1])
        return found

    def _marks(self) -> list[str]:
        try:
            return os.listdir(self._folder)
        except OSError:
            return []

    def _old(self, mark: str) -> bool:
        try:
            return self._now() - os.stat(self._folder / mark).st_mtime >= self._age
        except OSError:
            return False

    def _drop(self, mark: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._folder / mark)
