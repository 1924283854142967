"""Tails of distributions: how likely it is that honest work looks as bad as this."""

from __future__ import annotations

import math

from proofs.sampling.token_score import SCORE_CLIP


def binomial_tail(trials: int, count: int, rate: float) -> float:
    """P(X >= count) for X ~ Binomial(trials, rate), exactly but for rounding."""
    if count <= 0:
        return 1.0
    if count > trials or rate <= 0.0:
        return 0.0
    if rate >= 1.0 or count <= rate * trials:
        return 1.0 if rate >= 1.0 else 1.0 - _below(trials, count, rate)
    return _from(trials, count, rate)


def score_exponent(tokens: int, score_sum: float, rate: float) -> float:
    """-ln of a bound on the probability that n scores in [0, c] of mean `rate` sum to so much."""
    if tokens == 0:
        return 0.0
    share, mean = score_sum / (tokens * SCORE_CLIP), rate / SCORE_CLIP
    if share <= mean:
        return 0.0
    if not 0.0 < mean < 1.0 or not share <= 1.0:
        return math.inf
    rest = (1.0 - share) * math.log((1.0 - share) / (1.0 - mean)) if share < 1.0 else 0.0
    return tokens * (share * math.log(share / mean) + rest)


def _from(trials: int, count: int, rate: float) -> float:
    """The upper tail where its terms fall: count > rate * trials."""
    term = _term(trials, count, rate)
    total, odds = 0.0, rate / (1.0 - rate)
    while term > total * 1e-17 and count <= trials:
        total += term
        term *= (trials - count) / (count + 1) * odds
        count += 1
    return min(total, 1.0)


def _below(trials: int, count: int, rate: float) -> float:
    """P(X < count) where count <= rate * trials: the lower tail, whose terms fall downwards."""
    at = count - 1
    term, total = _term(trials, at, rate), 0.0
    while at >= 0 and term > total * 1e-17:
        total += term
        term *= at / (trials - at + 1) * (1.0 - rate) / rate
        at -= 1
    return min(total, 1.0)


def _term(trials: int, count: int, rate: float) -> float:
    log_choose = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
    return math.exp(log_choose + count * math.log(rate) + (trials - count) * math.log1p(-rate))
