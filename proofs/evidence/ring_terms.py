"""The terms of a sequence: in which ring and how its tokens are made, as one hash that stages sign.

Whoever assembles a bundle could otherwise put statements from several rings together, or name
another model or other layer boundaries, so that honest work looks wrong; and stage 0, which passes
the sampling on, could have the last stage sample by other values than were asked for.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from proofs.sampling.settings import SamplingSettings


def ring_digest(
    model_id: bytes, group_id: bytes, generation: int, boundaries: Sequence[int]
) -> bytes:
    """One generation of a group: sha256 over a tag, both ids (32 bytes each), the generation (u64)
    and the layers after which stages end (u32 each), big-endian."""
    cut = struct.pack(f">Q{len(boundaries)}I", generation, *boundaries)
    return hashlib.sha256(b"prime-node/ring/1\x00" + model_id + group_id + cut).digest()


def terms_digest(ring: bytes, prompt_tokens: int, sampling: SamplingSettings) -> bytes:
    """The terms of one sequence that every stage of a ring must have been told alike, 32 bytes.

    sha256 over a tag, the ring's digest and, big-endian, the number of prompt tokens (u32),
    temperature (f64), top_k (u32), top_p (f64) and noise key (u64).
    """
    packed = struct.pack(
        ">IdIdQ",
        prompt_tokens,
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.noise_key,
    )
    return hashlib.sha256(b"prime-node/terms/3\x00" + ring + packed).digest()
