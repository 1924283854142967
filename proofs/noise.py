"""Gumbel noise that anyone can recompute.

Sampling adds noise T * g_v to every logit and takes the largest (the Gumbel-max trick), so a token
is a deterministic function of logits and noise, and a verifier with the same noise checks it. The
noise therefore depends on nothing but its place: it is a counter-based generator, Philox-4x32-10
(Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), whose output for one token
of one position needs no other draw and no state. The same bits come out on every device, in any
batch layout; only the two logarithms, in double precision, may differ in their last bit.

Layout: the 64-bit key is (low word, high word). The counter is (token_id >> 2, position, 0, 0) and
the token's word is lane token_id & 3 of the four. `x` is that word's top 24 bits,
u = (x + 1/2) / 2**24 lies strictly inside (0, 1), and g = -ln(-ln u).

`beacon` must be fixed only after a worker took the job: whoever could choose the key could try keys
until cheap tokens pass.
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


def philox(key: int, counters: Words) -> Words:
    """Philox-4x32-10: counters [4, n] of 32-bit words under a 64-bit key -> [4, n] words."""
    c0, c1, c2, c3 = counters
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(_ROUNDS):
        left, right = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (right >> _HALF) ^ c1 ^ np.uint64(k0),
            right & _WORD,
            (left >> _HALF) ^ c3 ^ np.uint64(k1),
            left & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def gumbel(key: int, position: int, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise of `token_ids` [n] at `position`, the index in prompt + output.

    Raises NoiseError when the key exceeds 64 bits or a position or id 32 bits.
    """
    if not (0 <= key < 2**64 and 0 <= position < 2**32):
        raise NoiseError(f"key {key} or position {position} is out of range")
    if token_ids.size == 0:
        return np.zeros(0)
    low, high = int(token_ids.min()), int(token_ids.max())
    if low < 0 or high >= 2**32:
        raise NoiseError("a token id is not an unsigned 32-bit number")
    if (high >> 2) - (low >> 2) < token_ids.size:  # dense: draw each counter's four lanes once
        blocks = np.arange(low >> 2, (high >> 2) + 1, dtype=np.uint64)
        words = _draw(key, position, blocks).T.reshape(-1)[token_ids - (low & ~3)]
    else:
        lanes = (token_ids & 3, np.arange(token_ids.size))
        words = _draw(key, position, (token_ids >> 2).astype(np.uint64))[lanes]
    uniform = ((words >> np.uint64(8)).astype(np.float64) + 0.5) / 2**24
    noise: npt.NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


def _draw(key: int, position: int, blocks: Words) -> Words:
    zeros = np.zeros_like(blocks)
    return philox(key, np.stack([blocks, np.full_like(blocks, position), zeros, zeros]))
