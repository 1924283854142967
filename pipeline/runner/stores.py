"""The KV pool of one layer: where its keys and values lie.

Positions of one head lie one after another, so attention over a sequence reads memory in order. A
layer that our own kernels attend for has an `ExactStore`, any other a `LibraryStore`, whose spans
transformers' kernels read in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch

from pipeline.kernels.exact import KeyValues
from pipeline.runner.pool import Move, Span


class LayerKind(Enum):
    """How a layer uses its cache (see `pipeline.runner.step`)."""

    DIRECT = "direct"
    EXPANDED = "expanded"


@dataclass(frozen=True)
class LayerPlan:
    """What a layer caches and how it attends.

    Attributes:
        window: how many positions a query sees where our own kernels may attend for the layer, its
            own included; 0: all up to its own; None: transformers' kernels attend.
    """

    kind: LayerKind
    key_heads: int
    key_size: int
    value_heads: int
    value_size: int
    dtype: torch.dtype
    device: torch.device
    window: int | None = None


class LibraryStore:
    """`keys` [heads, P, d] and `values` [heads', P, d']."""

    def __init__(self, plan: LayerPlan, positions: int) -> None:
        self.kind = plan.kind
        self.keys, self.values = (
            torch.zeros(heads, positions, size, dtype=plan.dtype, device=plan.device)
            for heads, size in (
                (plan.key_heads, plan.key_size),
                (plan.value_heads, plan.value_size),
            )
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the pool."""
        return self.keys.nbytes + self.values.nbytes

    def put(self, keys: torch.Tensor, values: torch.Tensor, at: torch.Tensor) -> None:
        """Write keys [heads, N, d] and values [heads', N, d'] to positions `at` [N]."""
        self.keys.index_copy_(1, at, keys)
        self.values.index_copy_(1, at, values)

    def arrange(self, moves: Sequence[Move], span: Span) -> None:
        """Make `moves` in order, then clear `span` for what is to come."""
        for tensor in (self.keys, self.values):
            for move in moves:
                kept = tensor[:, move.source : move.source + move.count].clone()
                tensor[:, move.target : move.target + move.count] = kept
            # Padding is read, though masked: what another sequence left could be NaN.
            tensor[:, span.offset : span.offset + span.capacity].zero_()


class ExactStore:
    """A pool that our own kernels attend to. Never reads what it was not asked for."""

    kind = LayerKind.DIRECT

    def __init__(self, plan: LayerPlan, positions: int) -> None:
        assert plan.window is not None
        self.window = plan.window
        self.held = KeyValues(positions, plan.key_heads, plan.key_size, plan.value_size)

    @property
    def nbytes(self) -> int:
        """Bytes of the pool."""
        return self.held.nbytes

    def put(self, keys: torch.Tensor, values: torch.Tensor, at: torch.Tensor) -> None:
        """Write keys [heads, N, d] and values [heads, N, d'] to positions `at` [N]."""
        self.held.put(keys.transpose(0, 1), values.transpose(0, 1), at)

    def arrange(self, moves: Sequence[Move], _span: Span) -> None:
        """Make `moves` in order."""
        for move in moves:
            self.held.move(move.source, move.target, move.count)


Store = LibraryStore | ExactStore


def make_stores(plans: Sequence[LayerPlan], positions: int) -> list[Store]:
    """Zeroed storage of `positions` positions for each layer."""
    return [_make(plan, positions) for plan in plans]


def shared_stores(plans: Sequence[LayerPlan], positions: int) -> list[Store]:
    """The same where nothing is kept from one layer to the next, so that layers of one shape use
    the same memory in turn."""
    made = {plan: _make(plan, positions) for plan in set(plans)}
    return [made[plan] for plan in plans]


def _make(plan: LayerPlan, positions: int) -> Store:
    return (LibraryStore if plan.window is None else ExactStore)(plan, positions)
