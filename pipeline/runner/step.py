"""One step's batch: which tokens it holds, and attention over them.

Tokens of a step are packed into one row (see `pipeline.models.attention`), single-token (decode)
pieces first, then prefill pieces. A `Step` is the transformers cache of that one forward pass: a
layer gives it new keys and values through `update`, then queries through `attend`.

Most layers attend with exactly what the cache returned. For them `update` writes to the KV pool
and gives the new entries back untouched, as a token that `attend` recognises; the pool is then
read in place (layer kind DIRECT). Some, such as multi-head latent attention, cache a compressed
form and expand it after `update`; they get their whole context, all sequences one after another,
and `attend` cuts what they made of it at the same places (EXPANDED). `pipeline.runner.probe` finds
out which kind a layer is.

Decode pieces are attended in one call over spans padded to the longest. Where spans are equally
far apart, that is a strided view of the pool; otherwise rows are gathered, repeating a sequence's
own last row as padding, so that no sequence ever reads another's values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

import torch
from transformers.cache_utils import Cache

from pipeline.models.attention import AttentionCall
from pipeline.models.errors import UnsupportedModel


class LayerKind(Enum):
    """How a layer uses its cache (see the module)."""

    DIRECT = "direct"
    EXPANDED = "expanded"


@dataclass
class LayerStore:
    """One layer's part of the KV pool: `keys` [P, heads, d], `values` [P, heads', d']."""

    keys: torch.Tensor
    values: torch.Tensor
    kind: LayerKind


@dataclass(frozen=True)
class Piece:
    """Tokens [start, start + count) of a sequence whose span begins at `offset`."""

    offset: int
    capacity: int
    start: int
    count: int

    @property
    def context(self) -> int:
        """Tokens that are in the cache once this piece is."""
        return self.start + self.count


@dataclass(frozen=True)
class _Segment:
    """Queries [q0, q1) of the packed row attend to keys [k0, k1) of the packed contexts."""

    number: int
    q0: int
    q1: int
    k0: int
    k1: int
    queries: torch.Tensor  # [1, Q] positions
    keys: torch.Tensor  # [1, K] positions
    offset: int


class Step(Cache):
    """The cache and attention of one forward pass over `pieces` (decode pieces first)."""

    incoming: torch.Tensor | None = None

    def __init__(
        self,
        pieces: Sequence[Piece],
        stores: Sequence[LayerStore],
        first: int,
        device: torch.device,
    ) -> None:
        super().__init__(layers=[])
        self._stores = stores
        self._first = first
        self._device = device
        self._returned: tuple[torch.Tensor, torch.Tensor] | None = None
        self._layer = stores[0]
        # A single decode needs no padding: a prefill-like segment reads its span in place.
        ones = [piece for piece in pieces if piece.count == 1]
        self._decodes = ones if len(ones) > 1 else []
        self._segments = self._cut(pieces)
        self._rows = self._concat(
            [torch.arange(p.offset + p.start, p.offset + p.context) for p in pieces]
        )
        self._gather = self._concat([torch.arange(p.offset, p.offset + p.context) for p in pieces])
        if self._decodes:
            self._plan_decode()
        self.positions = self._concat([torch.arange(p.start, p.context) for p in pieces])

    def _concat(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts).to(self._device)

    def _cut(self, pieces: Sequence[Piece]) -> list[_Segment]:
        segments, q, k = [], 0, 0
        for number, piece in enumerate(pieces):
            keys = torch.arange(piece.context, device=self._device)[None]
            segments.append(
                _Segment(
                    number=number,
                    q0=q,
                    q1=q + piece.count,
                    k0=k,
                    k1=k + piece.context,
                    queries=keys[:, piece.start :],
                    keys=keys,
                    offset=piece.offset,
                )
            )
            q, k = q + piece.count, k + piece.context
        return segments

    def _plan_decode(self) -> None:
        pieces = self._decodes
        self._longest = max(piece.context for piece in pieces)
        strides = {b.offset - a.offset for a, b in pairwise(pieces)}
        roomy = all(piece.capacity >= self._longest for piece in pieces)
        self._stride = strides.pop() if len(strides) == 1 and roomy else 0
        self._query_at = torch.tensor([[p.start] for p in pieces], device=self._device)
        self._key_at = torch.arange(self._longest, device=self._device)[None]
        if self._stride <= 0:
            offsets = torch.tensor([[p.offset] for p in pieces], device=self._device)
            index = offsets + torch.minimum(self._key_at, self._query_at)
            self._padded = index.flatten()

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new entries [1, heads, N, d]; returns what the layer goes on with."""
        store = self._layer = self._stores[layer_idx - self._first]
        store.keys.index_copy_(0, self._rows, key_states[0].transpose(0, 1))
        store.values.index_copy_(0, self._rows, value_states[0].transpose(0, 1))
        if store.kind is LayerKind.DIRECT:
            self._returned = (key_states, value_states)
        else:
            keys, values = (
                pool.index_select(0, self._gather).transpose(0, 1)[None]
                for pool in (store.keys, store.values)
            )
            self._returned = (keys, values)
        return self._returned

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Every piece attends to its own context: [1, N, heads, d'].

        Raises UnsupportedModel for a layer that uses its cache otherwise than it was probed to.
        """
        name, returned = type(call.module).__name__, self._returned
        query, key, value = call.query, call.key, call.value
        if returned is None or query.shape[2] != self._rows.shape[0]:
            raise UnsupportedModel(f"{name} attends without updating its cache")
        self._returned = None
        same = key is returned[0] and value is returned[1]
        store = self._layer
        direct = store.kind is LayerKind.DIRECT
        if same != direct:
            raise UnsupportedModel(f"{name} uses its cache in more than one way")
        parts = []
        segments = self._segments
        if direct and self._decodes:
            parts.append(self._attend_decodes(store, call))
            segments = segments[len(self._decodes) :]
        for segment in segments:
            if direct:
                length = segment.k1 - segment.k0
                held = slice(segment.offset, segment.offset + length)
                keys = store.keys[held].transpose(0, 1)[None]
                values = store.values[held].transpose(0, 1)[None]
            else:
                keys = key[:, :, segment.k0 : segment.k1]
                values = value[:, :, segment.k0 : segment.k1]
            allowed = call.mask.for_positions(
                segment.number, segment.queries, segment.keys, query.dtype
            )
            parts.append(call.within(query[:, :, segment.q0 : segment.q1], keys, values, allowed))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _attend_decodes(self, store: LayerStore, call: AttentionCall) -> torch.Tensor:
        """All decode pieces at once: [1, B, heads, d']."""
        count = len(self._decodes)
        queries = call.query[0, :, :count].transpose(0, 1)[:, :, None]
        keys, values = (self._padded_view(pool) for pool in (store.keys, store.values))
        allowed = call.mask.for_positions(-1, self._query_at, self._key_at, queries.dtype)
        return call.within(queries, keys, values, allowed).transpose(0, 1)

    def _padded_view(self, pool: torch.Tensor) -> torch.Tensor:
        """[B, heads, longest, d] of the decode pieces' contexts."""
        count = len(self._decodes)
        if self._stride > 0:
            row = pool.stride(0)
            shape = (count, self._longest, *pool.shape[1:])
            strides = (self._stride * row, row, *pool.stride()[1:])
            at = pool.storage_offset() + self._decodes[0].offset * row
            return pool.as_strided(shape, strides, at).transpose(1, 2)
        rows = pool.index_select(0, self._padded)
        return rows.view(count, self._longest, *pool.shape[1:]).transpose(1, 2)


class PackedPrefill(Cache):
    """Whole sequences of the given lengths packed into one pass, with no cache behind them."""

    incoming: torch.Tensor | None = None

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        super().__init__(layers=[])
        self._bounds = [0]
        for length in lengths:
            self._bounds.append(self._bounds[-1] + length)
        self._positions = [torch.arange(length, device=device) for length in lengths]
        self.positions = torch.cat(self._positions)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Nothing is kept: a layer goes on with what it has."""
        return key_states, value_states

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Attention of every sequence over itself: [1, N, heads, d']."""
        parts = []
        for number, at in enumerate(self._positions):
            one = slice(self._bounds[number], self._bounds[number + 1])
            allowed = call.mask.for_positions(number, at[None], at[None], call.query.dtype)
            query, key, value = (tensor[:, :, one] for tensor in (call.query, call.key, call.value))
            parts.append(call.within(query, key, value, allowed))
        return torch.cat(parts, dim=1)
