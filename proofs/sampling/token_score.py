"""How far a given token is from the one that the verifier would have chosen.

Token-DiFR (arXiv 2511.20621) compares scores as `proofs.sampling.choosing` defines them, over the
support S: for a given token y,

    delta = max over S of score_v - score_y,

infinite when y is not in S. Rounding noise gives zeros and a few small values; another temperature,
seed or model gives many large ones, and a token that was put in one of some logits, however short
the output is. A single token is therefore judged by its whole score, which ends at `SCORE_CAP`, far
beyond any noise. Means need bounded scores: `SCORE_CLIP` is where each counts in full.

Rounding also moves a token over the edge of S, which is no graver than two scores changing order.
So where top-k or top-p is on, with e the lowest logit in S, the edge may be put elsewhere at a
price, and delta is the least change of logits by which y would have been chosen:

    delta = min over c <= logit_y of |c - e| + max over {v: logit_v >= c} of score_v - score_y

In bf16, with top_k 50 and top_p 0.95, that removes most of what honest outputs score otherwise.

A second question, which needs no noise, is `proofs.sampling.surprise`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.sampling.choosing import (
    Logits,
    SamplingError,
    TokenIds,
    checked_logits,
    choose_with_score,
)
from proofs.sampling.ends import NO_EVIDENCE, EndEvidence, end_evidence, joined
from proofs.sampling.noise import gumbel
from proofs.sampling.settings import SamplingSettings
from proofs.sampling.surprise import information

SCORE_CAP = 16.0
SCORE_CLIP = 0.5

Scores: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TokenMeasure:
    """The verifier's own choice at each position and the Token-DiFR of each given token.

    `excess` is X (nats) and `variance` V (nats squared) of `proofs.sampling.surprise`, `ends` what
    the tokens tell about ends (`proofs.sampling.ends`); all add up over the blocks of an output.
    """

    chosen: tuple[int, ...]
    scores: tuple[float, ...]
    matches: int
    excess: float = 0.0
    variance: float = 0.0
    ends: EndEvidence = NO_EVIDENCE


def token_score(
    logits: Logits,
    token: int,
    temperature: float,
    top_k: int,
    top_p: float,
    key: int,
    position: int,
) -> float:
    """Token-DiFR of `token` under logits [V]: 0 for the verifier's own choice, at most `SCORE_CAP`.

    A token far outside the support or the vocabulary scores that. At temperature 0 the support is
    the whole vocabulary: the score is the distance from the largest logit. Raises SamplingError.
    """
    return _measure(checked_logits(logits), token, temperature, top_k, top_p, key, position).score


def measure_tokens(
    logits: Logits,
    tokens: Sequence[int],
    sampling: SamplingSettings,
    first_position: int,
    eos_ids: Sequence[int] = (),
) -> TokenMeasure:
    """Measure output tokens against logits [T, V]; row i gave `tokens[i]`.

    `first_position` is the absolute index of `tokens[0]`, so the prompt's length for a whole
    output; `eos_ids` end one. Raises SamplingError.
    """
    rows = np.asarray(logits, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != len(tokens):
        raise SamplingError(f"logits {rows.shape} do not fit {len(tokens)} tokens")
    measured = [
        _measure(
            checked_logits(row),
            token,
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
            sampling.noise_key,
            position,
            eos_ids,
        )
        for position, (row, token) in enumerate(zip(rows, tokens, strict=True), first_position)
    ]
    chosen = tuple(one.choice for one in measured)
    return TokenMeasure(
        chosen=chosen,
        scores=tuple(one.score for one in measured),
        matches=sum(choice == token for choice, token in zip(chosen, tokens, strict=True)),
        excess=sum(one.excess for one in measured),
        variance=sum(one.variance for one in measured),
        ends=joined([one.ends for one in measured]),
    )


class _Measured(NamedTuple):
    choice: int
    score: float
    excess: float = 0.0
    variance: float = 0.0
    ends: EndEvidence = NO_EVIDENCE


def _measure(
    logits: Logits,
    token: int,
    temperature: float,
    top_k: int,
    top_p: float,
    key: int,
    position: int,
    eos_ids: Sequence[int] = (),
) -> _Measured:
    choice, best, ids = choose_with_score(logits, temperature, top_k, top_p, key, position)
    if temperature == 0.0:
        known = 0 <= token < logits.size
        gap = best - float(logits[token]) if known else SCORE_CAP
        return _Measured(choice, 0.0 if token == choice else min(max(gap, 0.0), SCORE_CAP))
    index = int(np.searchsorted(ids, token))
    inside = index < ids.size and int(ids[index]) == token
    values = logits if ids.size == logits.size else logits[ids]
    ends = _places(ids, eos_ids)
    excess, variance, share = information(values, temperature, index if inside else -1, ends)
    told = end_evidence(share, token in eos_ids) if eos_ids else NO_EVIDENCE
    if token == choice:
        return _Measured(choice, 0.0, excess, variance, told)
    known = 0 <= token < logits.size and logits[token] > -np.inf
    gap = math.inf
    if known:
        edge = float(logits[ids].min()) if top_k or top_p < 1.0 else -math.inf
        gap = _gap(logits, token, best, edge, inside, temperature, key, position)
    return _Measured(choice, min(max(gap, 0.0), SCORE_CAP), excess, variance, told)


def _places(ids: TokenIds, wanted: Sequence[int]) -> list[int]:
    """Where in the sorted ids of a support those wanted are, as far as they are in it."""
    places = [int(np.searchsorted(ids, token)) for token in set(wanted)]
    return [at for at in places if at < ids.size and int(ids[at]) in wanted]


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
    if edge == -math.inf or value < edge - SCORE_CAP:
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
