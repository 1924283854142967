"""What stage 0 reports, checked against what it was asked for, as events.

A report is taken whole or not at all: with one token beyond the limits, after an end-of-sequence
token or outside the vocabulary, or an end that its reason contradicts, it is its sender's lie. An
honest stage can make none of these, whatever its neighbours send it. What is late, repeated or of
another unit says nothing about anybody and is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from node.roles.orchestrator.coordinator.events import PeerFinished, PeerTokens
from node.roles.orchestrator.coordinator.pool import PoolView
from node.roles.orchestrator.coordinator.units import Unit, WorkSequence
from node.wire.messages.work import FinishedRun, Progress, TokenRun
from proofs.evidence.sequence import FinishReason, SequenceRequest

OutputFault = Callable[[SequenceRequest, tuple[int, ...], FinishReason | None, int], str]
"""What makes tokens no output of a request, or "" (`JobCutter.output_fault`)."""


class BadReport(Exception):
    """A report that no honest stage 0 sends; the text says why."""


def progress_events(
    report: Progress, pool: PoolView, output_fault: OutputFault
) -> list[PeerTokens | PeerFinished]:
    """What is new in a report of the generation `report.ref`. Raises `BadReport`."""
    generation = report.ref.generation
    events: list[PeerTokens | PeerFinished] = []
    for run in report.tokens:
        found = _find(pool, run, generation)
        if found is None or run.offset > len(found[1].output_ids):
            continue
        unit, sequence = found
        last = sequence.output_ids[: run.offset][-1:]  # nothing follows an end-of-sequence token
        _check(output_fault, sequence, last + run.ids, None, run.offset - len(last))
        if run.offset + len(run.ids) > len(sequence.output_ids):
            events.append(
                PeerTokens(generation, unit.unit_id, run.sequence_id, run.offset, run.ids)
            )
    for end in report.finished:
        found = _find(pool, end, generation)
        if found is None:
            continue
        unit, sequence = found
        _check(output_fault, sequence, end.ids, end.reason, 0)
        events.append(PeerFinished(generation, unit.unit_id, end.sequence_id, end.reason, end.ids))
    return events


def _find(
    pool: PoolView, run: TokenRun | FinishedRun, generation: int
) -> tuple[Unit, WorkSequence] | None:
    """The unit and the sequence of a run, where it is still being worked on."""
    unit = pool.assigned(pool.unit_id_of(run.sequence_id), generation)
    if unit is None:
        return None
    sequence = next(s for s in unit.sequences if s.sequence_id == run.sequence_id)
    return None if sequence.finished else (unit, sequence)


def _check(
    output_fault: OutputFault,
    sequence: WorkSequence,
    ids: tuple[int, ...],
    reason: FinishReason | None,
    before: int,
) -> None:
    if fault := output_fault(sequence.request, ids, reason, before):
        raise BadReport(f"of sequence {sequence.sequence_id.hex()[:12]}: {fault}")
