"""TOPLOC proofs of chunks of hidden-state rows, and how far a proof is from one's own rows.

A chunk is up to 32 rows [n, H] of bfloat16, flattened row by row. Its proof interpolates the bit
patterns of the k values that are largest in magnitude, at their flat indices. The verifier takes
the top k of its *own* activations and reads the polynomial there: where two devices agree on what
is large they agree on exponents and nearly on mantissas, so rounding noise is told from other
numbers without sending the numbers.

Everything about the *proof* that is wrong is a `ChunkResult` with a reason. Only the caller's own
rows (wrong dtype, NaN, no rows) raise `ProofInputError`. Rows may be on any device.

Every call has a fixed cost, so the functions for many chunks or sequences are cheaper per chunk
than those for one; the results are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from proofs.toploc.field import PRIME, Ints, evaluate, interpolate
from proofs.toploc.poly import find_injective_modulus
from proofs.toploc.reading import read_proofs
from proofs.toploc.topk import (
    Points,
    ProofInputError,
    check_activations,
    check_topk,
    top_points,
)

TOPK = 128
CHUNK_ROWS = 32
_SIGN, _EXPONENT, _MANTISSA = (np.array(mask) for mask in (0x8000, 0x7F80, 0x7F))
_BATCH_NUMBERS = 1 << 18  # in one temporary matrix: sixteen 128 x 128 ones stay in cache


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """How a proof compares with the verifier's rows.

    Mantissa figures are over the points whose exponents agree, in units of the last of 7 mantissa
    bits, and -1.0 where none agree; `sign_mismatches` counts unequal signs among those points: the
    original measure has no such figure, and accepts activations that are all negated. `malformed`
    is empty or says why there was nothing to compare.
    """

    exp_mismatches: int = 0
    mant_err_mean: float = 0.0
    mant_err_median: float = 0.0
    sign_mismatches: int = 0
    malformed: str = ""


def build_chunk_proof(rows: torch.Tensor, topk: int = TOPK) -> bytes:
    """The proof of one chunk, rows [n, H] bf16: 2 + 2 * min(topk, n * H) bytes.

    Raises ProofInputError for another dtype, no rows, NaN or infinity.
    """
    return prove([_chunk_points(rows, check_topk(topk))])[0]


def build_chunk_proofs(chunks: Sequence[torch.Tensor], topk: int = TOPK) -> list[bytes]:
    """`build_chunk_proof` of each of many chunks: those that a stage completes in one step."""
    check_topk(topk)
    return prove([_chunk_points(rows, topk) for rows in chunks])


def build_row_proofs(rows: torch.Tensor, topk: int = TOPK) -> list[bytes]:
    """The proofs of a whole sequence, rows [N, H] bf16: one for every 32 rows, last one ragged."""
    return prove(_row_points(rows, check_topk(topk)))


def build_sequence_proofs(sequences: Sequence[torch.Tensor], topk: int = TOPK) -> list[list[bytes]]:
    """`build_row_proofs` of each of many sequences."""
    check_topk(topk)
    groups = [_row_points(rows, topk) for rows in sequences]
    proofs = iter(prove([points for group in groups for points in group]))
    return [list(islice(proofs, _count(group))) for group in groups]


def measure_chunk(rows: torch.Tensor, proof: bytes, topk: int = TOPK) -> ChunkResult:
    """Compare a stranger's proof with one's own rows [n, H] bf16 of the same chunk.

    Raises ProofInputError for unusable rows, nothing for the content of `proof`.
    """
    return measure([_chunk_points(rows, check_topk(topk))], [proof])[0]


def measure_rows(
    rows: torch.Tensor, proofs: Sequence[bytes], topk: int = TOPK
) -> list[ChunkResult]:
    """Compare a stage's proofs of a sequence with one's own rows [N, H] bf16.

    One result a chunk; a missing proof is malformed, and proofs beyond the last chunk give one
    more, malformed result.
    """
    return measure_sequences([(rows, proofs)], topk)[0]


def measure_sequences(
    claims: Sequence[tuple[torch.Tensor, Sequence[bytes]]], topk: int = TOPK
) -> list[list[ChunkResult]]:
    """`measure_rows` of each of many (rows, proofs): what a validator has of a unit, at once."""
    check_topk(topk)
    groups = [_row_points(rows, topk) for rows, _ in claims]
    given = [proofs if isinstance(proofs, list | tuple) else () for _, proofs in claims]
    padded: list[bytes] = []
    for group, proofs in zip(groups, given, strict=True):
        count = _count(group)
        padded += [*proofs[:count], *[b""] * (count - len(proofs))]
    measured = iter(measure([points for group in groups for points in group], padded))
    results = []
    for group, proofs in zip(groups, given, strict=True):
        count = _count(group)
        results.append(list(islice(measured, count)))
        if len(proofs) > count:
            results[-1].append(_malformed(0, f"{len(proofs)} proofs for {count} chunks"))
    return results


def prove(groups: Sequence[Points]) -> list[bytes]:
    """One proof for each chunk of all groups. Raises ProofInputError where no modulus fits."""
    proofs = [b""] * _count(groups)
    for chunks, (indices, bits, folded) in _batches(groups):
        numbers = np.empty((len(indices), 1 + indices.shape[1]), dtype=">u2")
        numbers[:, 0] = PRIME
        if folded:
            numbers[:, 0] = [find_injective_modulus(row) for row in indices]
            indices = indices % numbers[:, :1]
        numbers[:, 1:] = interpolate(indices, bits)
        for chunk, row in zip(chunks, numbers, strict=True):
            proofs[chunk] = row.tobytes()
    return proofs


def measure(
    groups: Sequence[Points], proofs: Sequence[bytes], upper_median: bool = True
) -> list[ChunkResult]:
    """Compare one proof with each chunk of all groups; as many results as chunks.

    The median of an even number of errors is the upper of the middle two, or their mean.
    """
    results: dict[int, ChunkResult] = {}
    for chunks, (indices, bits, folded) in _batches(groups):
        given = [proofs[chunk] for chunk in chunks]
        numbers, reasons = read_proofs(given, indices.shape[1], folded)
        if folded:
            indices = indices % numbers[:, :1].astype(np.int64)
        claimed = evaluate(numbers[:, 1:], indices)
        for chunk, row, own in zip(chunks, claimed, bits, strict=True):
            results[chunk] = compare(row, own, upper_median)
        for row, reason in reasons.items():
            results[chunks[row]] = _malformed(indices.shape[1], reason)
    return [results[chunk] for chunk in range(len(results))]


def compare(claimed: Ints, own: Ints, upper_median: bool = True) -> ChunkResult:
    """Compare the bit patterns [k] that a proof gives with one's own at the same points."""
    differences = claimed ^ own
    agree = (differences & _EXPONENT) == 0
    errors = np.abs((claimed & _MANTISSA) - (own & _MANTISSA))[agree]
    count = errors.size
    if not count:
        return ChunkResult(own.size, -1.0, -1.0)
    errors.sort()
    median = float(errors.item(count // 2))
    if not upper_median:
        median = (median + errors.item((count - 1) // 2)) / 2
    return ChunkResult(
        own.size - count,
        int(np.add.reduce(errors)) / count,
        median,
        int(np.count_nonzero(differences[agree] >= _SIGN)),
    )


def _malformed(points: int, reason: str) -> ChunkResult:
    return ChunkResult(points, -1.0, -1.0, malformed=reason)


def _chunk_points(rows: torch.Tensor, topk: int) -> Points:
    return top_points(check_activations(rows).reshape(1, -1), topk)


def _row_points(rows: torch.Tensor, topk: int) -> list[Points]:
    """Points of the chunks of a sequence: the full ones, then the ragged one."""
    if not isinstance(rows, torch.Tensor) or rows.dim() != 2:
        shape = tuple(rows.shape) if isinstance(rows, torch.Tensor) else type(rows).__name__
        raise ProofInputError(f"rows have shape {shape}; give a tensor [rows, hidden size]")
    if not len(rows):
        return []
    rows = check_activations(rows)
    full = len(rows) // CHUNK_ROWS
    parts = [rows[: full * CHUNK_ROWS].reshape(full, -1)] if full else []
    if len(rows) % CHUNK_ROWS:
        parts.append(rows[full * CHUNK_ROWS :].reshape(1, -1))
    return [top_points(part, topk) for part in parts]


def _count(groups: Sequence[Points]) -> int:
    return sum(len(points.indices) for points in groups)


def _batches(groups: Sequence[Points]) -> Iterator[tuple[Sequence[int], Points]]:
    """All chunks with their indices, in batches of one k whose matrices [k, k] stay in cache."""
    if len(groups) == 1 and groups[0].indices.size * groups[0].indices.shape[1] <= _BATCH_NUMBERS:
        yield range(len(groups[0].indices)), groups[0]
        return
    pools: dict[tuple[int, bool], tuple[list[int], list[Points]]] = {}
    start = 0
    for points in groups:
        end = start + len(points.indices)
        chunks, pool = pools.setdefault((points.indices.shape[1], points.folded), ([], []))
        chunks += range(start, end)
        pool.append(points)
        start = end
    for (k, folded), (chunks, pool) in pools.items():
        indices, bits = pool[0].indices, pool[0].bits
        if len(pool) > 1:
            indices = np.concatenate([points.indices for points in pool])
            bits = np.concatenate([points.bits for points in pool])
        step = max(1, _BATCH_NUMBERS // (k * k))
        for at in range(0, len(chunks), step):
            run = slice(at, at + step)
            yield chunks[run], Points(indices[run], bits[run], folded)
