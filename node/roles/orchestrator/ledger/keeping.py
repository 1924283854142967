"""How long jobs stay: until their dataset was read, or their owner's limit is over.

Nothing of a job goes while a unit of it waits, is at work or is with validators. It is unsealed
before its rows are deleted, so that a crash in between leaves no job with a part of its units.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from node.journal import AsyncJournal, Forget
from node.roles.orchestrator.journal_events import JobBeacon
from node.roles.orchestrator.ledger.rows import RowState
from node.roles.orchestrator.ledger.writes import DropUnits, EndJobs, UnsealJob
from node.storage.report import Pruned
from node.storage.retention import JobLimits, StoredJob, why_kept

SAMPLE = 256
"""Units by which a job's bytes are estimated; to add up all takes as long as to read them."""


class JobKeeper:
    """`forget(job_id)` is called before a job's rows go. `now` is Unix seconds."""

    writes = True

    def __init__(
        self,
        journal: AsyncJournal,
        limits: JobLimits,
        now: Callable[[], float],
        forget: Callable[[str], None] = lambda _job_id: None,
    ) -> None:
        self._journal = journal
        self._limits = limits
        self._now = now
        self._forget = forget

    async def prune(self, *, dry: bool) -> Pruned:
        """Drop jobs whose time is over."""
        now = self._now()
        if not dry:
            await self._journal.write(EndJobs())
        jobs = await self._journal.read(lambda connection: stored_jobs(connection, now))
        removed = freed = left = 0
        reasons: dict[str, int] = {}
        for job, size in jobs:
            why = why_kept(job, self._limits, now)
            if not why and (dry or await self._drop(job.job_id)):
                removed, freed = removed + 1, freed + size
            else:
                left += size
                why = why or "work under way"
                reasons[why] = reasons.get(why, 0) + 1
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        return Pruned("jobs", removed, freed, len(jobs) - removed, left, why)

    async def _drop(self, job_id: str) -> bool:
        (may,) = await self._journal.write(UnsealJob(job_id))
        if not may:
            return False
        self._forget(job_id)
        while (await self._journal.write(DropUnits(job_id)))[0]:
            pass
        await self._journal.record(Forget(JobBeacon, job_id))
        return True


def stored_jobs(connection: sqlite3.Connection, now: float) -> list[tuple[StoredJob, int]]:
    """All sealed jobs with their bytes, about. One that has ended without that having been noted
    ended `now`."""
    count = "(SELECT COUNT(*) FROM units WHERE job = number AND state = ?)"
    rows = connection.execute(
        "SELECT number, job_id, ended, exported, cancelled,"
        f" (SELECT COUNT(*) FROM units WHERE job = number), {count}, {count}"
        " FROM jobs WHERE sealed = 1 ORDER BY number",
        (int(RowState.VERIFYING), int(RowState.QUEUED)),
    ).fetchall()
    found = []
    for number, job_id, ended, exported, cancelled, units, judging, queued in rows:
        over = not judging and (cancelled or not queued)
        job = StoredJob(job_id, units, ended or (now if over else 0.0), exported, judging)
        (mean,) = connection.execute(
            "SELECT AVG(128 + LENGTH(prompts) + IFNULL(LENGTH(outcome), 0)) FROM"
            " (SELECT prompts, outcome FROM units WHERE job = ? ORDER BY last LIMIT ?)",
            (number, SAMPLE),
        ).fetchone()
        found.append((job, int(units * (mean or 0.0))))
    return found
