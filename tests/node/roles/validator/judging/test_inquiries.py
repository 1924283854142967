"""The loop of inquiries by itself: asked in order, each once, and never without an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.roles.validator.journal_events import AskedStage
from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.inquiries import Ruling, most_bytes, resolve_inquiries
from node.roles.validator.judging.replay import rows_request
from pipeline.engine.control.replay_messages import Replayed, ReplayedSequence
from proofs.thresholds.measures import RevealedRowsCheck, SamplingMeasure, SequenceMeasure
from proofs.verdict.blame import Inquiry, Revealed
from proofs.verdict.message import StageVerdict, Verdict
from tests.proofs.units import bundle

VERDICT = Verdict(
    unit_id=bytes(32),
    bundle_id=bytes(32),
    accepted=True,
    stages=(StageVerdict(stage=0, peer_id="p", status="honest"),),  # type: ignore[arg-type]
    figures={},
)


def inquiry(stage: int) -> Inquiry:
    return Inquiry(stage, 0, bytes([stage]) * 32)


async def always_asks(revealed: Revealed) -> Inquiry:
    return inquiry(1)


async def ruled(needed: list[int], given: dict[int, float | None], rounds: int) -> Ruling:
    """`needed` are the stages whose rows it takes, `given` what they bring."""

    async def opinion(revealed: Revealed) -> Any:
        return next((inquiry(s) for s in needed if inquiry(s) not in revealed), VERDICT)

    async def reveal(asked: Inquiry) -> RevealedRowsCheck | None:
        error = given[asked.stage]
        return None if error is None else RevealedRowsCheck(error=error)

    return await resolve_inquiries(opinion, reveal, rounds)


async def test_without_an_inquiry_nobody_is_asked() -> None:
    assert await ruled([], {}, 0) == Ruling(VERDICT)


async def test_the_ruling_has_every_answer_in_order() -> None:
    ruling = await ruled([3, 2, 1], {3: 9.0, 2: 0.0, 1: None}, 3)
    assert ruling.verdict is VERDICT
    assert [a.to_event() for a in ruling.answers] == [
        AskedStage(stage=s, index=0, digest=bytes([s]) * 32, error=error)
        for s, error in ((3, 9.0), (2, 0.0), (1, None))
    ]


async def test_inquiries_that_go_on_come_to_no_verdict() -> None:
    with pytest.raises(CannotJudge):
        await ruled([3, 2, 1], {3: 1.0, 2: 1.0, 1: 1.0}, 2)

    async def reveal(asked: Inquiry) -> RevealedRowsCheck | None:
        return None

    with pytest.raises(CannotJudge):
        await resolve_inquiries(always_asks, reveal, 9)


async def test_an_engine_that_fails_decides_nothing() -> None:
    async def reveal(asked: Inquiry) -> RevealedRowsCheck | None:
        raise CannotJudge("the engine fails")

    with pytest.raises(CannotJudge, match="engine"):
        await resolve_inquiries(always_asks, reveal, 9)


def test_the_engine_measures_what_the_stage_before_sent() -> None:
    unit = bundle()
    asked = Inquiry(2, 1, unit.stages[2].evidence[1].received)
    request = rows_request(unit, "/model", "cpu", asked, Path("/blobs/x.rows"))
    (sequence,) = request.sequences
    assert sequence.sequence == unit.sequences[1]
    assert sequence.proofs[2] == unit.stages[2].evidence[1].proofs
    (rows,) = sequence.revealed
    assert (rows.boundary, rows.path) == (1, "/blobs/x.rows")
    length = sequence.sequence.token_count - 1
    assert most_bytes(unit, 1, 576) == length * 576 * 8


def test_measures_leave_revealed_rows_out() -> None:
    measured = SequenceMeasure(
        sequence_id=bytes(16),
        stages=((), ()),
        sampling=SamplingMeasure(tokens=1, matches=1, scores=(0.0,)),
    )
    item = ReplayedSequence(measure=measured, revealed=(RevealedRowsCheck(error=0.5),))
    (measure,) = Replayed(items=(item,), seconds=0.0).measures
    assert measure == measured
    assert measure.sequence_id == bytes(16)
