"""Which token positions of the KV pool belong to which sequence; pure bookkeeping, no tensors.

A sequence owns one contiguous span of the pool, so that attention reads its cache in place. It may
grow: as far as free space follows it, else into a gap that is large enough, else by making room.
Spans are handed out lowest first. When free space is enough but in pieces, the open sequences are
moved together, or away from the one that grows (the caller moves the tensors along).
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.runner.errors import KvExhausted, RunnerError, UnknownSequence


@dataclass
class Span:
    """Positions [offset, offset + capacity) of the pool, of which `filled` hold valid entries."""

    offset: int
    capacity: int
    filled: int = 0


@dataclass(frozen=True)
class Move:
    """Copy `count` pool positions from `source` to `target` (they may overlap)."""

    source: int
    target: int
    count: int


class SpanPool:
    """First-fit allocation of spans over `size` positions."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise RunnerError("a KV pool needs at least one position")
        self.size = size
        self._spans: dict[bytes, Span] = {}

    @property
    def used(self) -> int:
        """Positions reserved."""
        return sum(span.capacity for span in self._spans.values())

    def __contains__(self, sequence: bytes) -> bool:
        return sequence in self._spans

    def __getitem__(self, sequence: bytes) -> Span:
        try:
            return self._spans[sequence]
        except KeyError as exc:
            raise UnknownSequence(f"sequence {sequence.hex()} is not open") from exc

    def open(self, sequence: bytes, capacity: int) -> list[Move]:
        """Reserve `capacity` positions; returns the moves to make first, in order.

        Raises:
            KvExhausted: fewer are free. Nothing has changed.
            RunnerError: the sequence is open already, or the capacity is not positive.
        """
        if sequence in self._spans:
            raise RunnerError(f"sequence {sequence.hex()} is open already")
        if capacity < 1:
            raise RunnerError("a sequence needs a capacity of at least one position")
        if capacity > self.size - self.used:
            raise KvExhausted(
                f"{capacity} KV positions wanted, {self.size - self.used} of {self.size} are free"
            )
        moves: list[Move] = []
        offset = self._gap(capacity)
        if offset is None:
            moves = self._compact()
            offset = self.used
        self._spans[sequence] = Span(offset, capacity)
        return moves

    def grow(self, sequence: bytes, capacity: int) -> list[Move]:
        """Give an open sequence `capacity` positions; returns the moves to make first, in order.

        Raises:
            KvExhausted: the difference is not free. Nothing has changed.
            UnknownSequence: it is not open.
            RunnerError: it has more already.
        """
        span = self[sequence]
        more = capacity - span.capacity
        if more < 0:
            raise RunnerError(f"a span of {span.capacity} positions cannot grow to {capacity}")
        if more > self.size - self.used:
            raise KvExhausted(
                f"{more} more KV positions wanted, {self.size - self.used} of {self.size} are free"
            )
        after = [other.offset for other in self._spans.values() if other.offset > span.offset]
        moves: list[Move] = []
        if min(after, default=self.size) - span.offset < capacity:
            moves = self._make_room(span, capacity)
        span.capacity = capacity
        return moves

    def _make_room(self, span: Span, capacity: int) -> list[Move]:
        gap = self._gap(capacity)
        if gap is not None:
            source, span.offset = span.offset, gap
            return [Move(source, gap, span.filled)]
        ordered = sorted(self._spans.values(), key=lambda each: each.offset)
        cut = ordered.index(span) + 1
        moves, at = [], 0
        for below in ordered[:cut]:
            if below.offset != at:
                moves.append(Move(below.offset, at, below.filled))
                below.offset = at
            at += below.capacity
        at = self.size
        for above in reversed(ordered[cut:]):
            at -= above.capacity
            if above.offset != at:
                moves.append(Move(above.offset, at, above.filled))
                above.offset = at
        return moves

    def close(self, sequence: bytes) -> None:
        """Give a sequence's positions back.

        Raises:
            UnknownSequence: it is not open.
        """
        if self._spans.pop(sequence, None) is None:
            raise UnknownSequence(f"sequence {sequence.hex()} is not open")

    def _gap(self, capacity: int) -> int | None:
        at = 0
        for span in sorted(self._spans.values(), key=lambda span: span.offset):
            if span.offset - at >= capacity:
                return at
            at = span.offset + span.capacity
        return at if self.size - at >= capacity else None

    def _compact(self) -> list[Move]:
        moves, at = [], 0
        for span in sorted(self._spans.values(), key=lambda span: span.offset):
            if span.offset != at:
                moves.append(Move(span.offset, at, span.filled))
                span.offset = at
            at += span.capacity
        return moves
