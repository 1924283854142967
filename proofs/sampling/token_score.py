"""Choosing a token so that a verifier can check the choice.

One implementation serves prover and verifier. The score of token v at a position is

    score_v = logit_v + T * g_v                      (float64; g from `proofs.sampling.noise`)

and the token is the highest-scoring one of the support S: sort by logit (ties: lower id first),
keep the first `top_k`, then the shortest prefix whose probabilities at temperature T, renormalised
over what top-k kept, reach `top_p`. At T = 0 the scores are the logits: greedy decoding is the
limit, and ties go to the lower id.

Token-DiFR (arXiv 2511.20621) measures how far a given token y is from the verifier's own choice:
delta = max over S of score_v - score_y, infinite when y is not in S, clipped to 0.5. Rounding
noise gives zeros and a few small values; another temperature, seed or model gives many at the clip.

Rounding also moves a token over the edge of S, which is no graver than two scores changing places.
So where top-k or top-p is on, with e the lowest logit in S, the edge may be put elsewhere at a
price, and the score is the least change of logits by which y would have been chosen:

    delta = min over c <= logit_y of |c - e| + max over {v: logit_v >= c} of score_v - score_y

In bf16, with top_k 50 and top_p 0.95, that removes most of what honest outputs score otherwise.

A second question, which needs no noise, is `proofs.sampling.surprise`.

Noise is the cost of sampling from a large vocabulary; `proofs.sampling.gumbel_max` finds the winner
without drawing all of it exactly. The filters are exact, not approximations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.errors import ProofError
from proofs.sampling.gumbel_max import winner
from proofs.sampling.noise import gumbel
from proofs.sampling.settings import SamplingSettings
from proofs.sampling.surprise import information
from proofs.sampling.temperature import LEAST

SCORE_CLIP = 0.5

Logits: TypeAlias = npt.NDArray[np.float32]
Scores: TypeAlias = npt.NDArray[np.float64]
TokenIds: TypeAlias = npt.NDArray[np.int64]


class SamplingError(ProofError):
    """Logits or settings no token can be chosen from; the message says which."""


@dataclass(frozen=True, slots=True)
class TokenMeasure:
    """The verifier's own choice at each position and the clipped Token-DiFR of each given token.

    `excess` is X and `variance` V of the module's docstring, both in nats: they add up over blocks.
    """

    chosen: tuple[int, ...]
    scores: tuple[float, ...]
    matches: int
    excess: float = 0.0
    variance: float = 0.0


def support(logits: Logits, temperature: float, top_k: int = 0, top_p: float = 1.0) -> TokenIds:
    """Ascending ids of the tokens that may be chosen from logits [V].

    `top_k` 0 and `top_p` 1 switch those filters off; logits of -inf are never in the support.
    At temperature 0 it is the single greedy token. Raises SamplingError.
    """
    _check(temperature, top_k, top_p)
    values = _checked(logits)
    if temperature == 0.0:
        return np.array([np.argmax(values)], dtype=np.int64)
    ids = _every(values.size)
    if top_k and top_k < values.size:
        cutoff = np.partition(values, values.size - top_k)[values.size - top_k]
        ids = np.flatnonzero(values >= cutoff)
        ids = ids[_by_logit(values[ids])][:top_k]
        values = values[ids]
    if not values.min() > -np.inf:
        finite = values > -np.inf
        ids, values = ids[finite], values[finite]
    if top_p < 1.0:
        weights = np.exp((values.astype(np.float64) - float(values.max())) / temperature)
        total = float(weights.sum())
        # Tokens below this weight hold less than (1 - top_p) together: no sort needs them.
        kept = np.flatnonzero(weights >= (1.0 - top_p) * total / ids.size)
        kept = kept[_by_logit(values[kept])]
        cumulative = np.cumsum(weights[kept])
        ids = ids[kept[: int(np.searchsorted(cumulative, top_p * total)) + 1]]
    filtered = top_k > 0 or top_p < 1.0
    return np.sort(ids).astype(np.int64, copy=False) if filtered else ids


@lru_cache(maxsize=8)
def _every(size: int) -> TokenIds:
    """All ids; shared, because making them anew for every token costs as much as the noise."""
    ids = np.arange(size, dtype=np.int64)
    ids.setflags(write=False)
    return ids


def choose(
    logits: Logits, temperature: float, top_k: int, top_p: float, key: int, position: int
) -> int:
    """The token chosen from logits [V] at `position`, its absolute index in prompt + output.

    Raises SamplingError for NaN, +inf or no finite logits, or settings out of range.
    """
    return _choose(_checked(logits), temperature, top_k, top_p, key, position)[0]


def choose_batch(
    logits: Logits, samplings: Sequence[SamplingSettings], positions: Sequence[int]
) -> list[int]:
    """`choose` for each row of logits [N, V]; row i uses `samplings[i]` at `positions[i]`."""
    rows = np.asarray(logits, dtype=np.float32)
    if rows.ndim != 2 or not len(rows) == len(samplings) == len(positions):
        raise SamplingError(
            f"logits {rows.shape}, {len(samplings)} settings and {len(positions)} positions differ"
        )
    return [
        choose(row, s.temperature, s.top_k, s.top_p, s.noise_key, position)
        for row, s, position in zip(rows, samplings, positions, strict=True)
    ]


def token_score(
    logits: Logits,
    token: int,
    temperature: float,
    top_k: int,
    top_p: float,
    key: int,
    position: int,
) -> float:
    """Clipped Token-DiFR of `token` under logits [V]: 0 for the verifier's own choice, at most 0.5.

    A token far outside the support or the vocabulary scores 0.5. At temperature 0 the support is
    the whole vocabulary: the score is the distance from the largest logit. Raises SamplingError.
    """
    return _measure(_checked(logits), token, temperature, top_k, top_p, key, position).score


def measure_tokens(
    logits: Logits, tokens: Sequence[int], sampling: SamplingSettings, first_position: int
) -> TokenMeasure:
    """Measure output tokens against logits [T, V]; row i gave `tokens[i]`.

    `first_position` is the absolute index of `tokens[0]`, so the prompt's length for a whole
    output. Raises SamplingError.
    """
    rows = np.asarray(logits, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != len(tokens):
        raise SamplingError(f"logits {rows.shape} do not fit {len(tokens)} tokens")
    s = sampling
    measured = [
        _measure(_checked(row), token, s.temperature, s.top_k, s.top_p, s.noise_key, position)
        for position, (row, token) in enumerate(zip(rows, tokens, strict=True), first_position)
    ]
    chosen = tuple(one.choice for one in measured)
    return TokenMeasure(
        chosen=chosen,
        scores=tuple(one.score for one in measured),
        matches=sum(choice == token for choice, token in zip(chosen, tokens, strict=True)),
        excess=sum(one.excess for one in measured),
        variance=sum(one.variance for one in measured),
    )


def _choose(
    logits: Logits, temperature: float, top_k: int, top_p: float, key: int, position: int
) -> tuple[int, float, TokenIds]:
    """The choice, its score and the support, for checked logits."""
    ids = support(logits, temperature, top_k, top_p)
    if temperature == 0.0:
        return int(ids[0]), float(logits[ids[0]]), ids
    values = logits if ids.size == logits.size else logits[ids]
    place, score = winner(values, ids, temperature, key, position)
    return int(ids[place]), score, ids


class _Measured(NamedTuple):
    choice: int
    score: float
    excess: float = 0.0
    variance: float = 0.0


def _measure(
    logits: Logits,
    token: int,
    temperature: float,
    top_k: int,
    top_p: float,
    key: int,
    position: int,
) -> _Measured:
    choice, best, ids = _choose(logits, temperature, top_k, top_p, key, position)
    if temperature == 0.0:
        known = 0 <= token < logits.size
        gap = best - float(logits[token]) if known else SCORE_CLIP
        return _Measured(choice, 0.0 if token == choice else min(max(gap, 0.0), SCORE_CLIP))
    place = int(np.searchsorted(ids, token))
    inside = place < ids.size and int(ids[place]) == token
    values = logits if ids.size == logits.size else logits[ids]
    excess, variance = information(values, temperature, place if inside else -1)
    if token == choice:
        return _Measured(choice, 0.0, excess, variance)
    known = 0 <= token < logits.size and logits[token] > -np.inf
    gap = math.inf
    if known:
        edge = float(logits[ids].min()) if top_k or top_p < 1.0 else -math.inf
        gap = _gap(logits, token, best, edge, inside, temperature, key, position)
    return _Measured(choice, min(max(gap, 0.0), SCORE_CLIP), excess, variance)


def _gap(
    logits: Logits,
    token: int,
    best: float,
    edge: float,
    inside: bool,
    temperature: float,
    key: int,
    position: int,
) -> float:
    """The least change of logits by which `token` would have been chosen instead of `best`; `edge`
    is the support's lowest logit, -inf where nothing was filtered."""
    value = float(logits[token])
    one = np.array([token], dtype=np.int64)
    own = float(_scores(np.array([value]), temperature, key, position, one)[0])
    gap = best - own if inside else math.inf
    if edge == -math.inf or value < edge - SCORE_CLIP:
        return gap
    joined = np.flatnonzero(logits >= min(value, edge))
    values = logits[joined].astype(np.float64)
    order = np.argsort(values)
    scores = _scores(values, temperature, key, position, joined)[order]
    above = np.maximum.accumulate(scores[::-1])[::-1]  # the best of this logit and larger ones
    cuts, first = np.unique(values[order], return_index=True)
    prices = np.abs(cuts - edge) + above[first] - own
    return min(gap, float(prices[cuts <= value].min()))


def _scores(values: Scores, temperature: float, key: int, position: int, ids: TokenIds) -> Scores:
    return values + temperature * gumbel(key, position, ids)


def _by_logit(values: Logits) -> TokenIds:
    """Order by falling value; equal values stay in id order."""
    return np.argsort(-values, kind="stable")


def _check(temperature: float, top_k: int, top_p: float) -> None:
    usable = temperature == 0.0 or LEAST <= temperature < np.inf
    if not (usable and top_k >= 0 and 0.0 < top_p <= 1.0):
        raise SamplingError(
            f"temperature {temperature}, top_k {top_k}, top_p {top_p}: temperature must be 0 or at"
            f" least {LEAST}, top_k at least 0 and top_p in (0, 1]"
        )


def _checked(logits: Logits) -> Logits:
    if logits.ndim != 1 or logits.size == 0:
        raise SamplingError(f"logits have shape {logits.shape}; give one row over the vocabulary")
    if not np.isfinite(logits.max()):
        raise SamplingError(
            "logits hold NaN or +inf, or none is finite; the model's output is unusable"
        )
    return logits
