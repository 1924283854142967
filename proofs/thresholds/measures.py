"""What a validator's replay measures; field for field what its engine answers.

These numbers are the validator's own, so they are checked for shape, not for honesty.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast, Field

from proofs.encoding.canonical import CanonicalModel

Count = Annotated[int, Field(ge=0, lt=2**63)]


class ChunkMeasure(CanonicalModel):
    """TOPLOC comparison of one chunk; `malformed` names why a proof could not be evaluated.

    Mantissa figures are in units of the last mantissa bit, and -1.0 where no exponent matched.
    `sign_mismatches` counts points whose sign differs: negated rows agree in all else.
    """

    exp_mismatches: int = 0
    mant_err_mean: float = 0.0
    mant_err_median: float = 0.0
    malformed: Annotated[str, Field(max_length=4096)] = ""
    sign_mismatches: int = 0


class SamplingMeasure(CanonicalModel):
    """Output tokens against the verifier's own sampling; one Token-DiFR score (0..0.5) a token.

    `surprise` is the standardised surprise of the whole output (see `proofs.sampling.token_score`).
    """

    tokens: Count
    matches: Count
    scores: Annotated[tuple[float, ...], FailFast(), Field(max_length=1 << 20)]
    surprise: float = 0.0


class SequenceMeasure(CanonicalModel):
    """One sequence: `stages[s]` are the chunks of stage s."""

    sequence_id: Annotated[bytes, Field(min_length=16, max_length=16)]
    stages: Annotated[tuple[tuple[ChunkMeasure, ...], ...], FailFast(), Field(max_length=256)]
    sampling: SamplingMeasure
