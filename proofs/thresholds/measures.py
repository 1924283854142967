"""What a validator's engine measures when it replays finished work.

These numbers are the validator's own, so they are checked for shape, not for honesty.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import FailFast, Field

from proofs.encoding.canonical import CanonicalModel
from proofs.encoding.fields import Count, Digest, Id16
from proofs.sampling.token_score import SCORE_CLIP


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
    """Output tokens against the verifier's own sampling at each position.

    `matches` of `tokens` were equal. `scores` are Token-DiFR deltas, one a token, 0 to `SCORE_CAP`.
    `surprise` is the standardised surprise of the whole output (`proofs.sampling.surprise`), `ends`
    what it tells about ends (`proofs.sampling.ends`; empty: nothing).
    """

    tokens: Count
    matches: Count
    scores: Annotated[tuple[float, ...], FailFast(), Field(max_length=1 << 20)]
    surprise: float = 0.0
    ends: Annotated[tuple[float, ...], FailFast(), Field(max_length=16)] = ()

    def total(self, part: slice = slice(None)) -> float:
        """The sum of the scores of a part, each clipped at `SCORE_CLIP`; NaN if one is."""
        return math.fsum(min(score, SCORE_CLIP) for score in self.scores[part])


class SequenceMeasure(CanonicalModel):
    """One sequence: `stages[s]` are the chunks of stage s, none where it gave no proofs.

    Where the replay was of an exact kernel class, `sent[s]` is sha256 over all rows that stage s
    must have sent, as `StageEvidence.sent` is, and of the last stage as `StageEvidence.final` is.
    """

    sequence_id: Id16
    stages: Annotated[tuple[tuple[ChunkMeasure, ...], ...], FailFast(), Field(max_length=256)]
    sampling: SamplingMeasure
    sent: Annotated[tuple[Digest, ...], FailFast(), Field(max_length=256)] = ()


class RevealedRowsCheck(CanonicalModel):
    """What came of the rows that a stage revealed in a dispute, of one sequence.

    `error` is the channel-normalised RMS error of these rows against the validator's own over all
    positions (-1.0: bytes that are no such rows: another size, or values that are not finite). The
    rest measures the stage that received them by what its own layers make of these very rows: its
    proofs, the last stage's tokens (None for another stage), and, where the next stage revealed its
    rows too, the error of what it sent on (-1.0: not shown). Where the rows are none there is
    nothing: no chunks, no sampling, -1.0. Rows that give values that are not finite make every
    measure fail.
    """

    error: float
    chunks: Annotated[tuple[ChunkMeasure, ...], FailFast()] = ()
    sampling: SamplingMeasure | None = None
    sent_error: float = -1.0
