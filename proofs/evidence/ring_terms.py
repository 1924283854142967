"""The terms of a sequence: in which ring and how its tokens are made, as one hash that stages sign.

Whoever assembles a bundle could otherwise put statements from several rings together, or name
another model or other layer boundaries, so that honest work looks wrong; and stage 0, which passes
the sampling on, could have the last stage sample by other values than were asked for.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence


def ring_digest(
    model_id: bytes, group_id: bytes, generation: int, boundaries: Sequence[int]
) -> bytes:
    """One build of a group: sha256 over a tag, both ids (32 bytes each), the generation (u64) and
    the layers after which stages end (u32 each), big-endian."""
    cut = struct.pack(f">Q{len(boundaries)}I", generation, *boundaries)
    return hashlib.sha256(b"prime-node/ring/1\x00" + model_id + group_id + cut).digest()


def terms_digest(
    ring: bytes,
    prompt_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    noise_key: int,
) -> bytes:
    """The terms of one sequence that every stage of a ring must have been told alike, 32 bytes.

    sha256 over a tag, the ring's digest and the five numbers, big-endian: u32, f64, u32, f64, u64.
    """
    packed = struct.pack(">IdIdQ", prompt_tokens, temperature, top_k, top_p, noise_key)
    return hashlib.sha256(b"prime-node/terms/3\x00" + ring + packed).digest()
