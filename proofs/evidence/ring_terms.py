"""The terms of a sequence: in which ring, how its tokens are made and when it has to end, as one
hash that stages sign.

Whoever assembles a bundle could otherwise put statements from several rings together, or name
another model or other layer boundaries, so that honest work looks wrong; and stage 0, which passes
the sampling on, could have the last stage sample by other values than were asked for. The same hash
binds what ends the output: a bundle that names other stop strings than stage 0 was told blames
nobody, and a stage 0 that goes on past the ones it signed for is at fault.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from proofs.evidence.sequence import SequenceRequest
from proofs.sampling.settings import SamplingSettings


def ring_digest(
    model_id: bytes, group_id: bytes, generation: int, boundaries: Sequence[int]
) -> bytes:
    """One generation of a group: sha256 over a tag, both ids (32 bytes each), the generation (u64)
    and the layers after which stages end (u32 each), big-endian."""
    cut = struct.pack(f">Q{len(boundaries)}I", generation, *boundaries)
    return hashlib.sha256(b"prime-node/ring/1\x00" + model_id + group_id + cut).digest()


def ending_digest(request: SequenceRequest) -> bytes:
    """What ends an output, 32 bytes: sha256 over a tag and, big-endian, max_tokens (u32), the
    number of end-of-sequence ids and these (u32 each), and each stop string as the length of its
    UTF-8 bytes (u32) and the bytes."""
    eos = request.eos_ids
    digest = hashlib.sha256(b"prime-node/ending/1\x00")
    digest.update(struct.pack(f">II{len(eos)}I", request.max_tokens, len(eos), *eos))
    for stop in request.stop:
        text = stop.encode()
        digest.update(struct.pack(">I", len(text)) + text)
    return digest.digest()


def terms_digest(
    ring: bytes, prompt_tokens: int, sampling: SamplingSettings, ending: bytes
) -> bytes:
    """The terms of one sequence that every stage of a ring must have been told alike, 32 bytes.

    sha256 over a tag, the ring's digest and, big-endian, the number of prompt tokens (u32),
    temperature (f64), top_k (u32), top_p (f64) and noise key (u64), and the `ending_digest`.
    """
    packed = struct.pack(
        ">IdIdQ",
        prompt_tokens,
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.noise_key,
    )
    return hashlib.sha256(b"prime-node/terms/4\x00" + ring + packed + ending).digest()


def request_terms(ring: bytes, request: SequenceRequest) -> bytes:
    """The terms of a request in the ring of that digest."""
    return terms_digest(ring, len(request.prompt_ids), request.sampling, ending_digest(request))
