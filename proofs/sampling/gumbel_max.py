"""The token with the highest logit + T * g (Gumbel-max), without drawing all noise exactly.

Over a large vocabulary the noise is most of the cost of sampling, for the prover and again for the
verifier. Most tokens cannot win, and that shows in integers:

1. The score of the token with the largest logit is a bound B.
2. 24-bit uniforms keep g below 17.4, so a token with logit < B - 17.4 T is out.
3. A token needs g >= t = (B - logit) / T. Let x be its 24 bits and y = 2**24 - x - 1/2, so that
   u = 1 - y / 2**24. As -ln u >= 1 - u, g = -ln(-ln u) <= -ln(1 - u) = ln(2**24 / y), so
   y <= 2**24 e**-t is needed: one comparison, which about e**-t of the tokens pass.
4. Those few get exact scores in float64.

Steps 2 and 3 are in float32 with room for its rounding: they let too many through, never too few,
so the winner is the same as if every score had been computed.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.sampling.noise import bits, gumbel, gumbel_of

GUMBEL_MAX = 17.4  # -ln(-ln(1 - 2**-25)) = 17.33
_ROUNDING = 4.0 * float(np.finfo(np.float32).eps)

Logits: TypeAlias = npt.NDArray[np.float32]
TokenIds: TypeAlias = npt.NDArray[np.int64]


def winner(
    logits: Logits, ids: TokenIds, temperature: float, key: int, position: int
) -> tuple[int, float]:
    """The index in `ids` of the winning token, and its score.

    `logits` [n] float32 are finite or -inf and belong to the distinct ascending `ids` [n]; the
    temperature is above 0. Ties go to the lower id.
    """
    leader = int(np.argmax(logits))
    bound = float(logits[leader]) + temperature * float(
        gumbel(key, position, ids[leader : leader + 1])[0]
    )
    floor = np.nextafter(np.float32(bound - GUMBEL_MAX * temperature), np.float32(-np.inf))
    able = np.flatnonzero(logits >= floor)
    x = bits(key, position, ids if able.size == ids.size else ids[able])
    # t is off by some units in the last place of the logits, over T; y by one.
    rounding = _ROUNDING * (1.0 + max(abs(bound), abs(float(floor))) / temperature)
    passing = np.exp((logits[able] - np.float32(bound)) / np.float32(temperature))
    limit = np.minimum(passing, 1.0) * np.float32(2**24 * np.exp(min(rounding, 17.0))) + 1.0
    close = np.flatnonzero(np.float32(2**24) - x.astype(np.float32) <= limit)
    scores = logits[able[close]].astype(np.float64) + temperature * gumbel_of(x[close])
    best = int(np.argmax(scores))
    return int(able[close[best]]), float(scores[best])
