"""The terms of a sequence: how its tokens are to be picked, as one hash that every stage signs."""

from __future__ import annotations

import hashlib
import struct


def terms_digest(
    prompt_tokens: int, temperature: float, top_k: int, top_p: float, noise_key: int
) -> bytes:
    """The terms of one sequence that every stage of a ring must have been told alike, 32 bytes.

    sha256 over a tag and the five values, big-endian: u32, f64, u32, f64, u64. Without it stage 0,
    which passes the terms on, could have the last stage sample by others than were asked for.
    """
    packed = struct.pack(">IdIdQ", prompt_tokens, temperature, top_k, top_p, noise_key)
    return hashlib.sha256(b"prime-node/terms/1\x00" + packed).digest()
