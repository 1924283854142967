"""Gumbel noise that anyone can recompute.

Sampling adds noise T * g_v to every logit and takes the largest (the Gumbel-max trick), so a token
is a deterministic function of logits and noise, and a verifier with the same noise checks it. The
noise therefore depends on nothing but key, position and token: it comes from a counter-based
generator, Philox-4x32-10
(Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), whose output for one token
of one position needs no other draw and no state. The same bits come out on every device, in any
batch layout; only the two logarithms, in double precision, may differ in their last bit.

Layout: the 64-bit key is (low word, high word). The counter is (token_id >> 2, position, 0, 0) and
the token's word is lane token_id & 3 of the four. `x` is that word's top 24 bits,
u = (x + 1/2) / 2**24 lies strictly inside (0, 1), and g = -ln(-ln u).

The beacon must not be known before a worker has taken the job: whoever can choose the key can try
keys until cheap tokens pass.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.errors import ProofError

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

Words: TypeAlias = npt.NDArray[np.uint64]


class NoiseError(ProofError):
    """A key, position or token id outside its range; the message names it."""


def noise_key(
    beacon: bytes, request_id: bytes, prompt_ids: Sequence[int], sample_index: int
) -> int:
    """The 64-bit Philox key of one sampled answer.

    The first 8 bytes (little-endian) of sha256 over a domain tag and the length-prefixed beacon and
    request id (at most 64 KiB each), the prompt's sha256 (u32 little-endian ids) and the sample
    index (u64). Raises NoiseError for an id or index out of range.
    """
    if max(len(beacon), len(request_id)) > 0xFFFF:
        raise NoiseError("beacon or request id is longer than 65535 bytes")
    if not 0 <= sample_index < 2**64:
        raise NoiseError(f"sample index {sample_index} is not an unsigned 64-bit number")
    ids = np.asarray(prompt_ids, dtype=np.int64)
    if ids.size and not (int(ids.min()) >= 0 and int(ids.max()) < 2**32):
        raise NoiseError("a prompt token id is not an unsigned 32-bit number")
    hasher = hashlib.sha256(b"prime-node/noise-key/v1\x00")
    for part in (beacon, request_id, hashlib.sha256(ids.astype("<u4").tobytes()).digest()):
        hasher.update(struct.pack("<H", len(part)) + part)
    hasher.update(struct.pack("<Q", sample_index))
    return int.from_bytes(hasher.digest()[:8], "little")


def philox(key: int, counter: Sequence[Words | np.uint64]) -> tuple[Words, ...]:
    """Philox-4x32-10: the four 32-bit words of counters, arrays [n] or scalars -> four arrays [n].

    Words are kept in 64 bits, because the rounds need whole products.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(_ROUNDS):
        left, right = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0 = (right >> _HALF) ^ c1 ^ np.uint64(k0)
        c2 = (left >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = right & _WORD, left & _WORD
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return tuple(np.atleast_1d(word) for word in (c0, c1, c2, c3))


def bits(key: int, position: int, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """The 24 random bits `x` of `token_ids` [n] at `position`, the index in prompt + output.

    Raises NoiseError when the key exceeds 64 bits or a position or id 32 bits.
    """
    if not (0 <= key < 2**64 and 0 <= position < 2**32):
        raise NoiseError(f"key {key} or position {position} is out of range")
    if token_ids.size == 0:
        return np.zeros(0, dtype=np.uint32)
    low, high = int(token_ids.min()), int(token_ids.max())
    if low < 0 or high >= 2**32:
        raise NoiseError("a token id is not an unsigned 32-bit number")
    first, last = low >> 2, high >> 2
    if last - first < token_ids.size:  # dense: draw each counter's four lanes once
        lanes = _draw(key, position, np.arange(first, last + 1, dtype=np.uint64)).reshape(-1)
        if token_ids.size == high - low + 1:  # ids are distinct and ascending: all of them
            return lanes[low & 3 : (low & 3) + token_ids.size]
        return lanes[token_ids - (first << 2)]
    drawn = _draw(key, position, (token_ids >> 2).astype(np.uint64))
    words: npt.NDArray[np.uint32] = drawn[np.arange(token_ids.size), token_ids & 3]
    return words


def gumbel_of(x: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """The standard Gumbel value of 24 random bits."""
    noise: npt.NDArray[np.float64] = -np.log(-np.log((x.astype(np.float64) + 0.5) / 2**24))
    return noise


def gumbel(key: int, position: int, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise of `token_ids` [n] at `position`. Raises NoiseError as `bits` does."""
    return gumbel_of(bits(key, position, token_ids))


def _draw(key: int, position: int, blocks: Words) -> npt.NDArray[np.uint32]:
    """Top 24 bits of the four words of each counter, [n, 4]."""
    zero = np.uint64(0)
    words = philox(key, (blocks, np.uint64(position), zero, zero))
    lanes = np.empty((len(blocks), 4), dtype=np.uint32)
    for lane, word in enumerate(words):
        lanes[:, lane] = word >> np.uint64(8)
    return lanes
