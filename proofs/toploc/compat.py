"""Everything of the `toploc` package under its own import names, for software written for it.

    from proofs.toploc import compat
    compat.install()
    from toploc import build_proofs_bytes
    from toploc.C.csrc.poly import VerificationResult

`install` registers modules of those names in this process and changes nothing else. Nothing of the
node uses them. What differs from the original, on purpose, is in docs/reference/toploc.md.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from types import ModuleType

import torch

from proofs.toploc import api
from proofs.toploc.field import MAX_POINTS, PRIME, interpolate
from proofs.toploc.poly import (
    ProofPoly,
    find_injective_modulus,
    horner,
    integers,
)
from proofs.toploc.topk import ProofInputError, check_activations

VERSION = "0.1.6"


def compute_newton_coefficients(x: Sequence[int], y: Sequence[int]) -> list[int]:
    """Ascending coefficients of the polynomial through (x, y), x distinct in 0..65496.

    Raises ProofInputError, or DuplicatePointError where two points share an x.
    """
    points, values = integers(x, "x"), integers(y, "y", PRIME)
    if not 0 < points.size == values.size <= MAX_POINTS:
        raise ProofInputError(
            f"{points.size} and {values.size} numbers; give equally many, 1 to {MAX_POINTS}"
        )
    if int(points.min()) < 0 or int(points.max()) >= PRIME:
        raise ProofInputError(f"x is outside 0..{PRIME - 1}")
    coefficients: list[int] = interpolate(points[None], values[None])[0].tolist()
    return coefficients


def evaluate_polynomial(coefficients: Sequence[int], x: int) -> int:
    """The polynomial with ascending coefficients at x.

    Raises ProofInputError without coefficients, and for what is no integer.
    """
    return evaluate_polynomials(coefficients, [x])[0]


def evaluate_polynomials(coefficients: Sequence[int], x: Sequence[int]) -> list[int]:
    """`evaluate_polynomial` at each x."""
    numbers, points = integers(coefficients, "coefficients", PRIME), integers(x, "x", PRIME)
    if not numbers.size:
        raise ProofInputError("a polynomial without coefficients has no value")
    return [horner(numbers.tolist(), point) for point in points.tolist()]


def get_fp_parts(tensor: torch.Tensor, num_threads: int = 1) -> tuple[list[int], list[int]]:
    """Exponent and mantissa bits of float32 or bfloat16 values, flattened; one thread suffices.

    Raises ProofInputError for any other dtype or device.
    """
    if not isinstance(tensor, torch.Tensor) or tensor.device.type != "cpu":
        raise ProofInputError("give a tensor on the CPU")
    flat = tensor.detach().reshape(-1)
    if flat.dtype == torch.bfloat16:
        bits, width = flat.view(torch.uint16).numpy(), 7
    elif flat.dtype == torch.float32:
        bits, width = flat.view(torch.uint32).numpy(), 23
    else:
        raise ProofInputError(f"tensor is {flat.dtype}; give float32 or bfloat16")
    return (bits >> width & 0xFF).tolist(), (bits & (1 << width) - 1).tolist()


def sha256sum(filename: str, chunk_size: int = 65536) -> str:
    """SHA-256 of a file as hexadecimal digits. Raises OSError."""
    digest = hashlib.sha256()
    with open(filename, "rb") as file:
        while block := file.read(chunk_size):
            digest.update(block)
    return digest.hexdigest()


def verify_proofs(
    activations: torch.Tensor, proofs: Sequence[ProofPoly], decode_batching_size: int, topk: int
) -> list[api.VerificationResult]:
    """`toploc.verify_proofs` of a tensor of decode steps [steps, H]."""
    return api.verify_proofs(
        check_activations(activations), proofs, decode_batching_size, topk, True
    )


def verify_proofs_bytes(
    activations: torch.Tensor, proofs: Sequence[bytes], decode_batching_size: int, topk: int
) -> list[api.VerificationResult]:
    """`verify_proofs` for bytes."""
    return api.verify_proofs_bytes(
        check_activations(activations), proofs, decode_batching_size, topk, True
    )


def verify_proofs_base64(
    activations: torch.Tensor, proofs: Sequence[str], decode_batching_size: int, topk: int
) -> list[api.VerificationResult]:
    """`verify_proofs` for base64 text."""
    return api.verify_proofs_base64(
        check_activations(activations), proofs, decode_batching_size, topk, True
    )


_BUILDERS = {name: getattr(api, name) for name in dir(api) if name.startswith("build_proofs")}
_VERIFIERS = {name: getattr(api, name) for name in dir(api) if name.startswith("verify_proofs")}
_TYPES = {"ProofPoly": ProofPoly, "VerificationResult": api.VerificationResult}
_MODULES: dict[str, dict[str, object]] = {
    "toploc": {
        **_BUILDERS,
        **_VERIFIERS,
        "ProofPoly": ProofPoly,
        "sha256sum": sha256sum,
        "__version__": VERSION,
    },
    "toploc.poly": {
        **_BUILDERS,
        **_VERIFIERS,
        **_TYPES,
        "batch_activations": api.batch_activations,
        "evaluate_polynomials": evaluate_polynomials,
        "find_injective_modulus": find_injective_modulus,
        "get_fp_parts": get_fp_parts,
    },
    "toploc.utils": {"sha256sum": sha256sum},
    "toploc.C": {},
    "toploc.C.csrc": {},
    "toploc.C.csrc.ndd": {
        "compute_newton_coefficients": compute_newton_coefficients,
        "evaluate_polynomial": evaluate_polynomial,
        "evaluate_polynomials": evaluate_polynomials,
    },
    "toploc.C.csrc.poly": {
        **_TYPES,
        "verify_proofs": verify_proofs,
        "verify_proofs_base64": verify_proofs_base64,
        "verify_proofs_bytes": verify_proofs_bytes,
    },
    "toploc.C.csrc.utils": {"get_fp_parts": get_fp_parts},
}


def install() -> None:
    """Make `import toploc` and its submodules mean this package, in this process.

    Raises ProofInputError when the original is loaded already: the two must not be mixed.
    """
    loaded = sys.modules.get("toploc")
    if loaded is not None and getattr(loaded, "__file__", None):
        raise ProofInputError("the original toploc is imported already; install before it is")
    for name, contents in _MODULES.items():
        module = ModuleType(name, "Names of toploc, from proofs.toploc.")
        module.__dict__.update(contents)
        module.__path__ = []
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
