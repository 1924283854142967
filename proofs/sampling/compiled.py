"""The bounds of `proofs.sampling.gumbel_max` in C, where installation could build them.

The shared library is an optional extension: without a compiler NumPy makes the bounds, at several
times the cost. Either way the token is the same, since bounds only say which scores are looked at.
It is no Python module but loaded through ctypes, which lets other threads run meanwhile.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.sampling.noise import Bits

Floats: TypeAlias = npt.NDArray[np.float32]

_POINTER, _FLOAT = ctypes.c_void_p, ctypes.c_float
_ARGUMENTS = (
    _POINTER,
    ctypes.c_size_t,
    _FLOAT,
    _FLOAT,
    _FLOAT,
    ctypes.c_uint64,
    ctypes.c_uint32,
    _POINTER,
    _POINTER,
)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled part, or None where it was not built, or for another machine."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).parent / f"_contest{suffix}"
        if path.is_file():
            try:
                found = ctypes.CDLL(str(path))
            except OSError:
                return None
            found.contest_bounds.argtypes = _ARGUMENTS
            found.contest_bounds.restype = None
            return found
    return None


def bounds_of_whole(
    found: ctypes.CDLL,
    logits: Floats,
    largest: np.float32,
    floor: np.float32,
    scale: np.float32,
    key: int,
    position: int,
) -> tuple[Floats, Bits]:
    """Bounds and bits, both [V], of the tokens 0 to V - 1; V is a multiple of 4.

    A bound is (logit - largest) * scale less the logarithm of step 2. Tokens of blocks with no
    logit within `floor` of the largest have -inf, and undefined bits.
    """
    values = np.ascontiguousarray(logits, dtype=np.float32)
    assert values.ndim == 1
    assert values.size % 4 == 0
    bounds = np.empty(values.size, dtype=np.float32)
    bits = np.empty(values.size, dtype=np.uint32)
    found.contest_bounds(
        values.ctypes.data,
        values.size,
        float(largest),
        float(floor),
        float(scale),
        key,
        position,
        bounds.ctypes.data,
        bits.ctypes.data,
    )
    return bounds, bits
