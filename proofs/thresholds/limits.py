"""How far from the verifier's own numbers is still honest.

Three units are judged, each by limits that honest runs keep (`proofs.thresholds.calibration` finds
them):

- a **chunk** of 32 rows of one stage fails when it exceeds a limit, or no exponent matched at all;
- a **sequence** of one stage fails when the mean over its chunks exceeds a tighter limit, which
  sees a small error that is there in every chunk. A single chunk has the chunk limits alone.
  Noise grows with depth, so early stages have limits of their own, `sequence_mant_at`;
- a sequence's **sampling** fails by tail probability, so one rule is right for any length: with
  `mismatch_rate` the honest share of tokens that differ from the verifier's choice, the exact
  binomial tail P(X >= mismatches) must be at least `tail`; with `score_rate` the honest mean score,
  scores being in [0, c], the sum S over n tokens must keep

      n * KL(S / nc || score_rate / c) <= ln(1 / tail)      (Chernoff; Hoeffding 1963, theorem 1)

  whose left side exceeds the right with probability at most `tail`. That treats every score as
  clipped; where honest scores are many and small, their moment generating function is tighter: with
  `score_growth` = ln E exp(8 score) of an honest token, 8 S - n score_growth must be at most
  ln(1 / tail) (Markov). One or two unlucky tokens of a short output stay possible: P(X >= 1) =
  1 - (1 - p)^n is far above `tail`. `score_max` bounds a single token's score, not clipped: a token
  that no rounding explains fails an output of one token. `surprise` bounds the standardised
  surprise (`proofs.sampling.surprise`), two-sided.

`eos_score` bounds the score of an end-of-sequence token by itself, because ending early costs a
single token; `SCORE_CAP`, where scores end, switches it off.

`rows_error` is for disputes, where a stage reveals whole rows x that are compared with the
verifier's own y, [N, H] over all positions of a sequence, each channel by its own scale:

    e = sqrt(mean_ij(((x_ij - y_ij) / (c_j + tiny))^2)),   c_j = mean_i |y_ij|

Exceeding a limit is reason to refuse pay: it happens to honest work at the rate for which the
limits were calibrated. Taking stake needs more. `convicting` gives limits far outside that noise;
what lies between the two is only doubted: it is not paid, and it is counted
(`proofs.thresholds.drift`).

Unit-wide limits (`score_mean`, `match_rate`) apply to all tokens of a unit together, where `spare`
tokens may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from proofs.sampling.token_score import SCORE_CAP, SCORE_CLIP
from proofs.thresholds.measures import ChunkMeasure
from proofs.thresholds.tails import binomial_tail, score_exponent

CONVICTING = 2
SCORE_TILT = 8.0
_SAME_DEPTH = 1e-6
_TIGHTER_ABOVE = ("tail", "match_rate")


@dataclass(frozen=True)
class Thresholds:
    """Limits of what is honest; see the module's docstring.

    Attributes:
        exp_mismatches, mant_err_mean, mant_err_median, sign_mismatches: largest of a chunk.
        score_mean, match_rate, spare: largest mean score and smallest share of matching tokens
            over a unit, and how many of its tokens may be anything.
        eos_score, score_max: largest score of an end-of-sequence token, and of any token.
        sequence_exp, sequence_mant: largest mean over a sequence's chunks of `exp_mismatches` and
            of `mant_err_mean`.
        sequence_mant_at: (depth, limit) in the order of depth, the share of the model's layers that
            a stage and those before it have; a stage has the limit of the first depth that is not
            smaller than its own, and `sequence_mant` beyond the last.
        mismatch_rate, score_rate, score_growth, tail: honest share of mismatches and mean score of
            tokens, the logarithm of the mean of exp(8 score), and the probability below which a
            sequence is not taken for honest.
        surprise: largest |surprise| of a sequence.
        rows_error: largest error of revealed rows.
    """

    exp_mismatches: int
    mant_err_mean: float
    mant_err_median: float
    score_mean: float
    match_rate: float
    spare: int
    eos_score: float
    sign_mismatches: int = 128
    sequence_exp: float = math.inf
    sequence_mant: float = math.inf
    mismatch_rate: float = 1.0
    score_rate: float = SCORE_CLIP
    score_growth: float = SCORE_TILT * SCORE_CLIP
    tail: float = 1e-4
    score_max: float = SCORE_CAP
    surprise: float = math.inf
    rows_error: float = math.inf
    sequence_mant_at: tuple[tuple[float, float], ...] = ()

    def convicting(self) -> Thresholds:
        """The limits beyond which a stage is convicted: `CONVICTING` times as far, and squared
        where they are probabilities."""
        return replace(
            self,
            exp_mismatches=CONVICTING * self.exp_mismatches,
            mant_err_mean=CONVICTING * self.mant_err_mean,
            mant_err_median=CONVICTING * self.mant_err_median,
            sign_mismatches=CONVICTING * self.sign_mismatches,
            sequence_exp=CONVICTING * self.sequence_exp,
            sequence_mant=CONVICTING * self.sequence_mant,
            sequence_mant_at=tuple((at, CONVICTING * lim) for at, lim in self.sequence_mant_at),
            eos_score=CONVICTING * self.eos_score,
            score_max=CONVICTING * self.score_max,
            tail=self.tail**2,
            surprise=math.sqrt(2.0) * self.surprise,  # its tail is exp(-u^2 / 2)
            rows_error=CONVICTING * self.rows_error,
        )

    def looser(self, other: Thresholds) -> Thresholds:
        """Limit for limit the looser of two; limits by depth only where both have the same."""
        widest = {
            limit.name: max(getattr(self, limit.name), getattr(other, limit.name))
            for limit in fields(self)
            if limit.name not in _TIGHTER_ABOVE and limit.name != "sequence_mant_at"
        }
        least = {name: min(getattr(self, name), getattr(other, name)) for name in _TIGHTER_ABOVE}
        same = self.sequence_mant_at == other.sequence_mant_at
        return Thresholds(**widest, **least, sequence_mant_at=self.sequence_mant_at if same else ())

    def passes(self, chunk: ChunkMeasure) -> bool:
        """Whether a chunk is within the limits; NaN and 'no exponent matched' are not."""
        return (
            chunk.malformed == ""
            and 0 <= chunk.exp_mismatches <= self.exp_mismatches
            and 0 <= chunk.sign_mismatches <= self.sign_mismatches
            and 0.0 <= chunk.mant_err_mean <= self.mant_err_mean
            and 0.0 <= chunk.mant_err_median <= self.mant_err_median
        )

    def passes_sequence(self, chunks: Sequence[ChunkMeasure], depth: float = 1.0) -> bool:
        """Whether one stage's chunks of one sequence are, each and on average; none at all are.

        `depth` is the layer after which the stage ends over the model's layers.
        """
        if not all(self.passes(chunk) for chunk in chunks):
            return False
        if len(chunks) < 2:
            return True
        exponents = sum(chunk.exp_mismatches for chunk in chunks) / len(chunks)
        mantissas = sum(chunk.mant_err_mean for chunk in chunks) / len(chunks)
        return exponents <= self.sequence_exp and mantissas <= self.mantissa_limit(depth)

    def mantissa_limit(self, depth: float) -> float:
        """Largest mean of `mant_err_mean` over a sequence's chunks for a stage that ends there."""
        limits = (limit for at, limit in self.sequence_mant_at if depth <= at + _SAME_DEPTH)
        return min(next(limits, self.sequence_mant), self.sequence_mant)

    def passes_sampling(self, tokens: int, matches: int, score_sum: float) -> bool:
        """Whether a unit's sampling is within the limits; a NaN sum is not."""
        return (
            tokens - matches <= (1.0 - self.match_rate) * tokens + self.spare
            and score_sum <= self.score_mean * tokens + self.spare * SCORE_CLIP
        )

    def passes_sequence_sampling(
        self,
        tokens: int,
        matches: int,
        score_sum: float,
        score_max: float = 0.0,
        surprise: float = 0.0,
    ) -> bool:
        """Whether one output's sampling is likely enough to be honest; NaN is not.

        `score_sum` is over its tokens' scores, each clipped at `SCORE_CLIP`, `score_max` is the
        largest whole one.
        """
        return (
            binomial_tail(tokens, tokens - matches, self.mismatch_rate) >= self.tail
            and score_exponent(tokens, score_sum, self.score_rate) <= -math.log(self.tail)
            and SCORE_TILT * score_sum - tokens * self.score_growth <= -math.log(self.tail)
            and score_max <= self.score_max
            and abs(surprise) <= self.surprise
        )
