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

Our own kernels take all pieces at once, whatever their lengths. Transformers' kernels want equal
lengths: `pipeline.runner.grouping` says which decode pieces they get together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers.cache_utils import Cache

from pipeline.kernels.exact import Pieces
from pipeline.models.attention import AttentionCall
from pipeline.models.errors import UnsupportedModel
from pipeline.runner.grouping import Group, Piece, decode_groups
from pipeline.runner.stores import (
    ExactStore,
    LayerKind,
    LayerPlan,
    LibraryStore,
    Store,
    shared_stores,
)


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
        self, pieces: Sequence[Piece], stores: Sequence[Store], first: int, device: torch.device
    ) -> None:
        super().__init__(layers=[])
        self._pieces = pieces
        self._stores = stores
        self._first = first
        self._device = device
        self._returned: tuple[torch.Tensor, torch.Tensor] | None = None
        self._layer = stores[0]
        self._rows = self._numbers(at + piece.offset for piece in pieces for at in piece.positions)
        self.positions = self._numbers(at for piece in pieces for at in piece.positions)

    def _numbers(self, numbers: Iterator[int]) -> torch.Tensor:
        return torch.tensor(list(numbers), dtype=torch.int64).to(self._device)

    @cached_property
    def _segments(self) -> list[_Segment]:
        segments, q, k = [], 0, 0
        for number, piece in enumerate(self._pieces):
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

    @cached_property
    def _groups(self) -> list[Group]:
        return decode_groups(self._pieces, self._device)

    @cached_property
    def _gather(self) -> torch.Tensor:
        parts = [torch.arange(p.offset, p.offset + p.context) for p in self._pieces]
        return torch.cat(parts).to(self._device)

    @cached_property
    def _table(self) -> Pieces:
        rows = torch.tensor([0, *(piece.count for piece in self._pieces)]).cumsum(0).tolist()
        return Pieces.of(
            [(p.offset, p.start, p.count, r) for p, r in zip(self._pieces, rows, strict=False)]
        )

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
        store.put(key_states[0], value_states[0], self._rows)
        if isinstance(store, LibraryStore) and store.kind is LayerKind.EXPANDED:
            keys, values = (
                pool.index_select(1, self._gather)[None] for pool in (store.keys, store.values)
            )
            self._returned = (keys, values)
        else:
            self._returned = (key_states, value_states)
        return self._returned

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Every piece attends to its own context: [1, N, heads, d'].

        Raises UnsupportedModel for a layer that uses its cache otherwise than it was probed to.
        """
        name, returned = type(call.module).__name__, self._returned
        if returned is None or call.query.shape[2] != self._rows.shape[0]:
            raise UnsupportedModel(f"{name} attends without updating its cache")
        self._returned = None
        same = call.key is returned[0] and call.value is returned[1]
        store = self._layer
        if same != (store.kind is LayerKind.DIRECT):
            raise UnsupportedModel(f"{name} uses its cache in more than one way")
        if isinstance(store, ExactStore):
            scale = call.options.get("scaling") or call.query.shape[-1] ** -0.5
            return self._attend_exactly(store, call.query[0].transpose(0, 1), scale)[None]
        return self._attend_by_library(store, call)

    def attend_exactly(
        self,
        layer_idx: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Store new entries [N, heads, d] of a layer with an `ExactStore` and attend with queries
        [N, heads', d]: [N, heads', d']."""
        store = self._stores[layer_idx - self._first]
        assert isinstance(store, ExactStore)
        store.held.put(key, value, self._rows)
        return self._attend_exactly(store, query, scale)

    def _attend_exactly(self, store: ExactStore, query: torch.Tensor, scale: float) -> torch.Tensor:
        return store.held.attend(query, self._table, scale, store.window)

    def _attend_by_library(self, store: LibraryStore, call: AttentionCall) -> torch.Tensor:
        direct = store.kind is LayerKind.DIRECT
        out: torch.Tensor | None = None
        done: set[int] = set()
        for number, group in enumerate(self._groups if direct else ()):
            found = self._attend_group(store, call, group, -1 - number)
            if out is None:
                out = found.new_empty(1, call.query.shape[2], *found.shape[2:])
            out[:, group.rows] = found
            done.update(group.pieces)
        for segment in self._segments:
            if segment.number in done:
                continue
            if direct:
                held = slice(segment.offset, segment.offset + segment.k1 - segment.k0)
                keys, values = store.keys[None, :, held], store.values[None, :, held]
            else:
                keys = call.key[:, :, segment.k0 : segment.k1]
                values = call.value[:, :, segment.k0 : segment.k1]
            allowed = call.mask.for_positions(
                segment.number, segment.queries, segment.keys, call.query.dtype
            )
            queries = call.query[:, :, segment.q0 : segment.q1]
            found = call.within(queries, keys, values, allowed)
            if out is None:
                out = found.new_empty(1, call.query.shape[2], *found.shape[2:])
            out[:, segment.q0 : segment.q1] = found
        assert out is not None
        return out

    def _attend_group(
        self, store: LibraryStore, call: AttentionCall, group: Group, number: int
    ) -> torch.Tensor:
        """Decode pieces of about one length: [1, B, heads, d']."""
        queries = call.query[0][:, group.rows].transpose(0, 1)[:, :, None]
        allowed = call.mask.for_positions(number, group.queries, group.keys, queries.dtype)
        keys, values = group.contexts(store.keys), group.contexts(store.values)
        return call.within(queries, keys, values, allowed).transpose(0, 1)


def packed_prefill(
    lengths: Sequence[int], plans: Sequence[LayerPlan], first: int, device: torch.device
) -> Step:
    """A step of whole sequences of the given lengths for layers `first`, `first` + 1, ...; no cache
    is kept behind it."""
    pieces, offset = [], 0
    for length in lengths:
        pieces.append(Piece(offset, length, 0, length))
        offset += length
    return Step(pieces, shared_stores(plans, offset), first, device)
