"""A stage's compute: a model slice, its KV pool, and steps over any mix of sequences.

`open` reserves cache for a sequence, `step` runs pieces of any of the open ones, `close` gives the
cache back. A step may mix single-token decodes and prompt pieces of any length; what comes out for
a sequence does not depend on what else is in the batch, but for the last bits of floating-point
sums, and not even in those where the kernel class is exact (`pipeline.runner.kernel_class`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.models.slice import ModelSlice
from pipeline.runner.arithmetic import Kernels, prepare
from pipeline.runner.errors import RunnerError
from pipeline.runner.grouping import Piece
from pipeline.runner.pool import Move, Span, SpanPool
from pipeline.runner.step import Step
from pipeline.runner.stores import make_stores


@dataclass(frozen=True)
class StepItem:
    """Token positions [start, start + count) of an open sequence."""

    sequence: bytes
    start: int
    count: int


class StageRunner:
    """Runs `slice_` with a KV pool of `kv_tokens` positions over all sequences.

    The runner takes the slice over: its weights are laid out for `kernels` (see
    `pipeline.runner.arithmetic`), and `kernel_class` names the outcome.

    Raises:
        UnsupportedModel: a layer does not use its cache in a way known here.
    """

    def __init__(
        self, slice_: ModelSlice, kv_tokens: int, *, kernels: Kernels = Kernels.BEST
    ) -> None:
        self.slice = slice_
        self._pool = SpanPool(kv_tokens)
        self.weights_bytes = slice_.weights_bytes
        arithmetic = prepare(slice_, kernels)
        self.weights_bytes += arithmetic.added_bytes
        self.kernel_class = arithmetic.kernel_class
        self._stores = make_stores(arithmetic.plans, kv_tokens)
        self.kv_bytes = sum(store.nbytes for store in self._stores)

    @property
    def kv_tokens(self) -> int:
        """Positions in the pool."""
        return self._pool.size

    @property
    def kv_tokens_used(self) -> int:
        """Positions reserved by open sequences."""
        return self._pool.used

    def is_open(self, sequence: bytes) -> bool:
        """Whether a sequence holds cache here."""
        return sequence in self._pool

    @torch.inference_mode()
    def open(self, sequence: bytes, capacity: int) -> None:
        """Reserve `capacity` token positions for a sequence.

        Raises:
            KvExhausted: fewer are free; nothing has changed.
            RunnerError: it is open already.
        """
        self._arrange(self._pool.open(sequence, capacity), self._pool[sequence])

    @torch.inference_mode()
    def grow(self, sequence: bytes, capacity: int) -> None:
        """Give an open sequence room for `capacity` positions; what it has cached stays.

        Raises:
            KvExhausted: the difference is not free; nothing has changed.
            UnknownSequence: it is not open.
        """
        moves = self._pool.grow(sequence, capacity)
        span = self._pool[sequence]
        self._arrange(moves, Span(span.offset + span.filled, span.capacity - span.filled))

    def _arrange(self, moves: Sequence[Move], fresh: Span) -> None:
        for store in self._stores:
            store.arrange(moves, fresh)

    def close(self, sequence: bytes) -> None:
        """Give the sequence's cache back.

        Raises:
            UnknownSequence: it is not open.
        """
        self._pool.close(sequence)

    @torch.inference_mode()
    def step(self, items: Sequence[StepItem], inputs: torch.Tensor) -> torch.Tensor:
        """Run one batch through the slice.

        Args:
            items: at most one for each sequence; an item starts where the sequence's cache ends,
                or earlier, in which case the entries from there on are replaced.
            inputs: int64 [N] token ids in the first stage, else [N, H] in the slice's dtype, items
                one after another, N the sum of their counts.

        Returns:
            [N, H] hidden states in the order of the items; after the final norm in the last stage.

        Raises:
            UnknownSequence: an item's sequence is not open.
            RunnerError: an item leaves a gap, exceeds its capacity, or the inputs do not fit.
        """
        total = self._check(items, inputs)
        order = sorted(range(len(items)), key=lambda index: items[index].count != 1)
        pieces = [self._piece(items[index]) for index in order]
        step = Step(pieces, self._stores, self.slice.first, self.slice.device)
        permutation = self._permutation(items, order) if order != list(range(len(items))) else None
        inputs = inputs.to(self.slice.device)
        if permutation is not None:
            inputs = inputs[permutation]
        hidden = self.slice.forward(inputs, step.positions, step)
        for item in items:
            self._pool[item.sequence].filled = item.start + item.count
        if permutation is None:
            return hidden
        restored = torch.empty_like(hidden)
        restored[permutation] = hidden
        assert restored.shape[0] == total
        return restored

    @torch.inference_mode()
    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Final hidden states [N, H] → float32 logits [N, V]; last stage only."""
        return self.slice.logits(rows.to(self.slice.device))

    def _piece(self, item: StepItem) -> Piece:
        span = self._pool[item.sequence]
        return Piece(span.offset, span.capacity, item.start, item.count)

    def _check(self, items: Sequence[StepItem], inputs: torch.Tensor) -> int:
        if not items or len({item.sequence for item in items}) != len(items):
            raise RunnerError("a step needs items, at most one for each sequence")
        for item in items:
            span = self._pool[item.sequence]
            if item.count < 1 or not 0 <= item.start <= span.filled:
                raise RunnerError(
                    f"positions {item.start}+{item.count} do not follow the {span.filled} "
                    f"cached ones of sequence {item.sequence.hex()}"
                )
            if item.start + item.count > span.capacity:
                raise RunnerError(
                    f"position {item.start + item.count} exceeds the {span.capacity} "
                    f"reserved for sequence {item.sequence.hex()}"
                )
        total = sum(item.count for item in items)
        first = self.slice.is_first
        shape = (total,) if first else (total, self.slice.hidden_size)
        dtype = torch.int64 if first else self.slice.dtype
        if tuple(inputs.shape) != shape or inputs.dtype != dtype:
            raise RunnerError(
                f"inputs are {inputs.dtype} {list(inputs.shape)}, not {dtype} {list(shape)}"
            )
        if first and not 0 <= int(inputs.min()) <= int(inputs.max()) < self.slice.vocab_size:
            raise RunnerError(f"token ids must be within 0 and {self.slice.vocab_size - 1}")
        return total

    def _permutation(self, items: Sequence[StepItem], order: Sequence[int]) -> torch.Tensor:
        """Row of the inputs for each row of the packed batch."""
        starts, at = [], 0
        for item in items:
            starts.append(at)
            at += item.count
        rows = [torch.arange(starts[i], starts[i] + items[i].count) for i in order]
        return torch.cat(rows).to(self.slice.device)
