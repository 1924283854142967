"""`ProofPoly`: one TOPLOC proof, and its bytes.

Bytes are big-endian: `u16 modulus || u16 c0 ... c(k-1)`; base64 is the standard alphabet. The
modulus m folds the index space into the field: point i sits at x = index mod m, and the prover
takes the largest m <= 65497 that keeps its k indices apart. A proof with modulus 0 and zero
coefficients is the null proof, which the original software sent when something went wrong; it
proves nothing, so it can be represented and recognised here but not evaluated.
"""

from __future__ import annotations

import base64
import binascii
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from proofs.errors import ProofError
from proofs.toploc.field import MAX_POINTS, PRIME, Ints, interpolate
from proofs.toploc.topk import ProofInputError

MIN_MODULUS = 2**15 + 1
_POINT_TYPES = (torch.int32, torch.uint32, torch.int64)


class MalformedProofError(ProofError, ValueError):
    """Bytes that are no TOPLOC proof; the message says what is wrong with them."""


def find_injective_modulus(x: Sequence[int] | Ints) -> int:
    """The largest m <= 65497 for which all `x % m` differ.

    Raises ProofInputError when there is none above 2**15, or x is no sequence of integers.
    """
    points = x if isinstance(x, np.ndarray) and x.dtype == np.int64 else integers(x, "x")
    for modulus in range(PRIME, MIN_MODULUS - 1, -1):
        ordered = np.sort(points % modulus)
        if (ordered[1:] != ordered[:-1]).all():
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
        points = integers(x, "x")
        values = integers(y, "y", PRIME)
        if points.size != values.size:
            raise ProofInputError(
                f"x has {points.size} points and y has {values.size}; give equally many"
            )
        if not 0 < points.size <= MAX_POINTS:
            raise ProofInputError(f"{points.size} points; give 1 to {MAX_POINTS}")
        if int(points.min()) < 0:
            raise ProofInputError("x has a negative value; give indices")
        modulus = find_injective_modulus(points)
        return cls(interpolate((points % modulus)[None], values[None])[0].tolist(), modulus)

    @classmethod
    def from_points_tensor(cls, x: torch.Tensor, y: torch.Tensor) -> ProofPoly:
        """As `from_points`, for 1-D tensors; 16-bit floats in y stand for their bits.

        Raises ProofInputError for any other shape or dtype.
        """
        for tensor in (x, y):
            if not isinstance(tensor, torch.Tensor) or tensor.dim() != 1 or tensor.is_meta:
                raise ProofInputError("x and y must be 1-D tensors with data")
        if x.dtype not in _POINT_TYPES:
            raise ProofInputError(f"x is {x.dtype}; give int32 or int64 indices")
        if y.dtype in (torch.bfloat16, torch.float16):
            y = y.detach().contiguous().view(torch.int16).to(torch.int64) & 0xFFFF
        elif y.dtype not in _POINT_TYPES:
            raise ProofInputError(f"y is {y.dtype}; cast it to bfloat16 first")
        return cls.from_points(x.tolist(), y.tolist())

    @classmethod
    def null(cls, length: int) -> ProofPoly:
        """The proof that proves nothing: modulus 0 and `length` zeros. Raises ProofInputError."""
        if not isinstance(length, int) or not 0 <= length <= MAX_POINTS:
            raise ProofInputError(f"length is {length!r:.40}; choose one up to {MAX_POINTS}")
        return cls([0] * length, 0)

    @property
    def is_null(self) -> bool:
        """Whether this is the null proof, which proves nothing."""
        return self.modulus == 0

    def to_bytes(self) -> bytes:
        """2 + 2k bytes. Raises MalformedProofError when a number does not fit 16 bits."""
        try:
            numbers = [operator.index(number) for number in (self.modulus, *self.coeffs)]
        except TypeError as exc:
            raise MalformedProofError("a coefficient or the modulus is not an integer") from exc
        if len(numbers) > MAX_POINTS + 1:
            raise MalformedProofError(f"{len(numbers) - 1} coefficients; at most {MAX_POINTS}")
        if not all(0 <= number < 2**16 for number in numbers):
            raise MalformedProofError(
                "a coefficient or the modulus is not an unsigned 16-bit number"
            )
        return np.array(numbers, dtype=">u2").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> ProofPoly:
        """Inverse of `to_bytes`; also reads the null proof. Raises MalformedProofError."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise MalformedProofError(f"a proof is bytes, not {type(data).__name__}")
        data = bytes(data)
        if len(data) < 4 or len(data) % 2:
            raise MalformedProofError(f"{len(data)} bytes; expected 2 + 2k with k >= 1")
        if len(data) > 2 + 2 * MAX_POINTS:
            raise MalformedProofError(
                f"{len(data)} bytes; at most {2 + 2 * MAX_POINTS} are allowed"
            )
        numbers = np.frombuffer(data, dtype=">u2").tolist()
        return cls(numbers[1:], numbers[0])

    def to_base64(self) -> str:
        """`to_bytes` as standard base64 text."""
        return base64.b64encode(self.to_bytes()).decode("ascii")

    @classmethod
    def from_base64(cls, base64_str: str) -> ProofPoly:
        """Inverse of `to_base64`; reads ASCII bytes as well. Raises MalformedProofError."""
        return cls.from_bytes(decode(base64_str))

    def __call__(self, x: int) -> int:
        """The polynomial at `x mod modulus`.

        Raises MalformedProofError for a null proof, and where anything is not an integer.
        """
        try:
            x, modulus, *coefficients = map(operator.index, (x, self.modulus, *self.coeffs))
        except TypeError as exc:
            raise MalformedProofError("x, modulus and coefficients must be integers") from exc
        if modulus <= 0:
            raise MalformedProofError("a null proof has no value")
        return horner(coefficients, x % modulus)

    def __len__(self) -> int:
        return len(self.coeffs)

    def __repr__(self) -> str:
        return f"ProofPoly[{self.modulus}]({self.coeffs})"


def horner(coefficients: Sequence[int], x: int) -> int:
    """The polynomial with ascending `coefficients` at x, in the field."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def decode(text: str | bytes) -> bytes:
    """The bytes of a base64 proof. Raises MalformedProofError before it decodes anything long."""
    if not isinstance(text, str | bytes):
        raise MalformedProofError(f"a base64 proof is text, not {type(text).__name__}")
    if len(text) > 4 * (MAX_POINTS + 2):
        raise MalformedProofError("base64 text is too long")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise MalformedProofError("not base64") from exc


def integers(numbers: Iterable[int], name: str, modulus: int = 0) -> Ints:
    """Python integers as int64, reduced first where there is a modulus. Raises ProofInputError."""
    try:
        values = [operator.index(number) for number in numbers]
        return np.array([v % modulus for v in values] if modulus else values, dtype=np.int64)
    except (TypeError, OverflowError) as exc:
        raise ProofInputError(f"{name} must be a sequence of 64-bit integers") from exc
