"""How long a validator keeps what its verdicts rest on. Pure.

The chain's disputes need none of it: they are about receipts and payouts, which an epoch's
published data hold. What does need a judged bundle is the operator, or another validator, who wants
to check a verdict (`prime-node export`, `prime-node verify`). An accepted unit is paid within
minutes and beyond dispute within the contract's window, so its bundle is kept for `accepted`
seconds; what was rejected may have got somebody slashed, so bundle and rows are kept as evidence
for `rejected` seconds. Where that takes more than the quota, the oldest goes first, accepted ones
before rejected ones. A bundle whose verdict is still owed is never removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

DAY = 86_400.0


class Kind(StrEnum):
    """What a file is: a bundle without a verdict, judged ones, or rows that a stage revealed."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ROWS = "rows"


@dataclass(frozen=True)
class KeepLimits:
    """Quotas in bytes for bundles and for rows, and for the number of bundles; ages in seconds.
    Files are looked through every `sweep` seconds. What nobody could judge in `attempts` tries is
    not taken again for `unjudged` seconds."""

    bundle_bytes: int = 4 * 2**30
    bundles: int = 100_000
    rows_bytes: int = 4 * 2**30
    accepted: float = DAY
    rejected: float = 30 * DAY
    unjudged: float = DAY
    attempts: int = 3
    sweep: float = 600.0


@dataclass(frozen=True)
class Kept:
    """A file: its digest in hex, what it is, its bytes and when it was written (Unix seconds)."""

    digest: str
    kind: Kind
    size: int
    written: float


def to_remove(
    files: Iterable[Kept], owed: Collection[str], limits: KeepLimits, now: float, room: int = 0
) -> list[Kept]:
    """The files that go, so that `room` more bytes of bundles fit. `owed` are the digests of
    bundles whose verdict is owed; an open bundle that nobody owes a verdict is of no use."""
    gone: list[Kept] = []
    bundles: list[Kept] = []
    rows: list[Kept] = []
    for file in files:
        age = now - file.written
        if file.kind is Kind.ROWS:
            (gone if age > limits.rejected else rows).append(file)
        elif file.digest in owed:
            bundles.append(file)
        elif file.kind is Kind.OPEN:
            gone.append(file)
        else:
            longest = limits.accepted if file.kind is Kind.ACCEPTED else limits.rejected
            (gone if age > longest else bundles).append(file)
    gone += _beyond(rows, limits.rows_bytes, len(rows))
    free = [file for file in bundles if file.digest not in owed]
    held = [file for file in bundles if file.digest in owed]
    left = limits.bundle_bytes - room - sum(file.size for file in held)
    gone += _beyond(free, left, limits.bundles - len(held) - bool(room))
    return gone


def _beyond(files: list[Kept], most_bytes: int, most: int) -> list[Kept]:
    """What must go until the rest fits: rejected ones and rows last, the oldest first."""
    total, count = sum(file.size for file in files), len(files)
    gone = []
    for file in sorted(files, key=lambda f: (f.kind is not Kind.ACCEPTED, f.written)):
        if total <= most_bytes and count <= most:
            break
        gone.append(file)
        total -= file.size
        count -= 1
    return gone
