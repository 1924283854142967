"""Gumbel noise that anyone can recompute.

Sampling adds noise T * g_v to every logit and takes the largest (the Gumbel-max trick), so a token
is a deterministic function of logits and noise, and a verifier with the same noise checks it. The
noise therefore depends on nothing but key, position and token: it comes from a counter-based
generator (`proofs.sampling.philox`), whose output for one token of one position needs no other draw
and no state. The same bits come out on every device, in any batch layout; only the two logarithms,
in double precision, may differ in their last bit.

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
from proofs.sampling.philox import Words, draw

TokenIds: TypeAlias = npt.NDArray[np.int64]
Bits: TypeAlias = npt.NDArray[np.uint32]


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


def bits(key: int, position: int, token_ids: TokenIds) -> Bits:
    """The 24 random bits `x` of `token_ids` [n] at `position`, the index in prompt + output.

    Raises NoiseError when the key exceeds 64 bits or a position or id 32 bits.
    """
    _check(key, position)
    if token_ids.size == 0:
        return np.zeros(0, dtype=np.uint32)
    low, high = int(token_ids.min()), int(token_ids.max())
    if low < 0 or high >= 2**32:
        raise NoiseError("a token id is not an unsigned 32-bit number")
    first, last = low >> 2, high >> 2
    if last - first < token_ids.size:  # dense: draw each counter's four lanes once
        lanes = bits_of_blocks(key, position, np.arange(first, last + 1, dtype=np.uint64))
        flat = lanes.reshape(-1)
        if token_ids.size == high - low + 1:  # ids are distinct and ascending: all of them
            return flat[low & 3 : (low & 3) + token_ids.size]
        return flat[token_ids - (first << 2)]
    return bits_at(_word(key), np.array([position]), token_ids)


def bits_of_blocks(key: int, position: int, blocks: Words) -> Bits:
    """The bits of the tokens 4b to 4b + 3 of each block b [n]: [n, 4]. Raises NoiseError."""
    _check(key, position)
    return draw(_word(key), _word(position), blocks)


def bits_at(keys: Words, positions: TokenIds, token_ids: TokenIds) -> Bits:
    """The bits [n] of `token_ids` [n], each at the key and position of its own place; those that
    have only one key and position are [1]. Ids are distinct 32-bit numbers, the caller's to check.

    Raises NoiseError for a position out of range.
    """
    if positions.size and not (int(positions.min()) >= 0 and int(positions.max()) < 2**32):
        raise NoiseError("a position is not an unsigned 32-bit number")
    drawn = draw(keys, positions.astype(np.uint64), (token_ids >> 2).astype(np.uint64))
    words: Bits = drawn[np.arange(token_ids.size), token_ids & 3]
    return words


def _check(key: int, position: int) -> None:
    if not (0 <= key < 2**64 and 0 <= position < 2**32):
        raise NoiseError(f"key {key} or position {position} is out of range")


def _word(value: int) -> Words:
    return np.array([value], dtype=np.uint64)


def gumbel_of(x: Bits) -> npt.NDArray[np.float64]:
    """The standard Gumbel value of 24 random bits."""
    noise: npt.NDArray[np.float64] = -np.log(-np.log((x.astype(np.float64) + 0.5) / 2**24))
    return noise


def gumbel(key: int, position: int, token_ids: TokenIds) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise of `token_ids` [n] at `position`. Raises NoiseError as `bits` does."""
    return gumbel_of(bits(key, position, token_ids))
