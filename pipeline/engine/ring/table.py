"""What a stage knows of the sequences in its KV cache, and the rules a batch must keep.

Every stage, stage 0 included, passes each batch through its table before anything is computed, so
the rules are written once. A batch that breaks one is the sender's fault (`StageViolation`); the
ring ends there, so the table need not roll back.

Rules: steps count up by one. A close names an open sequence and either 0 outputs (drop it) or
exactly the number of rows that it proved. An open names a new sequence, a grow an open one that has
less, and all capacities together fit the KV cache. An item continues exactly where its sequence
stands, within its capacity and at most once a batch, and samples only after the whole prompt.

Output token i comes from the row at position prompt - 1 + i; those rows are the *proven* ones. Of
an item's proven rows only the last can have been sampled, so one flag says it for all.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.engine.errors import StageViolation
from pipeline.engine.schedule.batch import Batch, Close, Grow, Item, Open


@dataclass(frozen=True)
class ItemRows:
    """Rows [first, first + count) of a batch are one item's, the last `proven` of them outputs.

    With `sample` (then `proven` is at least 1), the last row gives a token in this ring.
    """

    sequence_id: bytes
    first: int
    count: int
    proven: int
    sample: bool


@dataclass
class _Entry:
    opened: Open
    capacity: int
    num_computed_tokens: int = 0

    @property
    def proven(self) -> int:
        return max(0, self.num_computed_tokens - self.opened.prompt + 1)


class SequenceTable:
    """Pure; `kv_tokens` is the number of positions that the cache holds."""

    def __init__(self, kv_tokens: int) -> None:
        self._kv_tokens = kv_tokens
        self._held = 0
        self._entries: dict[bytes, _Entry] = {}
        self._step = 0

    def __contains__(self, sequence_id: bytes) -> bool:
        return sequence_id in self._entries

    def opened(self, sequence_id: bytes) -> Open:
        """How a known sequence was opened. Raises KeyError for others."""
        return self._entries[sequence_id].opened

    def sequences(self) -> tuple[bytes, ...]:
        """Ids of the open sequences."""
        return tuple(self._entries)

    def apply(self, batch: Batch) -> list[ItemRows]:
        """Take in a batch; returns where each item's rows are. Raises `StageViolation`."""
        if batch.step != self._step:
            raise StageViolation(f"step {batch.step} came where step {self._step} was due")
        self._step += 1
        for close in batch.closes:
            self._close(close)
        for opened in batch.opens:
            self._open(opened)
        for grown in batch.grows:
            self._grow(grown)
        if len({item.sequence_id for item in batch.items}) != len(batch.items):
            raise StageViolation("a sequence is in one batch twice")
        placed: list[ItemRows] = []
        row = 0
        for item in batch.items:
            proven = self._advance(item)
            placed.append(ItemRows(item.sequence_id, row, item.count, proven, item.sample))
            row += item.count
        return placed

    def _close(self, close: Close) -> None:
        entry = self._entries.pop(close.sequence_id, None)
        if entry is None:
            raise StageViolation("a sequence that is not open was closed")
        self._held -= entry.capacity
        if close.outputs not in (0, entry.proven):
            raise StageViolation(
                f"sequence closed with {close.outputs} outputs after {entry.proven} rows"
            )

    def _open(self, opened: Open) -> None:
        if opened.sequence_id in self._entries:
            raise StageViolation("a sequence was opened twice")
        if opened.prompt > opened.capacity:
            raise StageViolation("a sequence's prompt exceeds its capacity")
        self._hold(opened.capacity)
        self._entries[opened.sequence_id] = _Entry(opened, opened.capacity)

    def _grow(self, grown: Grow) -> None:
        entry = self._entries.get(grown.sequence_id)
        if entry is None:
            raise StageViolation("a sequence that is not open was to grow")
        if grown.capacity <= entry.capacity:
            raise StageViolation("a sequence was to grow to what it has")
        self._hold(grown.capacity - entry.capacity)
        entry.capacity = grown.capacity

    def _hold(self, positions: int) -> None:
        if self._held + positions > self._kv_tokens:
            raise StageViolation(
                f"{self._held} + {positions} positions exceed this stage's KV cache of "
                f"{self._kv_tokens}; load every stage with the same kv_tokens"
            )
        self._held += positions

    def _advance(self, item: Item) -> int:
        """Advance a sequence; returns how many of the item's rows (its last ones) are proven."""
        entry = self._entries.get(item.sequence_id)
        if entry is None:
            raise StageViolation("an item's sequence is not open")
        if item.start != entry.num_computed_tokens:
            raise StageViolation(
                f"item starts at {item.start}, the sequence stands at {entry.num_computed_tokens}"
            )
        if item.start + item.count > entry.capacity:
            raise StageViolation("an item goes past its sequence's capacity")
        before = entry.proven
        entry.num_computed_tokens += item.count
        if item.sample and not entry.proven:
            raise StageViolation("a token was asked for before the prompt was complete")
        return entry.proven - before
