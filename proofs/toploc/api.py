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
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from proofs.errors import ProofError
from proofs.toploc.chunks import ChunkResult, measure, prove
from proofs.toploc.poly import MalformedProofError, ProofPoly, decode
from proofs.toploc.topk import Points, ProofInputError, check_activations, check_topk, top_points

NO_MATCH = float(2**64)


class ProofCountError(ProofError, ValueError):
    """There are more or fewer proofs than chunks of activations."""


@dataclass
class VerificationResult:
    """Errors of one chunk: unequal exponents, and mantissa differences where exponents agree.

    Both mantissa figures are 2**64 where no exponent agrees. `sign_mismatches` is not in the
    original: unequal signs where exponents agree, which neither equality nor the text form shows.
    """

    exp_mismatches: int
    mant_err_mean: float
    mant_err_median: float
    sign_mismatches: int = field(default=0, compare=False)

    def __repr__(self) -> str:
        return (
            f"VerificationResult[exp_mismatches={self.exp_mismatches}, "
            f"mant_err_mean={self.mant_err_mean:g}, mant_err_median={self.mant_err_median:g}]"
        )


Activations = Sequence[torch.Tensor] | torch.Tensor
Item = TypeVar("Item")


def build_proofs(
    activations: Activations, decode_batching_size: int, topk: int, skip_prefill: bool = False
) -> list[ProofPoly]:
    """One proof a chunk. Raises ProofInputError."""
    proofs = build_proofs_bytes(activations, decode_batching_size, topk, skip_prefill)
    return [ProofPoly.from_bytes(proof) for proof in proofs]


def build_proofs_bytes(
    activations: Activations, decode_batching_size: int, topk: int, skip_prefill: bool = False
) -> list[bytes]:
    """`build_proofs` as bytes."""
    return prove(_points(activations, decode_batching_size, topk, skip_prefill))


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
    texts = [_bytes_of(proof) for proof in _listed(proofs)]
    return verify_proofs_bytes(activations, texts, decode_batching_size, topk, skip_prefill)


def verify_proofs_bytes(
    activations: Activations,
    proofs: Sequence[bytes],
    decode_batching_size: int,
    topk: int,
    skip_prefill: bool = False,
) -> list[VerificationResult]:
    """`verify_proofs` for bytes."""
    groups = _points(activations, decode_batching_size, topk, skip_prefill)
    count, given = sum(len(points.indices) for points in groups), _listed(proofs)
    if len(given) != count:
        raise ProofCountError(
            f"{len(given)} proofs for {count} chunks; give one proof for each chunk"
        )
    # The original takes the upper median in C++, for a tensor of decode steps, and elsewhere in
    # Python the mean of the middle two.
    upper = bool(skip_prefill) and isinstance(activations, torch.Tensor)
    return [_public(result) for result in measure(groups, given, upper)]


def verify_proofs_base64(
    activations: Activations,
    proofs: Sequence[str],
    decode_batching_size: int,
    topk: int,
    skip_prefill: bool = False,
) -> list[VerificationResult]:
    """`verify_proofs` for base64 text."""
    texts = [_decoded(text) for text in _listed(proofs)]
    return verify_proofs_bytes(activations, texts, decode_batching_size, topk, skip_prefill)


def batch_activations(
    activations: Activations, decode_batching_size: int, skip_prefill: bool = False
) -> list[torch.Tensor]:
    """The flat activations [n] of each chunk. Raises ProofInputError."""
    return [
        row for block in _blocks(activations, decode_batching_size, skip_prefill) for row in block
    ]


def _points(activations: Activations, size: int, topk: int, skip_prefill: bool) -> list[Points]:
    check_topk(topk)
    return [top_points(block, topk) for block in _blocks(activations, size, skip_prefill)]


def _blocks(activations: Activations, size: int, skip_prefill: bool) -> list[torch.Tensor]:
    """Chunks as tensors [B, n], equally long neighbours in one where that takes no copy."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ProofInputError(f"decode_batching_size is {size!r:.40}; at least 1 is needed")
    if isinstance(activations, torch.Tensor):
        if activations.dim() != 2:
            raise ProofInputError(
                f"activations have shape {tuple(activations.shape)}; give [steps, hidden size]"
            )
        if not len(activations):
            return []
        steps = check_activations(activations)
        first, size = 0 if skip_prefill else 1, min(size, len(steps))
        full = first + (len(steps) - first) // size * size
        blocks = [steps[:first], steps[first:full].reshape(-1, size * steps.shape[1])]
        return [*(block for block in blocks if len(block)), *_rest(steps[full:])]
    if not isinstance(activations, list | tuple):
        raise ProofInputError(f"activations are a {type(activations).__name__}; give a list")
    flat = [check_activations(step).reshape(-1) for step in activations]
    if len({step.device for step in flat}) > 1:
        raise ProofInputError("activations are on several devices; move them all to one")
    groups = [] if skip_prefill else [flat[:1]]
    groups += [flat[at : at + size] for at in range(len(groups), len(flat), size)]
    return [torch.cat(group)[None] for group in groups if group]


def _rest(steps: torch.Tensor) -> list[torch.Tensor]:
    return [steps.reshape(1, -1)] if len(steps) else []


def _listed(proofs: Sequence[Item]) -> list[Item]:
    if not isinstance(proofs, list | tuple):
        raise ProofCountError(f"proofs are a {type(proofs).__name__}; give a list")
    return list(proofs)


def _bytes_of(proof: object) -> bytes:
    """What a proof is in bytes; b"", which counts as missing, if it is none."""
    try:
        return proof.to_bytes() if isinstance(proof, ProofPoly) else b""
    except MalformedProofError:
        return b""


def _decoded(text: str) -> bytes:
    try:
        return decode(text)
    except MalformedProofError:
        return b""


def _public(result: ChunkResult) -> VerificationResult:
    if result.malformed or result.mant_err_mean < 0:
        return VerificationResult(result.exp_mismatches, NO_MATCH, NO_MATCH)
    return VerificationResult(
        result.exp_mismatches,
        result.mant_err_mean,
        result.mant_err_median,
        result.sign_mismatches,
    )
