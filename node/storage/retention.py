"""Which files and jobs go, and which stay. Pure: sizes in bytes, ages and times in seconds.

The settings are `[retention]` (`node.config.schema`). An age of 0 means that nothing goes by age.
Files of a kind go by age, and beyond their quota the oldest first; what is still needed never goes.
A job goes only after it ended, and then in one of two ways: its whole dataset was read by its owner
a while ago, or it is older than the owner's limit, read or not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class StoredFile:
    """A file by its name, with its bytes and when it was written (Unix seconds)."""

    name: str
    size: int
    written: float


@dataclass(frozen=True)
class FileLimits:
    """`quota` in bytes, `age` in seconds; files younger than `young` never go, since somebody may
    be about to name them."""

    quota: int
    age: float = 0.0
    young: float = 3600.0


def files_to_remove(
    files: Iterable[StoredFile], needed: Collection[str], limits: FileLimits, now: float
) -> list[StoredFile]:
    """The files that go, the oldest first. What is needed counts against the quota, too."""
    ordered = sorted(files, key=lambda file: (file.written, file.name))
    total = sum(file.size for file in ordered)
    gone = []
    for file in ordered:
        age = now - file.written
        if file.name in needed or age < limits.young:
            continue
        if total > limits.quota or (limits.age and age >= limits.age):
            gone.append(file)
            total -= file.size
    return gone


@dataclass(frozen=True)
class StoredJob:
    """A job on disk. `ended` and `exported` are Unix seconds, 0: not yet; `judging` counts units
    that validators have."""

    job_id: str
    units: int
    ended: float
    exported: float
    judging: int


@dataclass(frozen=True)
class JobLimits:
    """Seconds after a job ended, and after it was exported, until it goes; 0: never."""

    ended: float
    exported: float


def why_kept(job: StoredJob, limits: JobLimits, now: float) -> str:
    """Why a job stays; "" where it goes."""
    if job.judging or not job.ended:
        return "work under way"
    if limits.ended and now - job.ended >= limits.ended:
        return ""
    if not job.exported:
        return "not exported"
    if limits.exported and now - job.exported >= limits.exported:
        return ""
    return "exported a short time ago" if limits.exported else "kept for ever"
