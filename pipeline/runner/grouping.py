"""Which decode pieces attend together where kernels want equal lengths.

Shorter contexts are padded to the longest of their group and masked, so a group's lengths must be
close, or one long sequence would cost every other as much as itself. Where spans are equally far
apart a group is a strided view of the pool. Otherwise rows are gathered, repeating a sequence's own
last row as padding, so that no sequence ever reads another's values. Gathering copies contexts:
on a CPU that pays only for short ones, and the others are left to attend one by one in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

MOST_PADDING = 1.25
"""The longest context of a group over its shortest."""
SHORT = 128
"""Contexts up to this long are gathered even on a CPU."""


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

    @property
    def positions(self) -> range:
        """Positions of its tokens in the sequence."""
        return range(self.start, self.context)


@dataclass(frozen=True)
class Group:
    """Decode pieces that attend in one call.

    Attributes:
        pieces: their numbers; `rows` [B] are the same on the device, since a decode piece is one
            row and decode pieces come first.
        queries, keys: positions [B, 1] and [1, K], K the longest context.
        stride, offset: distance between spans and the first span's offset, where they are equally
            far apart; else `index` [B * K] says which positions of the pool to gather.
    """

    pieces: tuple[int, ...]
    rows: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor
    stride: int
    offset: int
    index: torch.Tensor | None

    def contexts(self, pool: torch.Tensor) -> torch.Tensor:
        """[B, heads, K, d] of a pool [heads, P, d]."""
        heads, _, size = pool.shape
        count, longest = len(self.pieces), self.keys.shape[1]
        if self.index is not None:
            gathered = pool.index_select(1, self.index)
            return gathered.view(heads, count, longest, size).transpose(0, 1)
        shape = (count, heads, longest, size)
        strides = (self.stride * pool.stride(1), *pool.stride())
        at = pool.storage_offset() + self.offset * pool.stride(1)
        return pool.as_strided(shape, strides, at)


def decode_groups(pieces: Sequence[Piece], device: torch.device) -> list[Group]:
    """Groups of the single-token pieces at the beginning of `pieces`; those in none attend alone,
    which needs no padding and reads their spans in place."""
    decodes = [number for number, piece in enumerate(pieces) if piece.count == 1]
    groups = []
    for numbers in _alike(decodes, pieces):
        members = [pieces[number] for number in numbers]
        longest = max(piece.context for piece in members)
        stride = _stride(members, longest)
        if len(numbers) > 1 and (stride or device.type != "cpu" or longest <= SHORT):
            groups.append(_group(numbers, members, longest, stride, device))
    return groups


def _alike(numbers: Sequence[int], pieces: Sequence[Piece]) -> Iterator[list[int]]:
    """Runs of numbers, in order of their contexts, that may be padded to the longest of the run."""
    run: list[int] = []
    for number in sorted(numbers, key=lambda number: pieces[number].context):
        if run and pieces[number].context > MOST_PADDING * pieces[run[0]].context + 8:
            yield sorted(run)
            run = []
        run.append(number)
    if run:
        yield sorted(run)


def _stride(members: Sequence[Piece], longest: int) -> int:
    strides = {b.offset - a.offset for a, b in pairwise(members)}
    roomy = all(piece.capacity >= longest for piece in members)
    return max(strides.pop(), 0) if len(strides) == 1 and roomy else 0


def _group(
    numbers: Sequence[int],
    members: Sequence[Piece],
    longest: int,
    stride: int,
    device: torch.device,
) -> Group:
    queries = torch.tensor([[piece.start] for piece in members])
    keys = torch.arange(longest)[None]
    index = None
    if not stride:
        offsets = torch.tensor([[piece.offset] for piece in members])
        index = (offsets + torch.minimum(keys, queries)).flatten().to(device)
    rows = torch.tensor(numbers).to(device)
    at = members[0].offset
    return Group(tuple(numbers), rows, queries.to(device), keys.to(device), stride, at, index)
