"""What units under way have of their tokens, on disk: rows of the table `progress`.

Each note of a unit is a row with what is new since the one before: of each sequence the offset, the
tokens from there on, which generations made those, and whether it has ended. Together they give the
outputs of the attempt that they are of. They go in the commit in which the unit's own row says
more, or that it starts anew.

A sequence that had ended goes one token back when it is read, as in a ring that is built again:
another group has to prove it, and ends it anew. What is on disk is taken for what it says only if
an honest stage 0 could have said it; else the unit starts from nothing.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import msgpack
from pydantic import TypeAdapter

from node.roles.orchestrator.coordinator.units import Unit, WorkSequence

Part = tuple[int, int, tuple[int, ...], tuple[tuple[int, int], ...], bool]
"""Of one sequence: its place in the unit, offset, tokens, segments from there on, the end."""
PARTS = TypeAdapter(tuple[Part, ...])
Fault = Callable[[WorkSequence], str]
"""What makes an unfinished sequence none that a stage 0 can have brought, or ""."""


@dataclass(frozen=True)
class PutProgress:
    """A note of a unit, whose sequences then have `tokens` in all. With `anew` it is the first one
    of this run or attempt, and older ones go."""

    unit_id: bytes
    attempt: int
    tokens: int
    packed: bytes
    anew: bool

    @property
    def size(self) -> int:
        """Bytes of the note."""
        return len(self.packed)

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False where the unit's own row says more already."""
        if self.anew:
            connection.execute("DELETE FROM progress WHERE unit = ?", (self.unit_id,))
        done = connection.execute(
            "INSERT INTO progress (unit, attempt, tokens, body) SELECT ?1, ?2, ?3, ?4"
            " WHERE EXISTS (SELECT 1 FROM units WHERE unit_id = ?1 AND state = 0)",
            (self.unit_id, self.attempt, self.tokens, self.packed),
        )
        return done.rowcount == 1


@dataclass(frozen=True)
class Note:
    """A note of a unit, and the unit as all of its notes give it."""

    put: PutProgress
    after: Unit


class ProgressBook:
    """What of the units under way this run has on disk. `tokens` counts by job."""

    def __init__(self) -> None:
        self.tokens: Counter[str] = Counter()
        self._noted: dict[bytes, Unit] = {}

    def note(self, unit: Unit) -> Note | None:
        """What must be written of a unit; None where all is there."""
        before = self._before(unit)
        parts = [
            part
            for at, sequence in enumerate(unit.sequences)
            if (part := _since(at, before.sequences[at] if before else None, sequence))
        ]
        if not parts:
            return None
        after = self._after(before, unit, parts)
        packed = bytes(msgpack.packb(parts))
        put = PutProgress(unit.unit_id, unit.attempt, _tokens(after), packed, before is None)
        return Note(put, after)

    def noted(self, note: Note) -> None:
        """This is on disk."""
        self.forget(note.after.unit_id)
        self._noted[note.after.unit_id] = note.after
        self.tokens[note.after.job_id] += note.put.tokens

    def forget(self, unit_id: bytes) -> None:
        """The unit's own row says more."""
        gone = self._noted.pop(unit_id, None)
        if gone is not None:
            self.tokens[gone.job_id] -= _tokens(gone)
            if not self.tokens[gone.job_id]:
                del self.tokens[gone.job_id]

    def _before(self, unit: Unit) -> Unit | None:
        before = self._noted.get(unit.unit_id)
        return before if before is not None and before.attempt == unit.attempt else None

    @staticmethod
    def _after(before: Unit | None, unit: Unit, parts: Sequence[Part]) -> Unit:
        """The unit as its notes give it: sequences that went back stay as they were noted."""
        told = {part[0] for part in parts}
        sequences = (
            sequence if at in told or before is None else before.sequences[at]
            for at, sequence in enumerate(unit.sequences)
        )
        return replace(unit, sequences=tuple(sequences), claims={})


def _tokens(unit: Unit) -> int:
    return sum(len(s.output_ids) for s in unit.sequences)


def _since(at: int, before: WorkSequence | None, now: WorkSequence) -> Part | None:
    """What a sequence has that is not noted."""
    offset = 0 if before is None else _agreed(before, now)
    ids = now.output_ids[offset:]
    if not ids and (before is None or not now.finished or before.finished):
        return None
    segments = tuple(segment for segment in now.segments if segment[0] >= offset)
    return at, offset, ids, segments, now.finished


def _agreed(before: WorkSequence, now: WorkSequence) -> int:
    """How many tokens two states of a sequence have in common, made by the same generations."""
    old, new = before.output_ids, now.output_ids
    same = min(len(old), len(new))
    if old[:same] != new[:same]:
        same = next(i for i in range(same) if old[i] != new[i])
    for pair in zip_longest(before.segments, now.segments):
        if pair[0] != pair[1]:
            return min(same, *(segment[0] for segment in pair if segment is not None))
    return same


def _continued(sequence: WorkSequence, part: Part) -> WorkSequence:
    """A sequence with the next part of its notes. Raises ValueError."""
    _, offset, ids, segments, _ = part
    known = len(sequence.output_ids)
    starts = [start for start, _ in segments]
    kept = tuple(segment for segment in sequence.segments if segment[0] < offset)
    sound = part[0] >= 0 and 0 <= offset <= known and min(ids, default=0) >= 0
    sound = sound and all(offset <= s < offset + len(ids) for s in starts)
    if not sound or starts != sorted(starts) or min((g for _, g in segments), default=0) < 0:
        raise ValueError("a note that follows on nothing")
    if ids and not (kept or starts[:1] == [0]):
        raise ValueError("tokens of nobody")
    output = sequence.output_ids[:offset] + ids
    if len(output) > sequence.request.max_tokens:
        raise ValueError("more tokens than were asked for")
    return replace(sequence, output_ids=output, segments=kept + segments)


def resumed(unit: Unit, notes: Sequence[tuple[int, bytes]], fault: Fault) -> Unit:
    """A unit that waits, as (attempt, body) of its notes say; as it is where they make no sense."""
    try:
        sequences = list(unit.sequences)
        ended: set[int] = set()
        for attempt, body in notes:
            if attempt != unit.attempt:
                return unit
            for part in PARTS.validate_python(msgpack.unpackb(body, use_list=False), strict=True):
                at = range(len(sequences))[part[0]]
                sequences[at] = _continued(sequences[at], part)
                (ended.add if part[4] else ended.discard)(at)
    except (ValueError, TypeError, IndexError, msgpack.UnpackException):
        return unit
    found = [s.reopened() if at in ended else s for at, s in enumerate(sequences)]
    if any(fault(sequence) for sequence in found):
        return unit
    return replace(unit, sequences=tuple(found))
