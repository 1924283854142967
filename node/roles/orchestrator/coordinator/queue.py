"""What the coordinator knows of the units that wait on disk: whether there are any.

A job of a million prompts is on disk and stays there; only the units that are next are in the
tables. One read is under way at a time. A job that arrives while it is must not be overlooked when
the read comes back empty, so arrivals are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class QueueMark:
    """`waiting` says that there may be units to read, `reading` that a read is under way.
    `cancelled` are jobs of which nothing more is begun."""

    waiting: bool = False
    reading: bool = False
    arrivals: int = 0
    cancelled: set[str] = field(default_factory=set)

    def grew(self) -> None:
        """There is more to read."""
        self.waiting = True
        self.arrivals += 1

    def lost(self) -> None:
        """What was decided about reads is undone: look again."""
        self.waiting, self.reading = True, False

    def read(self, count: int, arrivals: int) -> None:
        """A read that was asked for at `arrivals` found `count` units."""
        self.reading = False
        if not count and arrivals == self.arrivals:
            self.waiting = False
