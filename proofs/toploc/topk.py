"""Which values a proof is about: the k largest magnitudes of each chunk of activations.

Magnitudes are compared as bit patterns without the sign, which for finite bfloat16 orders as |x|
does. Ties at the cut-off are common in bfloat16, and `torch.topk` breaks them differently on
different devices; here the lower index wins, always.

On the CPU the chunk is laid out in columns; the k-th largest of their maxima is a lower bound for
the k-th largest value, since k columns hold one that is no smaller. One comparison then leaves
hardly more than k candidates. The number of columns is odd, so that a hidden channel that is large
in every row falls into a different column each time. On another device torch selects, by keys that
hold magnitude and index together, and only k indices and values of each chunk come to the host.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from proofs.errors import ProofError
from proofs.toploc.field import MAX_POINTS, PRIME, Ints

DEVICE_VALUES = 1 << 23  # of which the keys of one selection take 8 bytes each
_MAGNITUDE = np.uint16(0x7FFF)
_NOT_FINITE = 0x7F80  # the least magnitude pattern that is infinity or NaN

Bits = npt.NDArray[np.uint16]


class ProofInputError(ProofError, ValueError):
    """Activations or points that cannot be proven or measured; the message says what to change."""


class Points(NamedTuple):
    """Where the k largest values of each of B chunks are, and their bits.

    Attributes:
        indices: [B, k] flat indices, ascending in each chunk.
        bits: [B, k] bfloat16 bit patterns.
        folded: whether chunks have more values than the field has elements, so that indices are
            not elements before a modulus folds them.
    """

    indices: Ints
    bits: Ints
    folded: bool


def check_topk(topk: object) -> int:
    """`topk` itself. Raises ProofInputError when it is no integer in 1..MAX_POINTS."""
    if not isinstance(topk, int) or isinstance(topk, bool) or not 1 <= topk <= MAX_POINTS:
        raise ProofInputError(f"topk is {topk!r:.40}; choose an integer from 1 to {MAX_POINTS}")
    return topk


def check_activations(values: object) -> torch.Tensor:
    """`values` detached. Raises ProofInputError unless it is a bfloat16 tensor that has values."""
    if not isinstance(values, torch.Tensor):
        raise ProofInputError(f"activations are a {type(values).__name__}; give a bfloat16 tensor")
    if values.dtype != torch.bfloat16:
        raise ProofInputError(f"activations are {values.dtype}; cast them with .to(torch.bfloat16)")
    if values.dim() == 0:
        raise ProofInputError("activations are a single number; give at least one dimension")
    if values.numel() == 0:
        raise ProofInputError("a chunk without values cannot be proven; leave it out")
    if values.layout != torch.strided or values.is_meta:
        raise ProofInputError("activations hold no dense data; make them an ordinary tensor")
    return values.detach()


def top_points(chunks: torch.Tensor, topk: int) -> Points:
    """The min(topk, n) largest of each row of `chunks` [B, n], finite bfloat16 on any device.

    Raises ProofInputError for NaN and infinity.
    """
    select = host_select if chunks.is_cpu else device_select
    return Points(*select(chunks, min(topk, chunks.shape[1])), chunks.shape[1] > PRIME)


def host_select(chunks: torch.Tensor, k: int) -> tuple[Ints, Ints]:
    """Indices and bits [B, k] of the largest magnitudes of each row of `chunks` on the CPU."""
    rows: Bits = chunks.contiguous().view(torch.uint16).numpy()
    indices, bits = np.empty((2, len(rows), k), dtype=np.int64)
    for chunk, row in enumerate(rows):
        indices[chunk] = top = top_indices(row, k)
        bits[chunk] = row[top]
    return indices, bits


def top_indices(bits: Bits, k: int) -> Ints:
    """Ascending indices of the k largest magnitudes; among equals at the cut-off, the lowest.

    Raises ProofInputError for NaN and infinity.
    """
    magnitudes: Bits = np.bitwise_and(bits, _MAGNITUDE)
    if bits.size >= 32 * k:
        columns = isqrt(bits.size * k) | 1
        whole = bits.size // columns * columns
        maxima = np.maximum.reduce(magnitudes[:whole].reshape(-1, columns), axis=0)
        maxima.partition(columns - k)
        candidates: Ints = (magnitudes >= maxima[columns - k]).nonzero()[0]
        magnitudes = magnitudes.take(candidates)
    else:
        candidates = np.arange(bits.size)
    _check_finite(magnitudes)
    surplus = candidates.size - k
    if not surplus:
        return candidates
    ordered = magnitudes.copy()
    ordered.partition(surplus)
    cutoff = ordered[surplus]
    kept = (magnitudes >= cutoff).nonzero()[0]
    if kept.size > k:
        tied = (magnitudes[kept] == cutoff).nonzero()[0]
        kept = np.delete(kept, tied[k - kept.size :])
    kept_indices: Ints = candidates[kept]
    return kept_indices


def device_select(
    chunks: torch.Tensor, k: int, values_at_once: int = DEVICE_VALUES
) -> tuple[Ints, Ints]:
    """As `host_select`, on the tensor's device: one small copy to the host for many chunks.

    At most `values_at_once` values, or one chunk, are selected from at a time.
    """
    parts = torch.split(chunks, max(1, values_at_once // chunks.shape[1]))
    found = [_select_there(part, k) for part in parts]
    both = torch.cat(found, dim=1).cpu().numpy()
    _check_finite(both[1] & 0x7FFF)
    return both[0], both[1]


def _check_finite(magnitudes: Bits | Ints) -> None:
    """Raises ProofInputError unless the magnitudes, the largest among them, are of numbers."""
    if np.maximum.reduce(magnitudes, axis=None) >= _NOT_FINITE:
        raise ProofInputError("activations hold NaN or infinity; the model's output is unusable")


def _select_there(chunks: torch.Tensor, k: int) -> torch.Tensor:
    """Indices and bits, int64 [2, B, k]."""
    bits = chunks.contiguous().view(torch.int16).to(torch.int64) & 0xFFFF
    last = chunks.shape[1] - 1
    keys = ((bits & 0x7FFF) << 32) + (last - torch.arange(last + 1, device=chunks.device))
    top = torch.topk(keys, k, dim=1, sorted=False).values
    indices = (last - (top & 0xFFFFFFFF)).sort(dim=1).values
    return torch.stack([indices, bits.gather(1, indices)])
