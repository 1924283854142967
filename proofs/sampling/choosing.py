"""Choosing a token so that a verifier can check the choice.

One implementation serves prover and verifier. The score of token v at a position is

    score_v = logit_v + T * g_v                      (float64; g from `proofs.sampling.noise`)

and the token is the highest-scoring one of the support S: sort by logit (ties: lower id first),
keep the first `top_k`, then the shortest prefix whose probabilities at temperature T, renormalised
over what top-k kept, reach `top_p`. At T = 0 the scores are the logits: greedy decoding is the
limit, and ties go to the lower id.

Noise is the cost of sampling from a large vocabulary; `proofs.sampling.gumbel_max` finds the winner
without drawing all of it exactly. The filters are exact, not approximations, but they look closely
at few tokens: `proofs.sampling.filters`. The noise of a batch's short lists is drawn at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.errors import ProofError
from proofs.sampling.filters import largest, nucleus
from proofs.sampling.gumbel_max import winner
from proofs.sampling.noise import bits_at, gumbel_of
from proofs.sampling.settings import SamplingSettings
from proofs.sampling.temperature import MIN_TEMPERATURE

Logits: TypeAlias = npt.NDArray[np.float32]
TokenIds: TypeAlias = npt.NDArray[np.int64]

SHORT = 1024
"""Supports up to this size are scored whole."""


class SamplingError(ProofError):
    """Logits or settings no token can be chosen from; the message says which."""


def support(logits: Logits, temperature: float, top_k: int = 0, top_p: float = 1.0) -> TokenIds:
    """Ascending ids of the tokens that may be chosen from logits [V].

    `top_k` 0 and `top_p` 1 switch those filters off; logits of -inf are never in the support.
    At temperature 0 it is the single greedy token. Raises SamplingError.
    """
    _check(temperature, top_k, top_p)
    values = checked_logits(logits)
    if temperature == 0.0:
        return np.array([np.argmax(values)], dtype=np.int64)
    ids = _every(values.size)
    if top_k and top_k < values.size:
        ids = largest(values, top_k)
        values = values[ids]
    if not values.min() > -np.inf:
        finite = values > -np.inf
        ids, values = ids[finite], values[finite]
    if top_p < 1.0:
        ids = ids[nucleus(values, temperature, top_p)]
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
    return choose_with_score(checked_logits(logits), temperature, top_k, top_p, key, position)[0]


def choose_batch(
    logits: Logits, samplings: Sequence[SamplingSettings], positions: Sequence[int]
) -> list[int]:
    """`choose` for each row of logits [N, V]; row i uses `samplings[i]` at `positions[i]`."""
    rows = np.asarray(logits, dtype=np.float32)
    if rows.ndim != 2 or not len(rows) == len(samplings) == len(positions):
        raise SamplingError(
            f"logits {rows.shape}, {len(samplings)} settings and {len(positions)} positions differ"
        )
    return [pick.token for pick in _pick(rows, samplings, positions)]


@dataclass(slots=True)
class _Pick:
    """A row's support [n], and its token once it is known."""

    row: Logits
    ids: TokenIds
    sampling: SamplingSettings
    position: int
    token: int = -1

    @property
    def listed(self) -> TokenIds:
        """The ids whose noise is drawn together with that of other rows: all of a short support,
        of a long one the first of the largest logits."""
        if self.ids.size <= SHORT:
            return self.ids
        leader = int(np.argmax(self.values))
        return self.ids[leader : leader + 1]

    @property
    def values(self) -> Logits:
        """The support's logits [n]."""
        return self.row if self.ids.size == self.row.size else self.row[self.ids]


def _pick(
    rows: Logits, samplings: Sequence[SamplingSettings], positions: Sequence[int]
) -> list[_Pick]:
    picks = []
    for row, each, position in zip(rows, samplings, positions, strict=True):
        ids = support(row, each.temperature, each.top_k, each.top_p)
        picks.append(_Pick(row, ids, each, position))
        if ids.size == 1:
            picks[-1].token = int(ids[0])
    open_ = [pick for pick in picks if pick.token < 0]
    if not open_:
        return picks
    listed = [pick.listed for pick in open_]
    sizes = [ids.size for ids in listed]
    keys = np.repeat(np.array([p.sampling.noise_key for p in open_], dtype=np.uint64), sizes)
    places = np.repeat(np.array([p.position for p in open_], dtype=np.int64), sizes)
    noise = gumbel_of(bits_at(keys, places, np.concatenate(listed)))
    start = 0
    for pick, ids in zip(open_, listed, strict=True):
        drawn, start = noise[start : start + ids.size], start + ids.size
        temperature, values = pick.sampling.temperature, pick.values
        if ids.size == pick.ids.size:
            scores = values.astype(np.float64) + temperature * drawn
            pick.token = int(ids[int(np.argmax(scores))])
            continue
        key, leader = pick.sampling.noise_key, float(drawn[0])
        index, _ = winner(values, pick.ids, temperature, key, pick.position, leader)
        pick.token = int(pick.ids[index])
    return picks


def choose_with_score(
    logits: Logits, temperature: float, top_k: int, top_p: float, key: int, position: int
) -> tuple[int, float, TokenIds]:
    """The choice, its score and the ids of the support [n], for `checked_logits`."""
    ids = support(logits, temperature, top_k, top_p)
    if temperature == 0.0:
        return int(ids[0]), float(logits[ids[0]]), ids
    values = logits if ids.size == logits.size else logits[ids]
    index, score = winner(values, ids, temperature, key, position)
    return int(ids[index]), score, ids


def _check(temperature: float, top_k: int, top_p: float) -> None:
    usable = temperature == 0.0 or MIN_TEMPERATURE <= temperature < np.inf
    if not (usable and top_k >= 0 and 0.0 < top_p <= 1.0):
        raise SamplingError(
            f"temperature {temperature}, top_k {top_k}, top_p {top_p}: temperature must be 0 or at"
            f" least {MIN_TEMPERATURE}, top_k at least 0 and top_p in (0, 1]"
        )


def checked_logits(logits: Logits) -> Logits:
    """`logits` themselves, a row [V].

    Raises SamplingError where no token can be chosen from them: no row, NaN, +inf, none finite.
    """
    if logits.ndim != 1 or logits.size == 0:
        raise SamplingError(f"logits have shape {logits.shape}; give one row over the vocabulary")
    if not np.isfinite(logits.max()):
        raise SamplingError(
            "logits hold NaN or +inf, or none is finite; the model's output is unusable"
        )
    return logits
