"""The validator's measurement of finished work: replay, then compare with what was claimed.

One prefill over the whole model gives the rows that each stage must have sent and the logits that
each token was drawn from. They are compared with the stages' proofs (`proofs.toploc`), the tokens
themselves (`proofs.sampling.token_score`) and, in a dispute, all rows that a stage revealed. From
those the stage's layers are run once more, so that what it did with its input can be told from what
it was handed. This module measures; judging is `proofs.verdict.judge`'s job.

Claims come from strangers. Whatever is wrong with a proof becomes a `malformed` measure, never an
error, and so does whatever revealed rows lead to; what cannot be replayed at all (token ids or
lengths that the model cannot have) is the asker's `bad_request`, since it should have been refused
before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import torch

from pipeline.engine.control.replay_messages import (
    Replay,
    Replayed,
    ReplayedSequence,
    ReplaySequence,
    RevealedRows,
)
from pipeline.engine.errors import EngineError
from pipeline.engine.evidence.revealed import NO_ROWS, error_of, read_rows
from pipeline.engine.loading import model_error, open_model, parse_device
from pipeline.models.errors import ModelError
from pipeline.runner.errors import RunnerError
from pipeline.runner.kernel_class import is_exact
from pipeline.runner.replay import LOGIT_ROWS, MAX_PACKED, SequenceReplay, WholeModelReplay
from proofs.evidence.sequence import BundleSequence
from proofs.sampling.choosing import SamplingError
from proofs.sampling.ends import EndEvidence, joined
from proofs.sampling.surprise import surprise
from proofs.sampling.token_score import SCORE_CAP, measure_tokens
from proofs.thresholds.measures import (
    ChunkMeasure,
    RevealedRowsCheck,
    SamplingMeasure,
    SequenceMeasure,
)
from proofs.toploc import CHUNK_ROWS, TOPK, ChunkResult, ProofInputError, measure_sequences

NOT_FINITE = "the rows give values that are not finite"


class Replayer:
    """Keeps the model of the last request, since a validator mostly sees one. Not thread-safe.

    `exact` says of which kernel classes rows may be compared for equality.
    """

    def __init__(self, exact: Callable[[str], bool] = is_exact) -> None:
        self._is_exact = exact
        self._loaded: tuple[tuple[str, bytes, str], WholeModelReplay] | None = None

    def replay(self, request: Replay) -> Replayed:
        """Measure every sequence. Raises `EngineError` (model, damaged, bad_request,
        out_of_memory)."""
        stages = len(request.boundaries)
        if any(len(sequence.proofs) > stages for sequence in request.sequences):
            raise EngineError("bad_request", f"proofs of more than {stages} stages")
        shown = [rows for sequence in request.sequences for rows in sequence.revealed]
        if any(rows.sent and rows.boundary + 2 >= stages for rows in shown):
            raise EngineError("bad_request", f"only the first {stages - 1} stages send rows")
        model = self._model(request)
        exact = self._is_exact(model.kernel_class)
        started = time.perf_counter()
        items: list[ReplayedSequence] = []
        try:
            for group in groups(request.sequences):
                pairs = [
                    (each.sequence.request.prompt_ids, each.sequence.output_ids) for each in group
                ]
                every = range(stages - 1) if exact else ()
                wanted = {
                    index: {*every, *(rows.boundary for rows in sequence.revealed)}
                    for index, sequence in enumerate(group)
                }
                replayed = model.prefill(pairs, request.boundaries, wanted)
                for asked, own in zip(group, replayed, strict=True):
                    revealed = measure_revealed(model, request.boundaries, asked, own)
                    sent = sent_digests(own, stages) if exact else ()
                    measured = measure(asked, own).model_copy(update={"sent": sent})
                    items.append(ReplayedSequence(measure=measured, revealed=revealed))
        except RunnerError as exc:
            raise EngineError("bad_request", str(exc)) from exc
        except (ProofInputError, SamplingError) as exc:
            raise EngineError("model", f"the model's own output is unusable: {exc}") from exc
        except torch.OutOfMemoryError as exc:
            raise EngineError("out_of_memory", "replaying takes more device memory") from exc
        return Replayed(
            items=tuple(items),
            seconds=time.perf_counter() - started,
            kernel_class=model.kernel_class,
            exact=exact,
        )

    def _model(self, request: Replay) -> WholeModelReplay:
        key = (request.model_dir, request.model_id, request.device)
        if request.verify_again or self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # two models at once may not fit
            prepared = open_model(request.model_dir, request.model_id)
            if request.verify_again:
                prepared = prepared.doubting()
            parse_device(request.device)
            try:
                self._loaded = (key, WholeModelReplay(prepared, request.device))
            except ModelError as exc:
                raise model_error(exc) from exc
        return self._loaded[1]


def groups(sequences: Sequence[ReplaySequence]) -> Iterator[list[ReplaySequence]]:
    """Runs of sequences of about one packed prefill each: a unit's rows need not fit in memory."""
    group: list[ReplaySequence] = []
    tokens = 0
    for sequence in sequences:
        length = sequence.sequence.token_count
        if group and tokens + length > MAX_PACKED:
            yield group
            group, tokens = [], 0
        group.append(sequence)
        tokens += length
    if group:
        yield group


def measure(asked: ReplaySequence, replayed: SequenceReplay) -> SequenceMeasure:
    """Compare one sequence's claims with its replay; a stage without proofs measures as missing."""
    return SequenceMeasure(
        sequence_id=asked.sequence.sequence_id,
        stages=measure_stages(asked, replayed),
        sampling=measure_sampling(asked.sequence, replayed),
    )


def sent_digests(replayed: SequenceReplay, stages: int) -> tuple[bytes, ...]:
    """What each of `stages` stages must have hashed: all rows that it sent on, in the last one
    those that gave tokens."""
    sent = (replayed.full[stage] for stage in range(stages - 1))
    return tuple(map(rows_digest, (*sent, replayed.stages[-1])))


def rows_digest(rows: torch.Tensor) -> bytes:
    """sha256 over rows [N, H] as they travel: raw little-endian values of their dtype."""
    host = rows.contiguous().cpu()
    return hashlib.sha256(host.view(torch.uint8).numpy().data).digest()


def measure_stages(
    asked: ReplaySequence, replayed: SequenceReplay, first: int = 0
) -> tuple[tuple[ChunkMeasure, ...], ...]:
    """The proofs of stages `first`, ... against the replay of these stages."""
    proofs = asked.proofs[first : first + len(replayed.stages)]
    missing = ((),) * (len(replayed.stages) - len(proofs))
    rows = [rows.to(torch.bfloat16) for rows in replayed.stages]
    measured = measure_sequences(list(zip(rows, (*proofs, *missing), strict=True)))
    return tuple(tuple(map(chunk_measure, results)) for results in measured)


def measure_revealed(
    model: WholeModelReplay,
    boundaries: Sequence[int],
    asked: ReplaySequence,
    replayed: SequenceReplay,
) -> tuple[RevealedRowsCheck, ...]:
    """What comes of all revealed rows of a sequence, one check for each."""
    found: list[RevealedRowsCheck] = []
    for revealed in asked.revealed:
        own = replayed.full[revealed.boundary]
        rows = read_rows(revealed.path, own)
        if rows is None:
            found.append(RevealedRowsCheck(error=NO_ROWS))
            continue
        first, last = boundaries[revealed.boundary : revealed.boundary + 2]
        resumed = model.resume(rows, first, last, len(asked.sequence.output_ids))
        check = measure_resumed(asked, revealed, resumed, last == model.layers)
        found.append(check.model_copy(update={"error": error_of(rows, own)}))
    return tuple(found)


def measure_resumed(
    asked: ReplaySequence, revealed: RevealedRows, resumed: SequenceReplay, last: bool
) -> RevealedRowsCheck:
    """Measure a stage, `last` or not, by what its layers make of the rows that it received.

    The error of the received rows themselves is left out (`NO_ROWS`).
    """
    sent = resumed.full[0]
    count = len(asked.sequence.output_ids)
    finite = bool(torch.isfinite(sent.to(torch.bfloat16)).all())
    broken = chunk_measure(ChunkResult(TOPK, -1.0, -1.0, malformed=NOT_FINITE))
    chunks = (broken,) * -(-count // CHUNK_ROWS)
    sampling = SamplingMeasure(tokens=count, matches=0, scores=(SCORE_CAP,) * count)
    if finite:
        (chunks,) = measure_stages(asked, resumed, revealed.boundary + 1)
    if finite and last:
        with suppress(SamplingError):  # the logits may overflow still
            sampling = measure_sampling(asked.sequence, resumed)
    return RevealedRowsCheck(
        error=NO_ROWS,
        chunks=chunks,
        sampling=sampling if last else None,
        sent_error=error_of(read_rows(revealed.sent, sent) if revealed.sent else None, sent),
    )


def measure_sampling(
    sequence: BundleSequence, replayed: SequenceReplay, block_rows: int = LOGIT_ROWS
) -> SamplingMeasure:
    """Token-DiFR of every output token and the output's surprise, `block_rows` rows of logits at a
    time."""
    request = sequence.request
    scores: list[float] = []
    matches = 0
    excess = variance = 0.0
    ends: list[EndEvidence] = []
    for logits in replayed.logits(block_rows):
        done = len(scores)
        tokens = sequence.output_ids[done : done + len(logits)]
        position = len(request.prompt_ids) + done
        measured = measure_tokens(
            logits.cpu().numpy(), tokens, request.sampling, position, request.eos_ids
        )
        ends.append(measured.ends)
        scores += measured.scores
        matches += measured.matches
        excess += measured.excess
        variance += measured.variance
    return SamplingMeasure(
        tokens=len(scores),
        matches=matches,
        scores=tuple(scores),
        surprise=surprise(excess, variance),
        ends=joined(ends),
    )


def chunk_measure(result: ChunkResult) -> ChunkMeasure:
    """A comparison by `proofs.toploc` as a message."""
    return ChunkMeasure(
        exp_mismatches=result.exp_mismatches,
        mant_err_mean=result.mant_err_mean,
        mant_err_median=result.mant_err_median,
        malformed=result.malformed[:4096],
        sign_mismatches=result.sign_mismatches,
    )
