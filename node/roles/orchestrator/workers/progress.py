"""What stage 0 reports, checked against what it was asked for, as events.

A report is taken whole or not at all: with one token beyond the limits, after an end-of-sequence
token or outside the vocabulary, or an end that its reason contradicts, it is its sender's lie. An
honest stage can make none of these, whatever its neighbours send it. What is late, repeated or of
another unit says nothing about anybody and is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from node.roles.orchestrator.coordinator.events import PeerFinished, PeerTokens
from node.roles.orchestrator.coordinator.units import WorkSequence
from node.roles.orchestrator.coordinator.view import PoolView
from node.wire.messages.work import FinishedRun, Progress, TokenRun
from proofs.evidence.sequence import FinishReason, SequenceRequest

OutputFault = Callable[[SequenceRequest, tuple[int, ...], FinishReason | None, int], str]
"""What makes tokens no output of a request, or "" (`JobCutter.output_fault`)."""


class BadReport(Exception):
    """A report that no honest stage 0 sends; the text says why."""


def progress_events(
    report: Progress, pool: PoolView, output_fault: OutputFault
) -> list[PeerTokens | PeerFinished]:
    """What is new in a report of the generation `report.ref`; a run is read after those before it.
    Raises `BadReport`."""
    generation = report.ref.generation
    events: list[PeerTokens | PeerFinished] = []
    known: dict[bytes, tuple[bytes, WorkSequence]] = {}
    ended: set[bytes] = set()
    for run in report.tokens:
        unit_id, old = _find(pool, known, run, generation)
        if old is None or run.offset > len(old.output_ids):
            continue
        last = old.output_ids[: run.offset][-1:]  # nothing follows an end-of-sequence token
        _check(output_fault, old, last + run.ids, None, run.offset - len(last))
        grown = old.extended(generation, run.offset, run.ids)
        if grown is not old:
            known[run.sequence_id] = unit_id, grown
            events.append(PeerTokens(generation, unit_id, run.sequence_id, run.offset, run.ids))
    for end in report.finished:
        unit_id, old = _find(pool, known, end, generation)
        if old is None or end.sequence_id in ended or not _goes_on(old, end):
            continue
        ended.add(end.sequence_id)  # what is said twice is not looked at twice
        ids = old.output_ids[: end.offset] + end.ids
        if not ids:
            raise BadReport(f"of sequence {end.sequence_id.hex()[:12]}: it ended without a token")
        _check(output_fault, old, ids, end.reason, 0)
        events.append(PeerFinished(generation, unit_id, end.sequence_id, end.reason, ids))
    return events


def _find(
    pool: PoolView,
    known: dict[bytes, tuple[bytes, WorkSequence]],
    run: TokenRun | FinishedRun,
    generation: int,
) -> tuple[bytes, WorkSequence | None]:
    """The unit of a run, and its sequence as the runs before left it; None where it is not being
    worked on."""
    if run.sequence_id in known:
        return known[run.sequence_id]
    unit = pool.assigned(pool.unit_id_of(run.sequence_id), generation)
    if unit is None:
        return b"", None
    sequence = next(s for s in unit.sequences if s.sequence_id == run.sequence_id)
    return unit.unit_id, None if sequence.finished else sequence


def _goes_on(sequence: WorkSequence, end: FinishedRun) -> bool:
    """Whether an end follows on what is known, or repeats some of it; a contradiction is none."""
    overlap = sequence.output_ids[end.offset :]
    return end.offset <= len(sequence.output_ids) and end.ids[: len(overlap)] == overlap


def _check(
    output_fault: OutputFault,
    sequence: WorkSequence,
    ids: tuple[int, ...],
    reason: FinishReason | None,
    before: int,
) -> None:
    if fault := output_fault(sequence.request, ids, reason, before):
        raise BadReport(f"of sequence {sequence.sequence_id.hex()[:12]}: {fault}")
