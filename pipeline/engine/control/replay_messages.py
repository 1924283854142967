"""What a validator asks its engine to replay, and what it measured. See `messages`."""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast, Field

from pipeline.engine.control.messages import Count, Digest, Id16, Message, Sampling, Text, TokenIds


class RevealedRows(Message):
    """Rows that stage `boundary` is said to have sent to the next one.

    `path` is a file of the rows at positions 0 .. P+T-2: [P+T-1, H] raw values in the model's
    dtype. `sent`, if not empty, is a like file of the rows that this next stage sent on, and
    refused where it is the last stage, which sends none. Their hashes are the asker's business.
    """

    boundary: Annotated[int, Field(ge=0, lt=256)]
    path: Text
    sent: Text = ""


class ReplaySequence(Message):
    """One sequence for a validator to replay; `proofs[s]` are the proofs that stage s gave.

    `revealed` rows are measured as well, and so is the stage that received them, by its `proofs`. A
    `boundary` that does not lie between two stages is a `bad_request`.
    """

    sequence_id: Id16
    prompt_ids: Annotated[TokenIds, Field(min_length=1)]
    output_ids: Annotated[TokenIds, Field(min_length=1)]
    sampling: Sampling
    proofs: Annotated[
        tuple[
            Annotated[
                tuple[Annotated[bytes, Field(max_length=4096)], ...],
                FailFast(),
                Field(max_length=1 << 16),
            ],
            ...,
        ],
        Field(max_length=256),
    ]
    revealed: Annotated[tuple[RevealedRows, ...], FailFast(), Field(max_length=256)] = ()


class Replay(Message):
    """Validator only: one prefill per sequence over the whole model, measured stage by stage.

    `boundaries[s]` is the layer after which stage s ends; the last one is the model's layer count.
    """

    model_dir: Text
    model_id: Digest
    device: Text = "cpu"
    boundaries: Annotated[tuple[Count, ...], FailFast(), Field(min_length=1, max_length=256)]
    sequences: Annotated[tuple[ReplaySequence, ...], FailFast(), Field(max_length=4096)]


class ChunkMeasure(Message):
    """TOPLOC comparison of one chunk; `malformed` names why a proof could not be evaluated.

    Means and medians are -1.0 where no exponent matched. `sign_mismatches` counts points whose
    sign differs.
    """

    exp_mismatches: int = 0
    mant_err_mean: float = 0.0
    mant_err_median: float = 0.0
    malformed: Text = ""
    sign_mismatches: int = 0


class SamplingMeasure(Message):
    """How the output tokens compare with the verifier's own sampling at each position.

    `matches` of `tokens` were equal. `scores` are Token-DiFR deltas clipped to 0.5, one a token.
    `surprise` is the output's standardised surprise (see `proofs.sampling.token_score`).
    """

    tokens: Count
    matches: Count
    scores: Annotated[tuple[float, ...], FailFast(), Field(max_length=1 << 20)]
    surprise: float = 0.0


class Recomputed(Message):
    """A stage measured by what its own layers make of the rows that it received.

    `chunks` are its proofs and, for the last stage, `sampling` the output tokens against that.
    `sent_error` is the error of the rows that it sent on, over all positions; -1.0 where none were
    given or the file holds no such rows. If the received rows are no rows of the sequence (their
    error is -1.0), there is nothing: no chunks, no sampling, -1.0. Rows that give values that are
    not finite make every measure fail.
    """

    chunks: Annotated[tuple[ChunkMeasure, ...], FailFast()]
    sampling: SamplingMeasure | None
    sent_error: float


class ReplayedSequence(Message):
    """What a replay measured of one sequence.

    `rows_errors[i]` is the channel-normalised RMS error (`pipeline.runner.distance`) of `revealed`
    rows i against the verifier's own, over all positions; -1.0 for what are no such rows: a file of
    another size, one that cannot be read, or values that are not finite. `recomputed[i]` measures
    the stage that received them.
    """

    sequence_id: Id16
    stages: Annotated[tuple[tuple[ChunkMeasure, ...], ...], FailFast(), Field(max_length=256)]
    sampling: SamplingMeasure
    rows_errors: Annotated[tuple[float, ...], FailFast(), Field(max_length=256)] = ()
    recomputed: Annotated[tuple[Recomputed, ...], FailFast(), Field(max_length=256)] = ()


class Replayed(Message):
    items: Annotated[tuple[ReplayedSequence, ...], FailFast(), Field(max_length=4096)]
    seconds: float
