"""Which files and jobs go: never what is needed, the oldest first, and no more than must."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from node.storage.retention import (
    FileLimits,
    JobLimits,
    StoredFile,
    StoredJob,
    files_to_remove,
    why_kept,
)

DAY = 86_400.0
LIMITS = JobLimits(ended=90 * DAY, exported=7 * DAY)
JOB = StoredJob("job", units=3, ended=1000.0, exported=0.0, judging=0)

FILES = st.lists(
    st.builds(
        StoredFile,
        name=st.sampled_from([f"f{n}" for n in range(12)]),
        size=st.integers(0, 50),
        written=st.integers(0, 100).map(float),
    ),
    unique_by=lambda file: file.name,
)


@given(
    FILES,
    st.sets(st.sampled_from([f"f{n}" for n in range(12)])),
    st.integers(0, 300),
    st.integers(0, 100),
)
def test_what_goes_is_old_or_too_much_and_never_needed(
    files: list[StoredFile], needed: set[str], quota: int, age: int
) -> None:
    now, limits = 100.0, FileLimits(quota, float(age), young=10.0)
    gone = files_to_remove(files, needed, limits, now)
    kept = [file for file in files if file not in gone]
    assert not {file.name for file in gone} & needed
    assert all(now - file.written >= limits.young for file in gone)
    assert [file.written for file in gone] == sorted(file.written for file in gone)
    free = [f for f in kept if f.name not in needed and now - f.written >= limits.young]
    if sum(file.size for file in kept) > quota:
        assert not free
    if age:
        assert all(now - file.written < age for file in free)
    if not age and gone:  # one less would have been too much
        assert sum(file.size for file in kept) + gone[-1].size > quota


def test_nothing_of_a_job_goes_while_there_is_work_left() -> None:
    late = 1000.0 * DAY
    for job in (replace(JOB, ended=0.0), replace(JOB, judging=1, exported=1.0)):
        assert why_kept(job, LIMITS, late) == "work under way"


def test_a_job_goes_a_while_after_it_was_exported_or_at_its_owners_limit() -> None:
    read = replace(JOB, exported=2000.0)
    assert why_kept(read, LIMITS, 2000.0 + 6 * DAY) == "exported a short time ago"
    assert why_kept(read, LIMITS, 2000.0 + 7 * DAY) == ""
    assert why_kept(JOB, LIMITS, 1000.0 + 89 * DAY) == "not exported"
    assert why_kept(JOB, LIMITS, 1000.0 + 90 * DAY) == ""


def test_an_age_of_0_means_never() -> None:
    late, read = 10_000 * DAY, replace(JOB, exported=2000.0)
    assert why_kept(JOB, JobLimits(0.0, 7 * DAY), late) == "not exported"
    assert why_kept(read, JobLimits(0.0, 0.0), late) == "kept for ever"
    assert why_kept(read, JobLimits(90 * DAY, 0.0), late) == ""
