"""Between a proof bundle and the engine's replay: the requests, and the measurements back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.engine.control.messages import Sampling
from pipeline.engine.control.replay_messages import (
    Replay,
    Replayed,
    ReplayedSequence,
    ReplaySequence,
    RevealedRows,
)
from proofs.evidence.bundle import BundleSequence, UnitBundle
from proofs.thresholds.measures import ChunkMeasure, SamplingMeasure, SequenceMeasure
from proofs.verdict.blame import Inquiry, RevealedRowsCheck


def replay_request(
    bundle: UnitBundle, model_dir: str, device: str, chosen: Sequence[int] | None = None
) -> Replay:
    """What the engine must replay to judge `bundle` by its sequences with the numbers `chosen`
    (None: all)."""
    numbers = range(len(bundle.sequences)) if chosen is None else chosen
    return Replay(
        model_dir=model_dir,
        model_id=bundle.model_id,
        device=device,
        boundaries=bundle.boundaries,
        sequences=tuple(_sequence(bundle, bundle.sequences[number]) for number in numbers),
    )


def rows_request(
    bundle: UnitBundle,
    model_dir: str,
    device: str,
    inquiry: Inquiry,
    path: Path,
    sent: Path | None = None,
) -> Replay:
    """What the engine must replay to measure the rows at `path`, which the stage that `inquiry`
    names revealed, and that stage's work from them: its proofs, its tokens, and the rows at `sent`,
    which its successor revealed."""
    sequence = bundle.sequences[inquiry.index]
    rows = RevealedRows(
        boundary=inquiry.stage - 1, path=str(path), sent="" if sent is None else str(sent)
    )
    asked = _sequence(bundle, sequence).model_copy(update={"revealed": (rows,)})
    return Replay(
        model_dir=model_dir,
        model_id=bundle.model_id,
        device=device,
        boundaries=bundle.boundaries,
        sequences=(asked,),
    )


def to_measures(replayed: Replayed) -> list[SequenceMeasure]:
    """The engine's answer in the terms of `proofs.verdict.judge.judge`."""
    return [to_measure(item) for item in replayed.items]


def to_measure(item: ReplayedSequence) -> SequenceMeasure:
    """One sequence of it; what came of revealed rows is no part of that (`shown_by`)."""
    return SequenceMeasure.model_validate(item.model_dump(exclude={"rows_errors", "recomputed"}))


def shown_by(replayed: Replayed) -> RevealedRowsCheck | None:
    """What came of the rows of one `rows_request`; None for an answer to something else."""
    items = [
        (e, r) for i in replayed.items for e, r in zip(i.rows_errors, i.recomputed, strict=False)
    ]
    if len(items) != 1:
        return None
    error, recomputed = items[0]
    sampling = recomputed.sampling
    return RevealedRowsCheck(
        error=error,
        chunks=tuple(ChunkMeasure.model_validate(c.model_dump()) for c in recomputed.chunks),
        sampling=None
        if sampling is None
        else SamplingMeasure.model_validate(sampling.model_dump()),
        sent_error=recomputed.sent_error,
    )


def _sequence(bundle: UnitBundle, sequence: BundleSequence) -> ReplaySequence:
    """With each stage's proofs; a stage without evidence for the sequence has none, and the
    verdict holds that against it."""
    proofs = []
    for claim in bundle.stages:
        items = [e for e in claim.evidence if e.sequence_id == sequence.sequence_id]
        proofs.append(items[0].proofs if items else ())
    return ReplaySequence(
        sequence_id=sequence.sequence_id,
        prompt_ids=sequence.prompt_ids,
        output_ids=sequence.output_ids,
        sampling=Sampling.model_validate(sequence.sampling.model_dump()),
        proofs=tuple(proofs),
    )
