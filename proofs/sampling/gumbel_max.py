"""The token with the highest logit + T * g (Gumbel-max), scoring hardly any token exactly.

Over a large vocabulary the noise is most of the cost of sampling, for the prover and again for the
verifier. Most tokens cannot win, and cheap bounds show it. With d the distance of a logit from the
largest one, L, and all scores as (score - L) / T:

1. 24-bit uniforms keep g below 17.4, and the score of the token with the largest logit is at
   hand. So a token with d / T + 17.4 below that score is out, and needs no noise at all.
2. Let x be a token's 24 bits and y = 2**24 - x - 1/2, so that u = 1 - y / 2**24. Since
   -ln u >= 1 - u, g = -ln(-ln u) <= -ln(y / 2**24). The logarithm need not be computed: the bits of
   a float32, read as an integer k, are a piecewise linear log2 that is never above and at most 0.09
   below the true one, k / 2**23 - 127 <= log2. So with float32 arithmetic alone

       (score - L) / T <= d / T + ln 2 (152 - k / 2**23),    k of the float32 nearest to 2 y.

3. The token with the largest such bound gets its exact score; whoever's bound is below that is out.
4. The few that are left get exact scores in float64.

All steps leave room for their rounding, and for that of the exact scores: they let too many
through, never too few, so the winner is the same as if every score had been computed.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.sampling.noise import Bits, TokenIds, bits, bits_of_blocks, gumbel, gumbel_of

GUMBEL_MAX = 17.4  # -ln(-ln(1 - 2**-25)) = 17.33
_ROUNDING = 1e-3  # nats; float32 is off by at most 3e-5 where a token can win
_SCORE_ROUNDING = 2.0**-50  # of float64 scores, relative to the logits
_DENSE = 0.9  # of all blocks of four tokens: picking them out costs more than it saves
_ONE = 2.0**23  # the bits of a float32, read as an integer, per unit of log2

Logits: TypeAlias = npt.NDArray[np.float32]
Distances: TypeAlias = npt.NDArray[np.float32]


def winner(
    logits: Logits,
    ids: TokenIds,
    temperature: float,
    key: int,
    position: int,
    leader_noise: float | None = None,
) -> tuple[int, float]:
    """The index in `ids` of the winning token, and its score.

    `logits` [n] float32 are finite or -inf and belong to the distinct ascending `ids` [n]; the
    temperature is above 0. `leader_noise` is g of the first of the largest logits, where the caller
    knows it. Ties go to the lower id.
    """
    leader = int(np.argmax(logits))
    largest = float(logits[leader])
    if leader_noise is None:
        leader_noise = float(gumbel(key, position, ids[leader : leader + 1])[0])
    slack = _ROUNDING + _SCORE_ROUNDING * (abs(largest) / temperature + 40.0)
    with np.errstate(over="ignore"):
        distances = logits - logits[leader]
        floor = np.float32((leader_noise - GUMBEL_MAX - slack) * temperature)
    whole = ids.size == int(ids[-1]) + 1
    if whole:
        able, distances, x = _of_whole(distances, floor, key, position)
    else:
        able = np.flatnonzero(distances >= floor)
        distances, x = distances[able], bits(key, position, ids[able])
    bounds = _bounds(distances, x, temperature)
    best = int(np.argmax(bounds))
    reached = float(distances[best]) / temperature + float(gumbel_of(x[best : best + 1])[0])
    needed = _ONE * ((reached - slack) / math.log(2.0) - 152.0)
    close = np.flatnonzero(bounds >= np.float32(needed))
    places = able[close >> 2] * 4 + (close & 3) if whole else able[close]
    scores = logits[places].astype(np.float64) + temperature * gumbel_of(x[close])
    won = int(np.argmax(scores))
    return int(places[won]), float(scores[won])


def _of_whole(
    distances: Distances, floor: np.float32, key: int, position: int
) -> tuple[TokenIds, Distances, Bits]:
    """For ids 0 to V - 1: the blocks of four tokens in which one can win, with the distances and
    bits of all their tokens."""
    if over := -distances.size % 4:
        distances = np.append(distances, np.full(over, -np.inf, dtype=np.float32))
    alive = (distances >= floor).view(np.uint32)
    blocks = np.flatnonzero(alive)
    if blocks.size > _DENSE * alive.size:
        blocks = np.arange(alive.size)
    else:
        distances = distances.reshape(-1, 4)[blocks].reshape(-1)
    x = bits_of_blocks(key, position, blocks.astype(np.uint64))
    return blocks, distances, x.reshape(-1)


def _bounds(distances: Distances, x: Bits, temperature: float) -> Distances:
    """The bound of step 2 in units of 2**23 / ln 2, less its constant 152."""
    twice_y = np.uint32(2**25 - 1) - (x << np.uint32(1))
    logarithms = twice_y.astype(np.float32).view(np.int32).astype(np.float32)
    with np.errstate(over="ignore"):
        scaled: Distances = distances * np.float32(_ONE / (temperature * math.log(2.0)))
    scaled -= logarithms
    return scaled
