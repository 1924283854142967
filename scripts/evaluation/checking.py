"""The verifier's side: replays with rows at all positions, and records of what they measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import torch

from evaluation.attacks import Proofs
from evaluation.records import Record
from pipeline.engine.control.replay_messages import ReplaySequence
from pipeline.engine.replay import measure
from pipeline.models.prepared import PreparedModel
from pipeline.runner.local_ring import Generated
from pipeline.runner.replay import SequenceReplay, WholeModelReplay
from proofs.evidence.sequence import BundleSequence, FinishReason, SequenceRequest
from proofs.sampling.surprise import surprise
from proofs.sampling.token_score import TokenMeasure
from proofs.thresholds.measures import ChunkMeasure, SamplingMeasure
from proofs.toploc import build_row_proofs, measure_rows


class Checker:
    """The whole model, loaded once."""

    def __init__(self, model: PreparedModel, boundaries: tuple[int, ...]) -> None:
        self._model = WholeModelReplay(model)
        self._boundaries = boundaries

    def replay(
        self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
    ) -> list[SequenceReplay]:
        """Rows at all positions: everything after the first token counts as output."""
        pairs = [((p[0],), (*p[1:], *o)) for p, o in zip(prompts, outputs, strict=True)]
        return self._model.prefill(pairs, self._boundaries)


def prove(generated: Generated) -> list[Proofs]:
    """What each stage proves: the rows that gave output tokens."""
    return [tuple(build_row_proofs(rows.to(torch.bfloat16))) for rows in used_rows(generated)]


def used_rows(generated: Generated) -> list[torch.Tensor]:
    """The rows of each stage that gave output tokens."""
    count = len(generated.output_ids)
    return [rows[-count:] for rows in generated.stages]


def used_replay(replayed: SequenceReplay, prompt_tokens: int, count: int) -> SequenceReplay:
    """Of a replay with rows at all positions, those that gave `count` output tokens."""
    at = slice(prompt_tokens - 1, prompt_tokens - 1 + count)
    return replace(replayed, stages=tuple(rows[at] for rows in replayed.stages))


def check(
    condition: str,
    number: int,
    request: SequenceRequest,
    generated: Generated,
    proofs: Sequence[Proofs],
    replayed: SequenceReplay,
    *,
    eos: bool = False,
) -> Record:
    """Measure proofs and output of prompt `number` as a validator's engine does."""
    prompt, output = request.prompt_ids, generated.output_ids
    sequence = BundleSequence(request=request, output_ids=output, reason=FinishReason.LENGTH)
    claim = ReplaySequence(sequence=sequence, proofs=tuple(proofs))
    measured = measure(claim, used_replay(replayed, len(prompt), len(output)))
    return Record(
        condition=condition,
        prompt=number,
        prompt_tokens=len(prompt),
        measure=measured,
        proof_bytes=sum(len(proof) for stage in proofs for proof in stage),
        eos=eos,
        output=output,
    )


def with_proofs(
    condition: str, honest: Record, proofs: Sequence[Proofs], replayed: SequenceReplay
) -> Record:
    """An honest output with other proofs."""
    used = used_replay(replayed, honest.prompt_tokens, honest.measure.sampling.tokens)
    stages = tuple(
        tuple(
            ChunkMeasure(**asdict(result)) for result in measure_rows(rows.to(torch.bfloat16), own)
        )
        for rows, own in zip(used.stages, proofs, strict=True)
    )
    return replace(
        honest,
        condition=condition,
        measure=honest.measure.model_copy(update={"stages": stages}),
        proof_bytes=sum(len(proof) for own in proofs for proof in own),
        errors=(),
    )


def with_tokens(condition: str, honest: Record, measured: TokenMeasure) -> Record:
    """Honest proofs with another measure of the tokens."""
    sampling = SamplingMeasure(
        tokens=len(measured.scores),
        matches=measured.matches,
        scores=measured.scores,
        surprise=surprise(measured.excess, measured.variance),
    )
    measure = honest.measure.model_copy(update={"sampling": sampling})
    return replace(honest, condition=condition, measure=measure, errors=())
