"""Philox-4x32-10, a counter-based generator, on whole arrays of counters.

(Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.) A round multiplies two of
the four 32-bit words and mixes the products' halves with the other two and the key:

    c0, c1, c2, c3 = hi(c2 M1) ^ c1 ^ k0, lo(c2 M1), hi(c0 M0) ^ c3 ^ k1, lo(c0 M0)

`philox` is that, for any counter. `draw` gives the same words for counters (block, position, 0, 0)
with less work: the first two rounds are nearly constant, and the others are done in place, a few
thousand counters at a time, so that they stay in a core's cache. That matters because these rounds
are most of the cost of sampling from a whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_TILE = 16384  # counters: six arrays of 128 KiB

Words: TypeAlias = npt.NDArray[np.uint64]

# As arrays: NumPy takes a microsecond to make one of a scalar.
_WORD = np.array([0xFFFFFFFF], dtype=np.uint64)
_HALF = np.array([32], dtype=np.uint64)
_M0, _M1 = (np.array([value], dtype=np.uint64) for value in _MULTIPLIERS)
_W0, _W1 = (np.array([value], dtype=np.uint64) for value in _WEYL)
_BYTE = np.array([8], dtype=np.uint32)


def philox(key: int, counter: Sequence[Words | np.uint64]) -> tuple[Words, ...]:
    """The four 32-bit words of counters, arrays [n] or scalars -> four arrays [n].

    Words are kept in 64 bits, because the rounds need whole products.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(_ROUNDS):
        left, right = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0 = (right >> np.uint64(32)) ^ c1 ^ np.uint64(k0)
        c2 = (left >> np.uint64(32)) ^ c3 ^ np.uint64(k1)
        c1, c3 = right & _WORD, left & _WORD
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return tuple(np.atleast_1d(word) for word in (c0, c1, c2, c3))


def draw(keys: Words, positions: Words, blocks: Words) -> npt.NDArray[np.uint32]:
    """The top 24 bits of the four words of counters (block, position, 0, 0): [n, 4].

    `blocks` [n]; `keys` (64-bit) and `positions` are [n] as well, or [1] for all of them.
    """
    out = np.empty((len(blocks), 4), dtype=np.uint32)
    for start in range(0, len(blocks), _TILE):
        tile = slice(start, start + _TILE)
        key = keys if len(keys) == 1 else keys[tile]
        position = positions if len(positions) == 1 else positions[tile]
        _draw_tile(key, position, blocks[tile], out[tile])
    return out


def _draw_tile(key: Words, position: Words, block: Words, out: npt.NDArray[np.uint32]) -> None:
    k0, k1 = key & _WORD, key >> _HALF
    c0, c1, c2, c3, left, right = np.empty((6, len(block)), dtype=np.uint64)
    # First round: c2 is 0, so that only the left product counts.
    np.multiply(block, _M0, out=left)
    np.right_shift(left, _HALF, out=c2)
    np.bitwise_xor(c2, k1, out=c2)
    np.bitwise_and(left, _WORD, out=c3)
    first = position ^ k0
    # Second round: c0 is that, c1 is 0.
    k0, k1 = (k0 + _W0) & _WORD, (k1 + _W1) & _WORD
    product = first * _M0
    np.multiply(c2, _M1, out=right)
    np.right_shift(right, _HALF, out=c0)
    np.bitwise_xor(c0, k0, out=c0)
    np.bitwise_xor(c3, (product >> _HALF) ^ k1, out=c2)
    np.bitwise_and(right, _WORD, out=c1)
    c3[:] = product & _WORD
    for _ in range(_ROUNDS - 2):
        k0, k1 = (k0 + _W0) & _WORD, (k1 + _W1) & _WORD
        np.multiply(c0, _M0, out=left)
        np.multiply(c2, _M1, out=right)
        np.right_shift(right, _HALF, out=c0)
        np.bitwise_xor(c0, c1, out=c0)
        np.bitwise_xor(c0, k0, out=c0)
        np.right_shift(left, _HALF, out=c2)
        np.bitwise_xor(c2, c3, out=c2)
        np.bitwise_xor(c2, k1, out=c2)
        np.bitwise_and(right, _WORD, out=c1)
        np.bitwise_and(left, _WORD, out=c3)
    # Two words to a 64-bit one, so that half as many are put in their places.
    pairs = out.view(np.uint64) if np.little_endian else None
    for lane, (low, high) in enumerate(((c0, c1), (c2, c3))):
        if pairs is not None:
            np.left_shift(high, _HALF, out=left)
            np.bitwise_or(left, low, out=pairs[:, lane])
        else:
            out[:, 2 * lane], out[:, 2 * lane + 1] = low, high
    np.right_shift(out, _BYTE, out=out)
