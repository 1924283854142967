"""What goes, and what never does."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from node.roles.validator.keeping.retention import DAY, KeepLimits, Kept, Kind, to_remove

LIMITS = KeepLimits(bundle_bytes=100, bundles=5, rows_bytes=50, accepted=DAY, rejected=30 * DAY)
NOW = 100 * DAY


def kept(name: str, kind: Kind, size: int = 10, age: float = 0.0) -> Kept:
    return Kept(name, kind, size, NOW - age)


def names(files: list[Kept], **options: object) -> set[str]:
    owed = options.pop("owed", set())
    return {f.digest for f in to_remove(files, owed, LIMITS, NOW, **options)}  # type: ignore[arg-type]


def test_ages_differ_by_what_a_verdict_says() -> None:
    files = [
        kept("new", Kind.ACCEPTED),
        kept("paid", Kind.ACCEPTED, age=2 * DAY),
        kept("evidence", Kind.REJECTED, age=2 * DAY),
        kept("old evidence", Kind.REJECTED, age=31 * DAY),
        kept("rows", Kind.ROWS, age=2 * DAY),
        kept("old rows", Kind.ROWS, age=31 * DAY),
    ]
    assert names(files) == {"paid", "old evidence", "old rows"}


def test_what_nobody_owes_a_verdict_for_goes_and_what_is_owed_stays_however_old() -> None:
    files = [kept("owed", Kind.OPEN, age=99 * DAY), kept("left", Kind.OPEN)]
    assert names(files, owed={"owed"}) == {"left"}


def test_beyond_the_quota_the_oldest_accepted_goes_first() -> None:
    files = [
        kept("rejected", Kind.REJECTED, 40, age=3.0),
        kept("older", Kind.ACCEPTED, 40, age=2.0),
        kept("newer", Kind.ACCEPTED, 40, age=1.0),
    ]
    assert names(files) == {"older"}
    assert names(files, room=60) == {"older", "newer"}
    assert names(files, room=100) == {"older", "newer", "rejected"}
    rows = [kept(f"rows {n}", Kind.ROWS, 20, age=float(n)) for n in range(4)]
    assert names(rows) == {"rows 3", "rows 2"}


KINDS = st.sampled_from(list(Kind))
FILES = st.lists(
    st.builds(
        Kept,
        st.integers(0, 30).map(str),
        KINDS,
        st.integers(1, 60),
        st.floats(0.0, NOW, allow_nan=False),
    ),
    max_size=20,
    unique_by=lambda file: file.digest,
)


@given(FILES, st.sets(st.integers(0, 30).map(str)))
def test_what_stays_fits_the_quotas_and_what_is_owed_always_stays(
    files: list[Kept], owed: set[str]
) -> None:
    gone = to_remove(files, owed, LIMITS, NOW)
    assert not [f for f in gone if f.digest in owed and f.kind is not Kind.ROWS]
    free = [f for f in files if f not in gone and f.digest not in owed]
    held = sum(f.size for f in files if f.digest in owed and f.kind is not Kind.ROWS)
    bundles = [f for f in free if f.kind is not Kind.ROWS]
    assert not bundles or held + sum(f.size for f in bundles) <= LIMITS.bundle_bytes
    unbound = replace(LIMITS, bundle_bytes=10**9, bundles=10**9, rows_bytes=10**9)
    young = [f for f in to_remove(files, owed, unbound, NOW) if f not in gone]
    assert young == []
