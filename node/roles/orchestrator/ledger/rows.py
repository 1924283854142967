"""A unit as its row: what was asked for, and what came of it.

A row holds only what does not follow from something else. The prompts are there as they were
submitted; ids of units and sequences, token ids of prompts and noise follow from them (`cutting`).
The outcome has the output as token ids; its text is decoded from them wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import msgpack

from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import (
    Failure,
    Unit,
    UnitState,
    WorkSequence,
)
from node.roles.orchestrator.jobs.cutting import Numbered
from proofs.evidence.sequence import FinishReason


class RowState(IntEnum):
    """Where a unit stands on disk. What a group has of a unit is lost with it, so there is nothing
    between QUEUED and VERIFYING."""

    QUEUED = 0
    VERIFYING = 1
    ACCEPTED = 2
    SETTLED = 3
    EXPIRED = 4


STATES = {
    UnitState.QUEUED: RowState.QUEUED,
    UnitState.VERIFYING: RowState.VERIFYING,
    UnitState.ACCEPTED: RowState.ACCEPTED,
    UnitState.SETTLED: RowState.SETTLED,
    UnitState.EXPIRED: RowState.EXPIRED,
}
UNIT_STATES = {row: unit for unit, row in STATES.items()}
COLUMNS = "cursor, unit_id, job, first, last, size, state, attempt, tokens, epoch, prompts, outcome"


@dataclass(frozen=True)
class UnitRow:
    """A row of the table of units. `first` and `last` are the numbers of its first and last prompt
    in its job, `tokens` counts its output tokens as of its outcome, `epoch` paid it, 0: none yet.
    """

    cursor: int
    unit_id: bytes
    job: int
    first: int
    last: int
    size: int
    state: int
    attempt: int
    tokens: int
    epoch: int
    prompts: bytes
    outcome: bytes | None


def pack_prompts(prompts: Sequence[Numbered]) -> bytes:
    """Prompts and their numbers as a row holds them."""
    plain = [(index, p.model_dump_json(exclude_defaults=True)) for index, p in prompts]
    return bytes(msgpack.packb(plain))


def unpack_prompts(data: bytes) -> tuple[Numbered, ...]:
    """The reverse of `pack_prompts`. Raises ValueError."""
    plain = msgpack.unpackb(data, use_list=False)
    return tuple((index, Prompt.model_validate_json(text)) for index, text in plain)


def pack_outcome(unit: Unit) -> bytes:
    """What came of a unit, as its row holds it."""
    sequences = [
        (s.output_ids, s.segments, s.reason.value if s.reason else "") for s in unit.sequences
    ]
    return bytes(
        msgpack.packb(
            (
                unit.group_id,
                unit.generation,
                unit.bundle_id,
                unit.asked,
                unit.verdict,
                unit.history,
                [(f.reason, f.generation, f.suspects) for f in unit.failures],
                sequences,
            )
        )
    )


def unpack_outcome(data: bytes) -> tuple[Any, ...]:
    """Group, generation, bundle, validators asked, verdict, history, failures, and the sequences'
    outputs, segments and finish reasons. Raises ValueError."""
    found = msgpack.unpackb(data, use_list=False, strict_map_key=False)
    if not isinstance(found, tuple) or len(found) != 8:
        raise ValueError("no outcome of a unit")
    return found


def with_outcome(unit: Unit, row: UnitRow) -> Unit:
    """A unit as it was cut, as its row says that it stands. Texts are not decoded."""
    state = UNIT_STATES[RowState(row.state)]
    unit = replace(unit, state=state, attempt=row.attempt, epoch=row.epoch)
    if row.outcome is None:
        return unit
    (group_id, generation, bundle_id, asked, verdict, history, failures, outputs) = unpack_outcome(
        row.outcome
    )
    if not outputs:  # it could not be read, and perhaps can be again
        return replace(unit, history=history)
    sequences = tuple(
        _with_output(sequence, *output)
        for sequence, output in zip(unit.sequences, outputs, strict=True)
    )
    return replace(
        unit,
        group_id=group_id,
        generation=generation,
        bundle_id=bundle_id,
        asked=asked,
        verdict=verdict,
        history=history,
        failures=tuple(Failure(*failure) for failure in failures),
        sequences=sequences,
    )


def _with_output(
    sequence: WorkSequence,
    ids: tuple[int, ...],
    segments: tuple[tuple[int, int], ...],
    reason: str,
) -> WorkSequence:
    ended = FinishReason(reason) if reason else None
    return replace(sequence, output_ids=ids, segments=segments, reason=ended)
