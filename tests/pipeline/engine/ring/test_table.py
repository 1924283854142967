"""What a stage accepts in a batch, and which of its rows are outputs of whom."""

from __future__ import annotations

import pytest

from pipeline.engine.errors import StageViolation
from pipeline.engine.ring.table import ItemRows, SequenceTable
from pipeline.engine.schedule.batch import Batch, Close, Grow, Item, Open
from proofs.sampling.settings import SamplingSettings

A, B = b"a" * 16, b"b" * 16


def opened(sequence_id: bytes, prompt: int = 3, capacity: int = 8) -> Open:
    return Open(sequence_id, prompt, capacity, SamplingSettings(), bytes(32))


def table_with(*batches: Batch) -> SequenceTable:
    table = SequenceTable(16)
    for batch in batches:
        table.apply(batch)
    return table


STARTED = Batch(0, (Item(A, 0, 4, True),), (opened(A),))


def test_proven_rows_are_those_that_give_outputs() -> None:
    table = SequenceTable(16)
    items = (Item(A, 0, 2, False), Item(B, 0, 3, True))
    placed = table.apply(Batch(0, items, (opened(A), opened(B, prompt=2))))
    assert placed == [ItemRows(A, 0, 2, 0, False), ItemRows(B, 2, 3, 2, True)]
    placed = table.apply(Batch(1, (Item(B, 3, 1, True), Item(A, 2, 3, False))))
    assert placed == [ItemRows(B, 0, 1, 1, True), ItemRows(A, 1, 3, 3, False)]
    table.apply(Batch(2, closes=(Close(A, 3), Close(B, 0))))
    assert table.sequences() == ()


def test_a_close_makes_room_for_an_open_of_the_same_batch() -> None:
    table = table_with(STARTED, Batch(1, opens=(opened(B),)))
    table.apply(Batch(2, (Item(A, 0, 1, False),), (opened(A),), (Close(A, 2),)))
    assert table.opened(A).capacity == 8


def test_a_sequence_that_grows_may_go_on_and_leaves_less_to_others() -> None:
    table = table_with(STARTED)
    table.apply(Batch(1, (Item(A, 4, 6, True),), grows=(Grow(A, 10),)))
    with pytest.raises(StageViolation, match="10 \\+ 8 positions exceed"):
        table.apply(Batch(2, opens=(opened(B),)))


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (Batch(2), "step 1 was due"),
        (Batch(1, closes=(Close(B, 0),)), "not open was closed"),
        (Batch(1, closes=(Close(A, 1),)), "closed with 1 outputs after 2 rows"),
        (Batch(1, opens=(opened(A),)), "opened twice"),
        (Batch(1, opens=(opened(B, prompt=9),)), "prompt exceeds"),
        (Batch(1, opens=(opened(B, capacity=9),)), "8 \\+ 9 positions exceed"),
        (Batch(1, grows=(Grow(B, 9),)), "not open was to grow"),
        (Batch(1, grows=(Grow(A, 8),)), "grow to what it has"),
        (Batch(1, grows=(Grow(A, 17),)), "8 \\+ 9 positions exceed"),
        (Batch(1, (Item(B, 0, 1, False),)), "not open"),
        (Batch(1, (Item(A, 3, 1, True),)), "starts at 3, the sequence stands at 4"),
        (Batch(1, (Item(A, 5, 1, True),)), "starts at 5, the sequence stands at 4"),
        (Batch(1, (Item(A, 4, 5, True),)), "past its sequence's capacity"),
        (Batch(1, (Item(A, 4, 1, True), Item(A, 5, 1, True))), "in one batch twice"),
        (Batch(1, (Item(B, 0, 2, True),), (opened(B),)), "before the prompt was complete"),
    ],
)
def test_violations(batch: Batch, reason: str) -> None:
    table = table_with(STARTED)
    with pytest.raises(StageViolation, match=reason):
        table.apply(batch)
