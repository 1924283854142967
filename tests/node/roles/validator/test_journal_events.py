"""Every event of a validator comes back from the disk as it was written, under its own key."""

from __future__ import annotations

import pytest

from node.journal import Event, JournalError, JournalEvent
from node.journal.store import unpack
from node.roles.validator.journal_events import (
    AskedStage,
    BundleCounted,
    BundleTaken,
    BundleTried,
    ConvictionFound,
    EpochCosigned,
    LimitsUsed,
    RowsAsked,
    UnitAccepted,
    VerdictSigned,
    WorkerChecked,
    WorkerDrifted,
)

ID = b"b" * 32
ASKED = (
    AskedStage(stage=1, index=2, digest=b"d" * 32, error=None),
    AskedStage(stage=0, index=2, digest=b"e" * 32, error=0.25),
)
EVENTS: list[tuple[JournalEvent, str]] = [
    (BundleTaken(bundle_id=ID, sender="peer", block=7, size=9, tokens=4), ID.hex()),
    (BundleTried(bundle_id=ID, attempt=2, at=1.5), ID.hex() + ":2"),
    (RowsAsked(bundle_id=ID, stages=ASKED), ID.hex()),
    (LimitsUsed(bundle_id=ID, limits="fp32"), ID.hex()),
    (VerdictSigned(bundle_id=ID, verdict=b"v"), ID.hex()),
    (
        UnitAccepted(
            sender="peer",
            unit_id=b"u" * 32,
            bundle_id=ID,
            at=2.5,
            receipts=((b"r", b"w", b"c"),) * 2,
        ),
        "peer:" + (b"u" * 32).hex(),
    ),
    (ConvictionFound(bundle_id=ID, conviction=b"c"), ID.hex()),
    (EpochCosigned(pool_id=3, epoch=4, digest=b"d" * 32, root=b"r"), "3:4:" + (b"d" * 32).hex()),
    (BundleCounted(bundle_id=ID), ID.hex()),
    (WorkerChecked(worker="0xaa", record={"verified": 3, "drift": {"units": 3}}), "0xaa"),
    (WorkerDrifted(worker="0xaa", bundle_id=ID), "0xaa:" + ID.hex()),
]


@pytest.mark.parametrize(("event", "key"), EVENTS, ids=lambda case: type(case).__name__)
def test_events_come_back_as_they_were_written(event: JournalEvent, key: str) -> None:
    entry = event.to_entry()
    assert entry.key == key
    stored = Event(1, 0.0, entry.kind, entry.key, unpack(entry.packed))
    assert type(event).from_stored(stored) == event


def test_all_kinds_differ() -> None:
    assert len({event.kind for event, _ in EVENTS}) == len(EVENTS)


def test_a_body_that_does_not_fit_is_named() -> None:
    with pytest.raises(JournalError, match=r"self\.inquiry: stages\.0\.error"):
        RowsAsked.from_stored(
            Event(
                5,
                0.0,
                "self.inquiry",
                ID.hex(),
                {
                    "bundle_id": ID,
                    "stages": ({"stage": 0, "index": 0, "digest": b"", "error": "x"},),
                },
            )
        )
