"""How far from the verifier's own numbers is still honest.

A chunk fails when it exceeds any of its three limits, or when no exponent matched at all.
`published` are TOPLOC's limits for one model served in bf16 on different GPUs; they are known to
miss int8 and fp8 weights on small models. `fp32` is for provers and verifiers that both compute
in fp32, where honest runs differ by the order of additions only: now and then a value crosses a
bf16 rounding step (an error of 1) or the edge of the top k (an unequal exponent). Measured with
SmolLM2-135M cut in three, decode against prefill on one CPU, 6 prompts of 96 tokens: honest runs
gave 0 everywhere in 54 chunks; int8 weights gave a mean of at least 0.54 in each. That supports no
claim about false positives below some 5 % a chunk, nor any about other devices.

Sampling limits apply to a unit's tokens together: one sequence is too few to tell 2.5 % honest
mismatches (bf16) from cheating. For the same reason `spare` tokens may be anything, so that a short
unit does not fail by one unlucky token. `eos_score` bounds the score of an end-of-sequence token
by itself, because ending early costs a single token; 0.5, where scores are clipped, switches it
off.
"""

from __future__ import annotations

from dataclasses import dataclass

from proofs.errors import ProofError
from proofs.measures import ChunkMeasure
from proofs.sampling import SCORE_CLIP


class UnknownProfileError(ProofError):
    """No thresholds of that name; the message lists those there are."""


@dataclass(frozen=True)
class Thresholds:
    """Largest honest chunk figures, and largest mean score and smallest match rate of sampling."""

    exp_mismatches: int
    mant_err_mean: float
    mant_err_median: float
    score_mean: float
    match_rate: float
    spare: int
    eos_score: float

    def passes(self, chunk: ChunkMeasure) -> bool:
        """Whether a chunk is within the limits; NaN and 'no exponent matched' are not."""
        return (
            chunk.malformed == ""
            and 0 <= chunk.exp_mismatches <= self.exp_mismatches
            and 0.0 <= chunk.mant_err_mean <= self.mant_err_mean
            and 0.0 <= chunk.mant_err_median <= self.mant_err_median
        )

    def passes_sampling(self, tokens: int, matches: int, score_sum: float) -> bool:
        """Whether a unit's sampling is within the limits; a NaN sum is not."""
        return (
            tokens - matches <= (1.0 - self.match_rate) * tokens + self.spare
            and score_sum <= self.score_mean * tokens + self.spare * SCORE_CLIP
        )


PUBLISHED = Thresholds(
    exp_mismatches=38,
    mant_err_mean=10.0,
    mant_err_median=8.0,
    score_mean=0.03,
    match_rate=0.85,
    spare=4,
    eos_score=0.5,
)
FP32 = Thresholds(
    exp_mismatches=3,
    mant_err_mean=0.25,
    mant_err_median=0.0,
    score_mean=0.001,
    match_rate=0.98,
    spare=1,
    eos_score=0.1,
)
PROFILES = {"published": PUBLISHED, "fp32": FP32}


def profile(name: str) -> Thresholds:
    """The thresholds called `name`. Raises UnknownProfileError."""
    if name not in PROFILES:
        raise UnknownProfileError(f"no thresholds {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
