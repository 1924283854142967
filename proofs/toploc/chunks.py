"""TOPLOC proofs of chunks of hidden-state rows, and how far a proof is from one's own rows.

A chunk is up to 32 rows [n, H] of bfloat16, flattened row by row. Its proof interpolates the bit
patterns of the k values that are largest in magnitude, at their flat indices. The verifier takes
the top k of its *own* activations and reads the polynomial there: where two devices agree on what
is large they agree on exponents and nearly on mantissas, so rounding noise is told from other
numbers without sending the numbers.

Ties at the cut-off are common in bfloat16, and the order in which `torch.topk` breaks them differs
between devices; here the lower index wins, always.

Everything about the *proof* that is wrong is a `ChunkResult` with a reason. Only the caller's own
rows (wrong dtype, NaN, no rows) raise `ProofInputError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from proofs.toploc.field import PRIME, Ints, evaluate, interpolate
from proofs.toploc.poly import MAX_TOPK, ProofInputError, ProofPoly, find_injective_modulus, parse

TOPK = 128
CHUNK_ROWS = 32
_BATCH_NUMBERS = 1 << 17  # numbers in one temporary matrix: eight 128 x 128 ones stay in cache

Bits = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """How a proof compares with the verifier's rows.

    Mantissa figures are over the points whose exponents agree, in units of the last of 7 mantissa
    bits, and -1.0 where none agree. `malformed` is empty or says why there was nothing to compare.
    """

    exp_mismatches: int = 0
    mant_err_mean: float = 0.0
    mant_err_median: float = 0.0
    sign_mismatches: int = 0
    malformed: str = ""


def bits_of(values: torch.Tensor) -> Bits:
    """The bit patterns of finite bfloat16 `values` [n >= 1], on the CPU. Raises ProofInputError."""
    if values.dtype != torch.bfloat16:
        raise ProofInputError(f"activations are {values.dtype}; cast them with .to(torch.bfloat16)")
    if values.numel() == 0:
        raise ProofInputError("a chunk without values cannot be proven; leave it out")
    bits = values.detach().cpu().contiguous().view(torch.uint16).numpy().reshape(-1)
    if ((bits & 0x7F80) == 0x7F80).any():
        raise ProofInputError("activations hold NaN or infinity; the model's output is unusable")
    return bits


def top_indices(bits: Bits, k: int) -> Ints:
    """Ascending indices of the k largest magnitudes; among equals at the cut-off, the lowest."""
    magnitude = bits & 0x7FFF  # orders as |x| does
    cutoff = np.partition(magnitude, bits.size - k)[bits.size - k]
    indices = np.flatnonzero(magnitude >= cutoff)
    if indices.size > k:
        tied = np.flatnonzero(magnitude[indices] == cutoff)
        indices = np.delete(indices, tied[k - indices.size :])
    return indices.astype(np.int64, copy=False)


def build_bits_proofs(chunks: Sequence[Bits], topk: int) -> list[ProofPoly]:
    """One proof a chunk, interpolated many at a time. Raises ProofInputError."""
    check_topk(topk)
    points: list[tuple[Ints, Ints, int]] = []
    for bits in chunks:
        indices = top_indices(bits, min(topk, bits.size))
        modulus = find_injective_modulus(indices)
        points.append((indices % modulus, bits[indices].astype(np.int64) % PRIME, modulus))
    proofs: list[ProofPoly] = []
    for run in _runs([len(x) for x, _, _ in points]):
        coefficients = interpolate(
            np.stack([x for x, _, _ in points[run]]), np.stack([y for _, y, _ in points[run]])
        )
        proofs += [
            ProofPoly(row.tolist(), modulus)
            for row, (_, _, modulus) in zip(coefficients, points[run], strict=True)
        ]
    return proofs


def measure_bits(chunks: Sequence[Bits], proofs: Sequence[bytes], topk: int) -> list[ChunkResult]:
    """Compare one proof with each chunk; as many results as chunks."""
    check_topk(topk)
    results = [ChunkResult()] * len(chunks)
    parsed: list[tuple[int, ProofPoly, Ints]] = []
    for place, (bits, data) in enumerate(zip(chunks, proofs, strict=True)):
        count = min(topk, bits.size)
        proof, reason = parse(data, count, bits.size)
        if proof is None:
            results[place] = ChunkResult(
                exp_mismatches=count, mant_err_mean=-1.0, mant_err_median=-1.0, malformed=reason
            )
        else:
            parsed.append((place, proof, top_indices(bits, count)))
    for run in _runs([len(indices) for _, _, indices in parsed]):
        values = evaluate(
            np.array([proof.coeffs for _, proof, _ in parsed[run]], dtype=np.int64),
            np.stack([indices % proof.modulus for _, proof, indices in parsed[run]]),
        )
        for row, (place, _, indices) in zip(values, parsed[run], strict=True):
            results[place] = compare(row, chunks[place][indices].astype(np.int64))
    return results


def compare(claimed: Ints, own: Ints) -> ChunkResult:
    """Compare bit patterns [k] that a proof gives with the verifier's own at the same places."""
    agree = (claimed & 0x7F80) == (own & 0x7F80)
    errors = np.sort(np.abs((claimed & 0x7F)[agree] - (own & 0x7F)[agree]))
    return ChunkResult(
        exp_mismatches=int((~agree).sum()),
        mant_err_mean=float(errors.mean()) if errors.size else -1.0,
        mant_err_median=float(errors[errors.size // 2]) if errors.size else -1.0,
        sign_mismatches=int(((claimed ^ own) >> 15).sum()),
    )


def split_rows(rows: torch.Tensor, chunk_rows: int = CHUNK_ROWS) -> list[Bits]:
    """Chunks of a sequence's rows [N, H] bf16, the last one ragged. Raises ProofInputError."""
    if rows.dim() != 2:
        raise ProofInputError(f"rows have shape {tuple(rows.shape)}; give [rows, hidden size]")
    if rows.numel() == 0:
        return []
    width, bits = rows.shape[1], bits_of(rows)
    step = chunk_rows * width
    return [bits[start : start + step] for start in range(0, bits.size, step)]


def build_chunk_proof(rows: torch.Tensor, topk: int = TOPK) -> bytes:
    """The proof of one chunk, rows [n, H] bf16: 2 + 2 * min(topk, n * H) bytes.

    Raises ProofInputError for another dtype, no rows, NaN or infinity.
    """
    return build_bits_proofs([bits_of(rows)], topk)[0].to_bytes()


def measure_chunk(rows: torch.Tensor, proof: bytes, topk: int = TOPK) -> ChunkResult:
    """Compare a stranger's proof with one's own rows [n, H] bf16 of the same chunk.

    Raises ProofInputError for unusable rows, nothing for the content of `proof`.
    """
    return measure_bits([bits_of(rows)], [proof], topk)[0]


def build_row_proofs(rows: torch.Tensor, topk: int = TOPK) -> list[bytes]:
    """The proofs of a whole sequence, rows [N, H] bf16: one for every 32 rows, last one ragged."""
    return [proof.to_bytes() for proof in build_bits_proofs(split_rows(rows), topk)]


def measure_rows(
    rows: torch.Tensor, proofs: Sequence[bytes], topk: int = TOPK
) -> list[ChunkResult]:
    """Compare a stage's proofs of a sequence with one's own rows [N, H] bf16.

    One result a chunk; a missing proof is malformed, and proofs beyond the last chunk give one
    more, malformed result.
    """
    chunks = split_rows(rows)
    given = [*proofs[: len(chunks)], *[b""] * (len(chunks) - len(proofs))]
    results = measure_bits(chunks, given, topk)
    if len(proofs) > len(chunks):
        reason = f"{len(proofs)} proofs for {len(chunks)} chunks"
        results.append(ChunkResult(mant_err_mean=-1.0, mant_err_median=-1.0, malformed=reason))
    return results


def check_topk(topk: int) -> None:
    """Raises ProofInputError when `topk` is outside 1..2048."""
    if not 1 <= topk <= MAX_TOPK:
        raise ProofInputError(f"topk is {topk}; choose 1 to {MAX_TOPK}")


def _runs(sizes: Sequence[int]) -> Iterator[slice]:
    """Slices of neighbours of one size, each small enough for one batch of k x k matrices."""
    start = 0
    while start < len(sizes):
        k, end = sizes[start], start + 1
        limit = start + max(1, _BATCH_NUMBERS // (k * k))
        while end < min(limit, len(sizes)) and sizes[end] == k:
            end += 1
        yield slice(start, end)
        start = end
