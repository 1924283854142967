"""Between a proof bundle and the engine's replay: requests one way, measurements the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.engine.control.replay_messages import (
    Replay,
    Replayed,
    ReplaySequence,
    RevealedRows,
)
from proofs.evidence.bundle import UnitBundle
from proofs.evidence.sequence import BundleSequence
from proofs.thresholds.measures import RevealedRowsCheck
from proofs.verdict.blame import Inquiry


def replay_request(
    bundle: UnitBundle, model_dir: str, device: str, chosen: Sequence[int] | None = None
) -> Replay:
    """What the engine must replay to judge `bundle` by its sequences at the indices `chosen` (None:
    all of them)."""
    indices = range(len(bundle.sequences)) if chosen is None else chosen
    return Replay(
        model_dir=model_dir,
        model_id=bundle.model_id,
        device=device,
        boundaries=bundle.boundaries,
        sequences=tuple(_sequence(bundle, bundle.sequences[index]) for index in indices),
    )


def rows_request(
    bundle: UnitBundle,
    model_dir: str,
    device: str,
    inquiry: Inquiry,
    path: Path,
    sent: Path | None = None,
) -> Replay:
    """What the engine must replay to measure the rows in the file `path`, which the accused stage
    of `inquiry` revealed, and what that stage made of them: its proofs, its tokens, and the rows in
    the file `sent`, which its successor revealed."""
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


def shown_by(replayed: Replayed) -> RevealedRowsCheck | None:
    """What came of the rows of one `rows_request`; None for an answer to something else."""
    checks = [check for item in replayed.items for check in item.revealed]
    return checks[0] if len(checks) == 1 else None


def _sequence(bundle: UnitBundle, sequence: BundleSequence) -> ReplaySequence:
    """With each stage's proofs; a stage without evidence for the sequence has none, and the
    verdict holds that against it."""
    proofs = []
    for claim in bundle.stages:
        items = [e for e in claim.evidence if e.sequence_id == sequence.sequence_id]
        proofs.append(items[0].proofs if items else ())
    return ReplaySequence(sequence=sequence, proofs=tuple(proofs))
