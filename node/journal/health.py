"""Whether the disk takes what is written, and if not, why: the decision behind `journal.trouble`.

Three things stop a node from taking on work, and each has a reason of its own here:

- a write that failed (a full or broken disk). It is tried again until it succeeds;
- a write that does not come back: after `stalled` seconds the disk counts as stuck;
- too little room left, though writes still succeed. Work under way must be able to end, so intake
  stops while there still is some.

Nothing here waits or looks at a clock; what is stuck is found out when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class DiskHealth:
    """What is known of the disk. `stalled` is in seconds; times are of a clock that never goes
    back."""

    stalled: float
    failed: str = ""
    room: str = ""
    began: float | None = None

    def write_begins(self, now: float) -> None:
        """A write is with the disk."""
        self.began = now

    def write_ends(self, failed: str = "") -> None:
        """The disk took the write, or refused it for this reason."""
        self.began = None
        self.failed = failed

    def failing(self, now: float) -> str:
        """Why nothing can be written; "" while it can."""
        if self.began is not None and now - self.began >= self.stalled:
            return f"the disk has not answered for {now - self.began:.0f} s"
        return self.failed

    def trouble(self, now: float) -> str:
        """Why nothing new may be taken; "" while all is well."""
        return self.failing(now) or self.room
