"""What a worker may spend on transactions in a day.

An entry is made before its transaction is sent and stays open until the outcome is known: a node
that is killed in between finds the entry again, and the same transaction takes it up instead of
being counted twice. The day is the last 24 hours, not the calendar's, so a budget cannot be spent
twice around midnight.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

DAY = 86_400.0
MAX_ENTRIES = 4096
"""Beyond it the day counts as spent, however small the sums: the list is kept on disk."""


@dataclass(frozen=True)
class GasEntry:
    """One transaction: what for (`join/7`), since when (Unix seconds), and at most how many wei."""

    what: str
    at: float
    wei: int
    open: bool = True


class GasLedger:
    """Entries of the last day, oldest first, against `budget` wei."""

    def __init__(self, budget: int, entries: Iterable[GasEntry] = ()) -> None:
        self.budget = budget
        self.entries: tuple[GasEntry, ...] = tuple(entries)

    def spent(self, now: float) -> int:
        """Wei of the last 24 hours."""
        return sum(entry.wei for entry in self._recent(now))

    def affords(self, wei: int, now: float) -> bool:
        """Whether `wei` more fit into the day."""
        return len(self._recent(now)) < MAX_ENTRIES and self.spent(now) + wei <= self.budget

    def affords_at(self, wei: int, now: float) -> float | None:
        """From when on `wei` more will fit; None where they never do."""
        if wei > self.budget:
            return None
        spent = self.spent(now)
        at = now
        for entry in self._recent(now):
            if spent + wei <= self.budget:
                break
            spent -= entry.wei
            at = entry.at + DAY
        return at

    def plan(self, what: str, wei: int, now: float) -> None:
        """Count a transaction that is about to be sent; an open one of that name is that one."""
        recent = self._recent(now)
        if not any(entry.open and entry.what == what for entry in recent):
            recent = (*recent, GasEntry(what, now, wei))[-MAX_ENTRIES:]
        self.entries = recent

    def finish(self, what: str, wei: int | None) -> None:
        """The outcome is known: it cost `wei` (None: what was planned)."""
        self.entries = tuple(
            replace(entry, open=False, wei=entry.wei if wei is None else wei)
            if entry.open and entry.what == what
            else entry
            for entry in self.entries
        )

    def _recent(self, now: float) -> tuple[GasEntry, ...]:
        return tuple(entry for entry in self.entries if entry.at > now - DAY)
