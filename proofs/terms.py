"""The terms of a sequence: by which model and how its tokens are picked, as one signed hash."""

from __future__ import annotations

import hashlib
import struct


def terms_digest(
    model_id: bytes,
    prompt_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    noise_key: int,
) -> bytes:
    """The terms of one sequence that every stage of a ring must have been told alike, 32 bytes.

    sha256 over a tag, the model's id (32 bytes) and the five numbers, big-endian: u32, f64, u32,
    f64, u64. Without it whoever assembles a bundle could name another model in it, and stage 0,
    which passes the terms on, could have the last stage sample by others than were asked for.
    """
    packed = struct.pack(">IdIdQ", prompt_tokens, temperature, top_k, top_p, noise_key)
    return hashlib.sha256(b"prime-node/terms/2\x00" + model_id + packed).digest()
