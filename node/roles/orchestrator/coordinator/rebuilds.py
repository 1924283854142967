"""How often rings are rebuilt for the sake of a job whose units fail in them.

A unit that fails in a ring is tried again in another one, since a stage may have lied. Where no
other ring is running, one has to be built. A job that nothing can make work must not have the pool
rebuild rings all the time, so each job has a few rebuilds to spend. Work of it that is accepted
earns more: where most of a job works, a failure is worth a second look.

Pure, and in memory only.
"""

from __future__ import annotations

EARNED = 1 / 16
"""Of a rebuild, by each accepted unit."""
JOBS = 1024
"""Jobs that are remembered; the one whose unit failed first is forgotten."""


class RebuildBudget:
    """Every job starts with `most` rebuilds and never has more."""

    def __init__(self, most: int) -> None:
        self._most = float(max(most, 0))
        self._left: dict[str, float] = {}

    def spend(self, job_id: str) -> bool:
        """Take one rebuild; False where none is left."""
        left = self._left.setdefault(job_id, self._most)
        if len(self._left) > JOBS:
            del self._left[next(iter(self._left))]
        if left < 1.0:
            return False
        self._left[job_id] = left - 1.0
        return True

    def earn(self, job_id: str, rebuilds: float = EARNED) -> None:
        """A unit of the job was accepted, or a failure turned out to be none of its doing."""
        if job_id in self._left:
            self._left[job_id] = min(self._left[job_id] + rebuilds, self._most)
