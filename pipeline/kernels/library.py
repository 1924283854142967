"""Loading the compiled kernels (`csrc/exact.c`), where installation could build them.

The shared library is built as an optional extension: without a compiler the package installs all
the same, and the engine computes with torch's kernels. It is no Python module: it is loaded through
ctypes, which lets other threads run meanwhile. Nothing here checks shapes; `pipeline.kernels.exact`
does.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_POINTER, _SIZE, _FLOAT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_float

LEVELS = ("portable", "avx2", "avx512")
"""What the kernels are compiled for; all give the same bits."""


class Attention(ctypes.Structure):
    """`struct attention` of exact.c."""

    _fields_ = (
        ("q", _POINTER),
        ("keys", _POINTER),
        ("values", _POINTER),
        ("out", _POINTER),
        ("pieces", _POINTER),
        ("scratch", _POINTER),
        ("q_row", _SIZE),
        ("q_head", _SIZE),
        ("count", _SIZE),
        ("heads", _SIZE),
        ("key_heads", _SIZE),
        ("key_size", _SIZE),
        ("value_size", _SIZE),
        ("blocks", _SIZE),
        ("window", _SIZE),
        ("scale", _FLOAT),
    )


_SIGNATURES: dict[str, tuple[object, ...]] = {
    "exact_use": (ctypes.c_int,),
    "exact_pack": (_POINTER, _POINTER, _SIZE, _SIZE),
    "exact_linear": (_POINTER, _SIZE, *[_POINTER] * 4, *[_SIZE] * 4),
    "exact_norm": (*[_POINTER] * 3, _SIZE, _SIZE, _FLOAT, _SIZE),
    "exact_silu_mul": (_POINTER, _POINTER, *[_SIZE] * 3),
    "exact_put": (
        *(_POINTER, _SIZE, _SIZE) * 2,
        _POINTER,
        *[_SIZE] * 5,
        _POINTER,
        _POINTER,
    ),
    "exact_turn": (
        _POINTER,
        *[_SIZE] * 4,
        _POINTER,
        _FLOAT,
        *[_POINTER] * 3,
    ),
    "exact_attend": (ctypes.POINTER(Attention), _SIZE),
}


@cache
def library() -> ctypes.CDLL | None:
    """The kernels at the best level of this processor, or None where there are none: they were not
    built here, or the processor has no fused multiply-add."""
    folder = Path(__file__).parent
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"_exact{suffix}"
        if path.is_file():
            break
    else:
        return None
    try:
        found = ctypes.CDLL(str(path))
    except OSError:  # built for another machine
        return None
    found.exact_level.restype = ctypes.c_int
    found.exact_scratch.argtypes = (ctypes.POINTER(Attention),)
    found.exact_scratch.restype = _SIZE
    for name, arguments in _SIGNATURES.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    level = best_level(found)
    if level is None:
        return None
    found.exact_use(LEVELS.index(level))
    return found


def best_level(found: ctypes.CDLL) -> str | None:
    """The widest of `LEVELS` that the processor has, None where fused multiply-add lacks."""
    level = int(found.exact_level())
    return LEVELS[level] if level >= 0 else None
