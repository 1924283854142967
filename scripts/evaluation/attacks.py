"""Dishonest provers: rings that compute something cheaper, and proofs made without the work."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipeline.runner.local_ring import LocalRing
from pipeline.runner.stage import StageRunner, StepItem
from proofs.toploc import ProofPoly, build_row_proofs

PRIME = 65497
Proofs = tuple[bytes, ...]


class MixedRing(LocalRing):
    """Serves a share of all tokens from `cheap` stages; both keep a cache of everything."""

    def __init__(
        self, stages: Sequence[StageRunner], cheap: Sequence[StageRunner], share: float, batch: int
    ) -> None:
        super().__init__(stages, batch, max_batch_tokens=512)
        self._cheap = LocalRing(cheap, batch, max_batch_tokens=512)
        self._share = share

    def forward(self, items: Sequence[StepItem], inputs: torch.Tensor) -> list[torch.Tensor]:
        good, cheap = super().forward(items, inputs), self._cheap.forward(items, inputs)
        chosen = torch.tensor(
            [
                _uniform(item.sequence, item.start + offset) < self._share
                for item in items
                for offset in range(item.count)
            ]
        )
        return [torch.where(chosen[:, None], c, g) for g, c in zip(good, cheap, strict=True)]

    def runners(self) -> list[StageRunner]:
        return [*super().runners(), *self._cheap.runners()]


def quantise_cache(stages: Sequence[StageRunner]) -> None:
    """An fp8 (e4m3, scale 1) KV cache: keys, before their rotation, and values are rounded."""

    def rounded(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        return output.clamp(-448, 448).to(torch.float8_e4m3fn).to(output.dtype)

    found = 0
    for stage in stages:
        for name, module in stage.slice.stack.named_modules():
            if name.endswith((".k_proj", ".v_proj")):
                module.register_forward_hook(rounded)
                found += 1
    if not found:
        raise ValueError("this architecture has no k_proj and v_proj to quantise")


def constant_proofs(proofs: Sequence[Proofs], others: Sequence[torch.Tensor]) -> list[Proofs]:
    """Constant polynomials: at every point the value most frequent among the largest of a stage's
    rows in another sequence, which is the best that a constant can do."""
    forged = []
    for own, rows in zip(proofs, others, strict=True):
        bits = rows.to(torch.bfloat16).view(torch.int16).numpy().reshape(-1).astype(np.int64)
        bits &= 0xFFFF
        largest = bits[np.argsort(-(bits & 0x7FFF))[: 4 * len(own) * 32]]
        value = int(np.bincount(largest).argmax())
        forged.append(
            tuple(
                ProofPoly([value] + [0] * (len(proof) // 2 - 2), PRIME).to_bytes() for proof in own
            )
        )
    return forged


def random_proofs(proofs: Sequence[Proofs], seed: int) -> list[Proofs]:
    """Well-formed proofs of nothing."""
    generator = np.random.default_rng(seed)
    return [
        tuple(
            ProofPoly(generator.integers(0, PRIME, len(p) // 2 - 1).tolist(), PRIME).to_bytes()
            for p in own
        )
        for own in proofs
    ]


def negated_proofs(stages: Sequence[torch.Tensor]) -> list[Proofs]:
    """Proofs of the same rows with every sign turned round, stage by stage."""
    return [tuple(build_row_proofs(-rows.to(torch.bfloat16))) for rows in stages]


def malformed_proofs(proofs: Sequence[Proofs], kind: int) -> list[Proofs]:
    """One broken proof in an otherwise honest set, in one of several ways."""
    first, *rest = proofs[-1]
    numbers = np.frombuffer(first, dtype=">u2").astype(int).tolist()
    broken: Proofs = (
        (bytes(len(first)), *rest),  # the null proof
        (first[:-2], *rest),
        (first[:-1], *rest),
        (b"", *rest),
        (np.array([1, *numbers[1:]], dtype=">u2").tobytes(), *rest),  # all points at x = 0
        (np.array([PRIME, PRIME, *numbers[2:]], dtype=">u2").tobytes(), *rest),
        tuple(rest),
        (first, *rest, first),
    )[kind % 8]
    return [*proofs[:-1], broken]


MALFORMED_KINDS = 8


def _uniform(sequence: bytes, position: int) -> float:
    digest = hashlib.sha256(sequence + position.to_bytes(4, "little")).digest()
    return int.from_bytes(digest[:4], "little") / 2**32
