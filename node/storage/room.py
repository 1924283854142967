"""Watching the disk: how much room is left, and telling the operator of trouble and its end.

Intake stops while `retention.free_reserve` bytes are still free, so that what is under way can end,
and goes on when there is a quarter more. Nothing notifies a process of a disk that fills up, so the
room is polled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from node.journal import AsyncJournal


def room_left(folder: Path) -> int:
    """Bytes that this process may still write below `folder`. Raises `OSError`."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def shortage(free: int, reserve: int, short: bool) -> str:
    """Why there is too little room, or ""; `short` is whether there was too little before."""
    if free >= (reserve + reserve // 4 if short else reserve):
        return ""
    return f"{free // 2**20} MiB of disk are free, {reserve // 2**20} MiB are kept in reserve"


@dataclass(frozen=True)
class RoomTiming:
    """Seconds between two looks."""

    look: float = 5.0


class DiskWatch:
    """Reports to the journal how much room there is, and to the log what troubles the disk."""

    def __init__(
        self,
        journal: AsyncJournal,
        reserve: int,
        log: Any,
        room: Callable[[Path], int] = room_left,
        timing: RoomTiming | None = None,
    ) -> None:
        self._journal = journal
        self._reserve = reserve
        self._log = log
        self._room = room
        self._timing = timing or RoomTiming()
        self._short = False
        self._told = ""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await trio.sleep(self._timing.look)

    def look(self) -> None:
        """Look once. `statvfs` answers from memory, so it is asked here and not in a thread."""
        try:
            reason = shortage(self._room(self._journal.path.parent), self._reserve, self._short)
        except OSError as exc:
            reason = f"the disk cannot be looked at: {exc.strerror}"
        self._short = bool(reason)
        self._journal.report_room(reason)
        trouble = self._journal.trouble
        if trouble and not self._told:
            self._log.error("disk in trouble; nothing new is taken", reason=trouble)
        elif self._told and not trouble:
            self._log.info("disk well again", after=self._told)
        self._told = trouble
