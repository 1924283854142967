"""TOPLOC in plain numpy, the textbook way: what a straightforward port costs.

Newton's divided differences with one modular inverse each, expanded to monomials; Horner's rule.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

PRIME = 65497
TOPK = 128
Ints = npt.NDArray[np.int64]


def points(rows: torch.Tensor) -> tuple[Ints, Ints]:
    """Indices of the TOPK largest magnitudes, of equals the lowest index, and their bits."""
    bits = rows.view(torch.int16).numpy().reshape(-1).astype(np.int64) & 0xFFFF
    magnitude = bits & 0x7FFF
    cutoff = np.partition(magnitude, -TOPK)[-TOPK]
    above, tied = np.flatnonzero(magnitude > cutoff), np.flatnonzero(magnitude == cutoff)
    indices = np.sort(np.concatenate([above, tied[: TOPK - len(above)]]))
    return indices, bits[indices]


def injective_modulus(indices: Ints) -> int:
    """The largest modulus that keeps the indices apart."""
    modulus = PRIME
    while len(np.unique(indices % modulus)) < len(indices):
        modulus -= 1
    return modulus


def build(rows: torch.Tensor) -> bytes:
    """The proof's bytes, by Newton's interpolation."""
    indices, bits = points(rows)
    modulus = injective_modulus(indices)
    x, divided = indices % modulus, bits % PRIME
    for order in range(1, TOPK):
        gaps = [pow(int(gap), -1, PRIME) for gap in (x[order:] - x[:-order]) % PRIME]
        differences = (divided[order:] - divided[order - 1 : -1]) % PRIME
        divided[order:] = differences * np.array(gaps) % PRIME
    coefficients = np.zeros(TOPK, dtype=np.int64)
    for place in range(TOPK - 1, -1, -1):  # c(X) = c(X) * (X - x_place) + divided_place
        shifted = np.roll(coefficients, 1)
        shifted[0] = divided[place]
        coefficients = (shifted - coefficients * x[place]) % PRIME
    return np.array([modulus, *coefficients], dtype=">u2").tobytes()


def verify(rows: torch.Tensor, proof: bytes) -> tuple[int, float, float]:
    """Exponent mismatches, and mean and median error of the mantissas where exponents agree."""
    numbers = np.frombuffer(proof, dtype=">u2").astype(np.int64)
    indices, own = points(rows)
    x = indices % numbers[0]
    claimed = np.zeros(TOPK, dtype=np.int64)
    for coefficient in numbers[:0:-1]:
        claimed = (claimed * x + coefficient) % PRIME
    agree = (claimed >> 7) & 255 == (own >> 7) & 255
    errors = np.sort(np.abs((claimed & 127)[agree] - (own & 127)[agree]))
    return int((~agree).sum()), float(errors.mean()), float(errors[len(errors) // 2])
