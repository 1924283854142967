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

Steps 1 and 2 are also there in C (`proofs.sampling.compiled`), where most of the time goes.

All steps leave room for their rounding, and for that of the exact scores: they let too many
through, never too few, so the winner is the same as if every score had been computed.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.sampling.compiled import bounds_of_whole, library
from proofs.sampling.noise import Bits, TokenIds, bits, bits_of_blocks, gumbel, gumbel_of

GUMBEL_MAX = 17.4  # -ln(-ln(1 - 2**-25)) = 17.33
_ROUNDING = 1e-3  # nats; float32 is off by at most 3e-5 where a token can win
_SCORE_ROUNDING = 2.0**-50  # of float64 scores, relative to the logits
_DENSE = 0.9  # of all blocks of four tokens: picking them out costs more than it saves
SPREAD = 1 / 64
"""Share of the ids up to the last from which on the compiled part looks at them all."""
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
    if ids.size > SPREAD * int(ids[-1]) and ids.size <= int(ids[-1]) and library() is not None:
        spread = np.full(int(ids[-1]) + 1, -np.inf, dtype=np.float32)
        spread[ids] = logits
        every = np.arange(spread.size)
        token, score = winner(spread, every, temperature, key, position, leader_noise)
        return int(np.searchsorted(ids, token)), score
    slack = _ROUNDING + _SCORE_ROUNDING * (abs(largest) / temperature + 40.0)
    with np.errstate(over="ignore"):
        floor = np.float32((leader_noise - GUMBEL_MAX - slack) * temperature)
    contest = _whole if ids.size == int(ids[-1]) + 1 else _part
    places, bounds, x = contest(logits, ids, floor, temperature, key, position)
    best = int(np.argmax(bounds))
    distance = float(logits[places[best]]) - largest
    reached = distance / temperature + float(gumbel_of(x[best : best + 1])[0])
    needed = _ONE * ((reached - slack) / math.log(2.0) - 152.0)
    close = np.flatnonzero(bounds >= np.float32(needed))
    places = places[close]
    scores = logits[places].astype(np.float64) + temperature * gumbel_of(x[close])
    won = int(np.argmax(scores))
    return int(places[won]), float(scores[won])


def _part(
    logits: Logits, ids: TokenIds, floor: np.float32, temperature: float, key: int, position: int
) -> tuple[TokenIds, Distances, Bits]:
    """Places of the tokens that can win, their bounds and their bits."""
    distances = _distances(logits)
    able = np.flatnonzero(distances >= floor)
    x = bits(key, position, ids[able])
    return able, _bounds(distances[able], x, temperature), x


def _whole(
    logits: Logits, ids: TokenIds, floor: np.float32, temperature: float, key: int, position: int
) -> tuple[TokenIds, Distances, Bits]:
    """The same for ids 0 to V - 1, by whole blocks of four tokens: one that cannot win may be among
    them, with its bound."""
    over = -logits.size % 4
    if over:
        logits = np.append(logits, np.full(over, -np.inf, dtype=np.float32))
        ids = np.arange(logits.size)
    compiled = library()
    if compiled is not None:
        scale = _scale(temperature)
        return ids, *bounds_of_whole(compiled, logits, logits.max(), floor, scale, key, position)
    distances = _distances(logits)
    alive = (distances >= floor).view(np.uint32)
    blocks = np.flatnonzero(alive)
    if blocks.size > _DENSE * alive.size:
        blocks = np.arange(alive.size)
    else:
        ids = ids.reshape(-1, 4)[blocks].reshape(-1)
        distances = distances.reshape(-1, 4)[blocks].reshape(-1)
    x = bits_of_blocks(key, position, blocks.astype(np.uint64)).reshape(-1)
    return ids, _bounds(distances, x, temperature), x


def _distances(logits: Logits) -> Distances:
    with np.errstate(over="ignore"):
        distances: Distances = logits - logits.max()
    return distances


def _scale(temperature: float) -> np.float32:
    return np.float32(_ONE / (temperature * math.log(2.0)))


def _bounds(distances: Distances, x: Bits, temperature: float) -> Distances:
    """The bound of step 2 in units of 2**23 / ln 2, less its constant 152."""
    twice_y = np.uint32(2**25 - 1) - (x << np.uint32(1))
    logarithms = twice_y.astype(np.float32).view(np.int32).astype(np.float32)
    with np.errstate(over="ignore"):
        scaled: Distances = distances * _scale(temperature)
    scaled -= logarithms
    return scaled
