"""The list-in, list-out functions of TOPLOC v1, as the `toploc` package names them.

`activations` is a list of bf16 tensors, the prefill first and then one for each decode step, or
with `skip_prefill` decode steps only; a tensor [steps, H] stands for a list of its rows. The
prefill is one chunk; decode steps make chunks of `decode_batching_size`.

Where the original crashes, passes or swallows the problem, these raise a subclass of `ProofError`
or give a failing result: input that is not finite bf16 raises `ProofInputError`, another number of
proofs than chunks raises `ProofCountError`, and a null or malformed proof fails its chunk with
`VerificationResult(k, 2**64, 2**64)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from proofs.errors import ProofError
from proofs.toploc.chunks import (
    Bits,
    ChunkResult,
    bits_of,
    build_bits_proofs,
    check_topk,
    measure_bits,
)
from proofs.toploc.poly import MalformedProofError, ProofInputError, ProofPoly

NO_MATCH = float(2**64)


class ProofCountError(ProofError):
    """There are more or fewer proofs than chunks of activations."""


@dataclass
class VerificationResult:
    """Errors of one chunk: unequal exponents, and mantissa differences where exponents agree.

    Both mantissa figures are 2**64 where no exponent agrees.
    """

    exp_mismatches: int
    mant_err_mean: float
    mant_err_median: float


Activations = Sequence[torch.Tensor] | torch.Tensor


def build_proofs(
    activations: Activations, decode_batching_size: int, topk: int, skip_prefill: bool = False
) -> list[ProofPoly]:
    """One proof a chunk. Raises ProofInputError."""
    return build_bits_proofs(_chunks(activations, decode_batching_size, topk, skip_prefill), topk)


def build_proofs_bytes(
    activations: Activations, decode_batching_size: int, topk: int, skip_prefill: bool = False
) -> list[bytes]:
    """`build_proofs` as bytes."""
    proofs = build_proofs(activations, decode_batching_size, topk, skip_prefill)
    return [proof.to_bytes() for proof in proofs]


def build_proofs_base64(
    activations: Activations, decode_batching_size: int, topk: int, skip_prefill: bool = False
) -> list[str]:
    """`build_proofs` as base64 text."""
    proofs = build_proofs(activations, decode_batching_size, topk, skip_prefill)
    return [proof.to_base64() for proof in proofs]


def verify_proofs(
    activations: Activations,
    proofs: Sequence[ProofPoly],
    decode_batching_size: int,
    topk: int,
    skip_prefill: bool = False,
) -> list[VerificationResult]:
    """One result a chunk. Raises ProofInputError or ProofCountError."""
    return verify_proofs_bytes(
        activations, [_bytes_of(p) for p in proofs], decode_batching_size, topk, skip_prefill
    )


def verify_proofs_bytes(
    activations: Activations,
    proofs: Sequence[bytes],
    decode_batching_size: int,
    topk: int,
    skip_prefill: bool = False,
) -> list[VerificationResult]:
    """`verify_proofs` for bytes."""
    chunks = _chunks(activations, decode_batching_size, topk, skip_prefill)
    if len(proofs) != len(chunks):
        raise ProofCountError(
            f"{len(proofs)} proofs for {len(chunks)} chunks; give one proof for each chunk"
        )
    return [_public(result) for result in measure_bits(chunks, proofs, topk)]


def verify_proofs_base64(
    activations: Activations,
    proofs: Sequence[str],
    decode_batching_size: int,
    topk: int,
    skip_prefill: bool = False,
) -> list[VerificationResult]:
    """`verify_proofs` for base64 text."""
    return verify_proofs_bytes(
        activations, [_decoded(text) for text in proofs], decode_batching_size, topk, skip_prefill
    )


def _chunks(
    activations: Activations, decode_batching_size: int, topk: int, skip_prefill: bool
) -> list[Bits]:
    if decode_batching_size < 1:
        raise ProofInputError(
            f"decode_batching_size is {decode_batching_size}; at least 1 is needed"
        )
    check_topk(topk)
    steps = [step.reshape(-1) for step in activations]
    if len({step.dtype for step in steps}) > 1:
        raise ProofInputError("activations mix dtypes; cast them all with .to(torch.bfloat16)")
    first = 0 if skip_prefill else 1
    groups = [steps[:first]] if first and steps else []
    groups += [
        steps[start : start + decode_batching_size]
        for start in range(first, len(steps), decode_batching_size)
    ]
    return [bits_of(torch.cat(group)) for group in groups]


def _bytes_of(proof: ProofPoly) -> bytes:
    try:
        return proof.to_bytes()
    except MalformedProofError:
        return b""  # numbers that fit no proof: measured as a missing one


def _decoded(text: str) -> bytes:
    try:
        return ProofPoly.from_base64(text).to_bytes()
    except MalformedProofError:
        return b""


def _public(result: ChunkResult) -> VerificationResult:
    if result.malformed or result.mant_err_mean < 0:
        return VerificationResult(result.exp_mismatches, NO_MATCH, NO_MATCH)
    return VerificationResult(result.exp_mismatches, result.mant_err_mean, result.mant_err_median)
