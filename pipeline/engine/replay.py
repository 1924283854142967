"""The validator's measurement of finished work: replay, then compare with what was claimed.

One prefill over the whole model gives the rows that each stage must have sent and the logits that
each token was drawn from. Against these stand the stages' proofs (`proofs.toploc`), the tokens
themselves (`proofs.sampling`) and, in a dispute, all rows that a stage showed. This module
measures; judging is `proofs.verdict`'s part.

Claims come from strangers. Whatever is wrong with a proof becomes a `malformed` measure, never an
error; what cannot be replayed at all (token ids or lengths that the model cannot have) is the
asker's `bad_request`, since it should have been refused before.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence

import torch

from pipeline.engine import messages as m
from pipeline.engine.errors import EngineError
from pipeline.engine.loading import open_model, parse_device
from pipeline.models.errors import ModelError
from pipeline.runner.distance import rows_error
from pipeline.runner.errors import RunnerError
from pipeline.runner.replay import MAX_PACKED, Replayed, WholeModelReplay
from proofs.sampling import SamplingError, measure_tokens
from proofs.surprise import surprise
from proofs.toploc import ChunkResult, ProofInputError, measure_sequences

NO_ROWS = -1.0


class Replayer:
    """Keeps the model of the last request, since a validator mostly sees one. Not thread-safe."""

    def __init__(self) -> None:
        self._loaded: tuple[tuple[str, bytes, str], WholeModelReplay] | None = None

    def replay(self, request: m.Replay) -> m.Replayed:
        """Measure every sequence. Raises `EngineError` (model, bad_request, out_of_memory)."""
        stages = len(request.boundaries)
        if any(len(sequence.proofs) > stages for sequence in request.sequences):
            raise EngineError("bad_request", f"proofs of more than {stages} stages")
        model = self._model(request)
        started = time.perf_counter()
        items: list[m.ReplayedSequence] = []
        try:
            for group in groups(request.sequences):
                pairs = [(sequence.prompt_ids, sequence.output_ids) for sequence in group]
                wanted = {
                    index: {rows.boundary for rows in sequence.revealed}
                    for index, sequence in enumerate(group)
                }
                replayed = model.prefill(pairs, request.boundaries, wanted)
                items += map(measure, group, replayed)
        except RunnerError as exc:
            raise EngineError("bad_request", str(exc)) from exc
        except (ProofInputError, SamplingError) as exc:
            raise EngineError("model", f"the model's own output is unusable: {exc}") from exc
        except torch.OutOfMemoryError as exc:
            raise EngineError("out_of_memory", "replaying takes more device memory") from exc
        return m.Replayed(items=tuple(items), seconds=time.perf_counter() - started)

    def _model(self, request: m.Replay) -> WholeModelReplay:
        key = (request.model_dir, request.model_id, request.device)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # two models at once may not fit
            prepared = open_model(request.model_dir, request.model_id)
            parse_device(request.device)
            try:
                self._loaded = (key, WholeModelReplay(prepared, request.device))
            except ModelError as exc:
                raise EngineError("model", str(exc)) from exc
        return self._loaded[1]


def groups(sequences: Sequence[m.ReplaySequence]) -> Iterator[list[m.ReplaySequence]]:
    """Runs of sequences of about one packed prefill each: a unit's rows need not fit in memory."""
    group: list[m.ReplaySequence] = []
    tokens = 0
    for sequence in sequences:
        length = len(sequence.prompt_ids) + len(sequence.output_ids)
        if group and tokens + length > MAX_PACKED:
            yield group
            group, tokens = [], 0
        group.append(sequence)
        tokens += length
    if group:
        yield group


def measure(sequence: m.ReplaySequence, replayed: Replayed) -> m.ReplayedSequence:
    """Compare one sequence's claims with its replay; a stage without proofs measures as missing."""
    missing = ((),) * (len(replayed.stages) - len(sequence.proofs))
    claims = [
        (rows.to(torch.bfloat16), proofs)
        for rows, proofs in zip(replayed.stages, (*sequence.proofs, *missing), strict=True)
    ]
    stages = [tuple(map(chunk_measure, results)) for results in measure_sequences(claims)]
    return m.ReplayedSequence(
        sequence_id=sequence.sequence_id,
        stages=tuple(stages),
        sampling=measure_sampling(sequence, replayed),
        rows_errors=tuple(
            measure_revealed(rows.path, replayed.full[rows.boundary]) for rows in sequence.revealed
        ),
    )


def measure_revealed(path: str, own: torch.Tensor) -> float:
    """The error of a file of raw rows against one's own [N, H] in the same dtype; `NO_ROWS` where
    the file holds no such rows. Never larger than a float can be."""
    size = own.numel() * own.element_size()
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return NO_ROWS
        data = bytearray(size)
        with open(path, "rb") as file:
            if file.readinto(data) != size:
                return NO_ROWS
    except (OSError, ValueError):  # ValueError: no path can be like this
        return NO_ROWS
    claimed = torch.frombuffer(data, dtype=own.dtype).view(own.shape)
    if not bool(torch.isfinite(claimed).all()):
        return NO_ROWS
    return min(rows_error(claimed, own), sys.float_info.max)


def measure_sampling(sequence: m.ReplaySequence, replayed: Replayed) -> m.SamplingMeasure:
    """Token-DiFR of every output token and the output's surprise, block by block of logits."""
    scores: list[float] = []
    matches = 0
    excess = variance = 0.0
    for logits in replayed.logits():
        done = len(scores)
        tokens = sequence.output_ids[done : done + len(logits)]
        position = len(sequence.prompt_ids) + done
        measured = measure_tokens(logits.cpu().numpy(), tokens, sequence.sampling, position)
        scores += measured.scores
        matches += measured.matches
        excess += measured.excess
        variance += measured.variance
    return m.SamplingMeasure(
        tokens=len(scores),
        matches=matches,
        scores=tuple(scores),
        surprise=surprise(excess, variance),
    )


def chunk_measure(result: ChunkResult) -> m.ChunkMeasure:
    return m.ChunkMeasure(
        exp_mismatches=result.exp_mismatches,
        mant_err_mean=result.mant_err_mean,
        mant_err_median=result.mant_err_median,
        malformed=result.malformed[:4096],
        sign_mismatches=result.sign_mismatches,
    )
