"""A verdict once every inquiry was answered, for tests of who is named for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.builtin import PUBLISHED
from proofs.thresholds.limits import Thresholds
from proofs.thresholds.measures import (
    ChunkMeasure,
    RevealedRowsCheck,
    SamplingMeasure,
    SequenceMeasure,
)
from proofs.verdict.blame import Inquiry
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import judge
from proofs.verdict.message import StageStatus, Verdict
from tests.proofs.units import (
    DOMAIN,
    GOOD,
    OFF,
    bundle,
)

HONEST, FAULTY, UNCHECKED = StageStatus.HONEST, StageStatus.FAULTY, StageStatus.UNCHECKED
UNIT = bundle()
LIMITS = RejectConvictLimits.of(PUBLISHED, PUBLISHED)


def shown(
    unit: UnitBundle, asked: Inquiry, error: float | None, chunk: ChunkMeasure, limit: float
) -> RevealedRowsCheck | None:
    """What a validator finds of rows that are off by `error`: where these are right, the stage's
    work does not follow from them (its proofs measure as `chunk`); where they are off, it does."""
    if error is None:
        return None
    guilty = 0.0 <= error <= limit
    count = len(unit.sequences[asked.index].output_ids)
    return RevealedRowsCheck(
        error=error,
        chunks=(chunk if guilty else GOOD,) * unit.sequences[asked.index].chunks,
        sampling=SamplingMeasure(
            tokens=count,
            matches=0 if guilty else count,
            scores=((0.5 if guilty else 0.0),) * count,
        ),
        sent_error=9.0 if guilty else 0.0,
    )


def ruled(
    unit: UnitBundle,
    found: Sequence[SequenceMeasure | None],
    thresholds: Thresholds = PUBLISHED,
    rows: Callable[[Inquiry], float | None] = lambda _: 0.0,
    chunk: ChunkMeasure = OFF,
) -> Verdict:
    """The verdict once every inquiry was answered with how far `rows` are off."""
    revealed: dict[Inquiry, RevealedRowsCheck | None] = {}
    limits = RejectConvictLimits.of(thresholds, thresholds)
    for _ in range(len(unit.stages) * len(unit.sequences) + 1):
        answer = judge(unit, found, limits, DOMAIN, revealed)
        if isinstance(answer, Verdict):
            return answer
        assert answer not in revealed
        revealed[answer] = shown(unit, answer, rows(answer), chunk, thresholds.rows_error)
    raise AssertionError("the inquiries do not end")


def statuses(verdict: Verdict) -> list[StageStatus]:
    return [stage.status for stage in verdict.stages]


def blamed(verdict: Verdict) -> list[int]:
    return [stage.stage for stage in verdict.stages if stage.status is FAULTY]
