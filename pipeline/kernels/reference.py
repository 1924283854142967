"""What the kernels must give for known rows, bit by bit, before anybody relies on them.

Validators convict by a single differing bit within an exact kernel class, so a machine must not
claim one on which the kernels, for whatever reason (a processor's, a compiler's), give other bits
than everywhere else. The widest instruction set whose result has the digest below is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache

import torch

from pipeline.kernels.exact import KeyValues, Panels, Pieces, rms_norm, silu_mul, turn
from pipeline.kernels.library import LEVELS, best_level, library

DIGEST = "7248b9bc33e24d3964b57e78bef93bbabf9dfd649875a8d3fc6c61f1c1447058"
"""SHA-256 of `results`, as all levels of version 1 of the kernels give them."""


@cache
def usable() -> bool:
    """Whether the kernels are built, this processor can run them, and they give the right bits."""
    found = library()
    if found is None:
        return False
    best = best_level(found)
    assert best is not None, "the library is not loaded on such a processor"

    def digest(level: str) -> str:
        found.exact_use(LEVELS.index(level))
        return results()

    level = first_right(reversed(LEVELS[: LEVELS.index(best) + 1]), digest)
    if level is None:
        return False
    found.exact_use(LEVELS.index(level))
    return True


def first_right(levels: Iterable[str], digest: Callable[[str], str]) -> str | None:
    """The first level whose results are right, None where none's are."""
    return next((level for level in levels if digest(level) == DIGEST), None)


def results() -> str:
    """SHA-256 over what every kernel makes of known rows, by the level in use; milliseconds."""
    count, heads, size = 21, 4, 32
    parts = [
        Panels(known(97, 300), known(97)).times(known(count, 300), known(count, 97)),
        rms_norm(known(count, 200) * 7, known(200), 1e-5),
        silu_mul(known(count, 2 * 130) * 30),
    ]
    angle = known(count, size)
    queries = turn(known(count, heads * size), heads, angle, angle.flip(0), known(size), 1e-6)
    held = KeyValues(4 * count, heads // 2, size, size + 5)
    for offset in (0, 2 * count):
        keys = known(count, heads // 2, size + offset)[:, :, :size]
        values = known(count, heads // 2, size + 5 + offset)[:, :, : size + 5]
        held.put(keys, values, torch.arange(offset, offset + count))
    whole, later = (0, 0, 13, 0), (2 * count, 13, count - 13, 13)
    for window in (0, 6):
        parts.append(held.attend(queries, Pieces.of([whole, later]), 0.37, window))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def known(*shape: int) -> torch.Tensor:
    """Values in [-1, 1) that are the same on every machine: multiples of 2⁻²³."""
    numbers = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.int64)
    mixed = (numbers * 2_654_435_761 + len(shape) * 40_503) % 2**32 // 2**8
    return (mixed.float() / 2**23 - 1).view(shape)
