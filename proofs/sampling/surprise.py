"""Is a text as (un)likely as text drawn from the verifier's own distribution would be?

This asks about the text alone and needs no noise, so it still says something where a prover could
choose the noise. Over positions t with the verifier's distribution p_t at the request's
temperature, renormalised over the support, and I_t(v) = min(-ln p_t(v), 8) nats,

    X = sum_t I_t(y_t) - E I_t,    V = sum_t Var I_t,    surprise = X / sqrt(V + 8 |X| / 3)

Honest text gives X mean 0 and variance V, so surprise is about N(0, 1) for long outputs. The term
8 |X| / 3 makes Bernstein's inequality for martingales (Freedman 1975; steps of at most 8) read
P(|surprise| >= u) <= 2 exp(-u**2 / 2) for outputs of any length. Text from a colder, smaller or
greedier model is too likely and drifts below 0, text from a hotter or another one above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

INFORMATION_CLIP = 8.0  # nats


def surprise(excess: float, variance: float) -> float:
    """Standardised surprise of an output: `excess` is X and `variance` V, each summed over its
    tokens. 0.0 where nothing was left to chance (greedy decoding)."""
    scale = variance + INFORMATION_CLIP * abs(excess) / 3.0
    return excess / math.sqrt(scale) if scale > 0.0 else 0.0


def information(
    logits: npt.NDArray[np.float32],
    temperature: float,
    index: int,
    ends: Sequence[int] = (),
) -> tuple[float, float, float]:
    """I(y) - E I and Var I of one position, and the probability of the entries at `ends` together.

    `logits` [n], float32, are those of the support and y is the entry at `index`; a token outside
    the support (-1) counts as the least likely one in it, since its score says the rest already.
    Computed in float32 with sums in float64, and without array products, whose threads would cost
    more than they save here.
    """
    scaled = (logits - logits.max()) / np.float32(temperature)
    weights = np.exp(scaled)
    total = float(weights.sum(dtype=np.float64))
    share = float(weights[list(ends)].sum(dtype=np.float64)) / total if ends else 0.0
    nats = np.minimum(np.float32(math.log(total)) - scaled, np.float32(INFORMATION_CLIP))
    weights *= nats
    mean = float(weights.sum(dtype=np.float64)) / total
    weights *= nats
    square = float(weights.sum(dtype=np.float64)) / total
    own = float(nats[index]) if index >= 0 else float(nats.max())
    return own - mean, max(square - mean * mean, 0.0), share
