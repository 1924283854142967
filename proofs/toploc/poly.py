"""`ProofPoly`: one TOPLOC proof, and its bytes.

Bytes are big-endian: `u16 modulus || u16 c0 ... c(k-1)`; base64 is the standard alphabet. The
modulus m folds the index space into the field: point i sits at x = index mod m, and the prover
takes the largest m <= 65497 that keeps its k indices apart. A proof with modulus 0 and zero
coefficients is the null proof, which the original software sent when something went wrong; it
proves nothing, so it can be represented and recognised here but not evaluated.

`parse` is for bytes from a stranger: it returns a reason instead of a polynomial, and holds the
form to what an honest prover can produce. Were any modulus allowed, m = 1 would put all
points at x = 0, and one constant would pass for all of them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from proofs.errors import ProofError
from proofs.toploc.field import PRIME, Ints, evaluate, interpolate

MIN_MODULUS = 2**15 + 1
MAX_TOPK = 2048


class MalformedProofError(ProofError):
    """Bytes that are no TOPLOC proof; the message says what is wrong with them."""


class ProofInputError(ProofError):
    """Activations or points that cannot be proven or measured; the message says what to change."""


def find_injective_modulus(x: Sequence[int] | Ints) -> int:
    """The largest m <= 65497 for which all `x % m` differ.

    Raises ProofInputError when there is none above 2**15.
    """
    points = np.asarray(x, dtype=np.int64)
    if points.size and int(points.max()) < PRIME and np.unique(points).size == points.size:
        return PRIME
    for modulus in range(PRIME, MIN_MODULUS - 1, -1):
        if np.unique(points % modulus).size == points.size:
            return modulus
    raise ProofInputError(
        f"no modulus keeps {points.size} points apart; use fewer or distinct ones"
    )


@dataclass(eq=True)
class ProofPoly:
    """Coefficients (ascending, in 0..65496) and modulus of one proof."""

    coeffs: list[int]
    modulus: int

    @classmethod
    def from_points(cls, x: Sequence[int], y: Sequence[int]) -> ProofPoly:
        """The proof through points (x, y); x >= 0, y taken mod 65497. Raises ProofInputError."""
        if len(x) != len(y):
            raise ProofInputError(f"x has {len(x)} points and y has {len(y)}; give equally many")
        if not 0 < len(x) <= MAX_TOPK:
            raise ProofInputError(f"{len(x)} points; give 1 to {MAX_TOPK}")
        points = np.asarray(x, dtype=np.int64)
        if int(points.min()) < 0:
            raise ProofInputError("x has a negative value; give indices")
        modulus = find_injective_modulus(points)
        values = np.asarray(y, dtype=np.int64) % PRIME
        return cls(interpolate((points % modulus)[None], values[None])[0].tolist(), modulus)

    @classmethod
    def from_points_tensor(cls, x: torch.Tensor, y: torch.Tensor) -> ProofPoly:
        """As `from_points`, for 1-D tensors; 16-bit floats in y stand for their bits.

        Raises ProofInputError for any other shape or dtype.
        """
        if x.dim() != 1 or y.dim() != 1 or x.dtype not in (torch.int32, torch.int64):
            raise ProofInputError("x must be a 1-D int32 or int64 tensor and y a 1-D tensor")
        if y.dtype in (torch.bfloat16, torch.float16):
            values = (
                y.detach().cpu().contiguous().view(torch.int16).to(torch.int64) & 0xFFFF
            ).tolist()
        elif y.dtype in (torch.int32, torch.int64):
            values = y.tolist()
        else:
            raise ProofInputError(f"y is {y.dtype}; cast it to bfloat16 first")
        return cls.from_points(x.tolist(), values)

    @classmethod
    def null(cls, length: int) -> ProofPoly:
        """The proof that proves nothing: modulus 0 and `length` zeros."""
        return cls([0] * length, 0)

    @property
    def is_null(self) -> bool:
        return self.modulus == 0

    def to_bytes(self) -> bytes:
        """2 + 2k bytes. Raises MalformedProofError when a number does not fit 16 bits."""
        numbers = [self.modulus, *self.coeffs]
        if not all(0 <= number < 2**16 for number in numbers):
            raise MalformedProofError(
                "a coefficient or the modulus is not an unsigned 16-bit number"
            )
        return np.array(numbers, dtype=">u2").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> ProofPoly:
        """Inverse of `to_bytes`; also reads the null proof. Raises MalformedProofError."""
        if len(data) < 4 or len(data) % 2:
            raise MalformedProofError(f"{len(data)} bytes; expected 2 + 2k with k >= 1")
        if len(data) > 2 + 2 * MAX_TOPK:
            raise MalformedProofError(f"{len(data)} bytes; at most {2 + 2 * MAX_TOPK} are allowed")
        numbers = np.frombuffer(data, dtype=">u2").tolist()
        return cls(numbers[1:], numbers[0])

    def to_base64(self) -> str:
        return base64.b64encode(self.to_bytes()).decode("ascii")

    @classmethod
    def from_base64(cls, text: str) -> ProofPoly:
        """Inverse of `to_base64`. Raises MalformedProofError."""
        if len(text) > 4 * (MAX_TOPK + 2):
            raise MalformedProofError("base64 text is too long")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise MalformedProofError("not base64") from exc
        return cls.from_bytes(data)

    def __call__(self, x: int) -> int:
        """The polynomial at `x mod modulus`. Raises MalformedProofError for a null proof."""
        if self.modulus <= 0:
            raise MalformedProofError("a null proof has no value")
        coefficients = np.array([self.coeffs], dtype=np.int64) % PRIME
        return int(evaluate(coefficients, np.array([[x % self.modulus]], dtype=np.int64))[0, 0])

    def __len__(self) -> int:
        return len(self.coeffs)

    def __repr__(self) -> str:
        return f"ProofPoly[{self.modulus}]({self.coeffs})"


def parse(data: bytes, points: int, elements: int) -> tuple[ProofPoly | None, str]:
    """A stranger's proof of a chunk of `elements` values at `points` of them.

    Returns the proof and "", or None and the reason why no honest prover can have made it.
    """
    if not data:
        return None, "missing proof"
    if len(data) != 2 + 2 * points:
        return None, f"{len(data)} bytes instead of {2 + 2 * points}"
    proof = ProofPoly.from_bytes(data)
    if proof.is_null:
        return None, "null proof"
    if not MIN_MODULUS <= proof.modulus <= PRIME:
        return None, f"modulus {proof.modulus} is outside {MIN_MODULUS}..{PRIME}"
    if elements <= PRIME and proof.modulus != PRIME:
        return None, f"modulus {proof.modulus} where {PRIME} keeps all indices apart"
    if max(proof.coeffs) >= PRIME:
        return None, "a coefficient is outside the field"
    return proof, ""
