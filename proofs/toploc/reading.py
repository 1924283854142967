"""Reading proofs that came from a stranger.

Every proof becomes a row of numbers or a reason why no honest prover can have made it; nothing
raises. The form is held to what an honest prover can produce. Were any modulus allowed, m = 1 would
put all points at x = 0, and one constant would pass for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proofs.toploc.field import PRIME, Floats
from proofs.toploc.poly import MIN_MODULUS

_NUMBER = np.dtype(">u2")


def read_proofs(
    proofs: Sequence[object], points: int, folded: bool
) -> tuple[Floats, dict[int, str]]:
    """Modulus and coefficients of each proof of a chunk, and what is wrong with the bad ones.

    Args:
        points: k, the number of points of every chunk.
        folded: whether the chunks have more values than the field has elements.

    Returns:
        [B, 1 + k] numbers, with a harmless proof in place of each bad one, and reasons by index.
    """
    size = 2 + 2 * points
    reasons: dict[int, str] = {}
    texts: list[bytes] = []
    for index, proof in enumerate(proofs):
        if not isinstance(proof, bytes) or len(proof) != size:
            reasons[index] = _not_of_size(proof, size)
            proof = b"\xff\xd9" + bytes(size - 2)
        texts.append(proof)
    numbers = (
        np.frombuffer(b"".join(texts), dtype=_NUMBER).astype(np.float64).reshape(-1, 1 + points)
    )
    moduli = numbers[:, 0]
    bad = np.maximum.reduce(numbers[:, 1:], axis=1) >= PRIME
    bad |= (moduli < MIN_MODULUS) | (moduli > PRIME) if folded else moduli != PRIME
    for index in bad.nonzero()[0].tolist():
        reasons[index] = _not_honest(int(moduli[index]))
        numbers[index] = 0
        numbers[index, 0] = PRIME
    return numbers, reasons


def _not_of_size(proof: object, size: int) -> str:
    if not isinstance(proof, bytes):
        return f"{type(proof).__name__} instead of bytes"
    return f"{len(proof)} bytes instead of {size}" if proof else "missing proof"


def _not_honest(modulus: int) -> str:
    if modulus == 0:
        return "null proof"
    if not MIN_MODULUS <= modulus <= PRIME:
        return f"modulus {modulus} is outside {MIN_MODULUS}..{PRIME}"
    if modulus != PRIME:
        return f"modulus {modulus} where {PRIME} keeps all indices apart"
    return "a coefficient is outside the field"
