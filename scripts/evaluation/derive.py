"""Conditions that need no generation of their own, from sequences whose replay is at hand."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from evaluation import attacks
from evaluation.checking import (
    Checker,
    check,
    prove,
    used_replay,
    used_rows,
    with_proofs,
    with_tokens,
)
from evaluation.records import Record
from pipeline.models.tokenizer import ChatTokenizer
from pipeline.runner.local_ring import Generated
from pipeline.runner.replay import SequenceReplay
from proofs.evidence.sequence import SequenceRequest
from proofs.sampling.choosing import choose_batch
from proofs.sampling.settings import SamplingSettings
from proofs.sampling.token_score import measure_tokens

ASKED: dict[str, dict[str, float]] = {
    "temperature+0.1": {"temperature": -0.1},
    "temperature-0.1": {"temperature": +0.1},
    "top-p-higher": {"top_p": -0.05},
    "top-p-lower": {"top_p": +0.05},
}
"""What was asked for beside what the prover used, in conditions that share honest outputs."""


@dataclass(frozen=True)
class Case:
    """A generated sequence, its record and replay (rows at all positions), and another sequence."""

    record: Record
    request: SequenceRequest
    generated: Generated
    proofs: list[attacks.Proofs]
    replayed: SequenceReplay
    other: Generated
    other_proofs: list[attacks.Proofs]

    @property
    def sampling(self) -> SamplingSettings:
        """How the request is sampled."""
        return self.request.sampling


def from_honest(case: Case, checker: Checker, tokenizer: ChatTokenizer) -> Iterator[Record]:
    """Everything that the honest job stands in for."""
    number = case.record.prompt
    forged = {
        "replayed-proofs": case.other_proofs,
        "blind-constant": attacks.constant_proofs(case.proofs, used_rows(case.other)),
        "blind-random": attacks.random_proofs(case.proofs, number),
        "negated-rows": attacks.negated_proofs(used_rows(case.generated)),
        "malformed": attacks.malformed_proofs(case.proofs, number // 2),
    }
    for name, proofs in forged.items():
        yield with_proofs(name, case.record, proofs, case.replayed)
    yield from _resampled(case, tokenizer.eos_ids)
    rng = random.Random(number)
    ended = _ended_early(case.generated, tokenizer.eos_ids[0], rng)
    made = prove(ended)
    yield check("early-eos", number, case.request, ended, made, case.replayed, eos=True)
    edited = list(case.request.prompt_ids)
    place = rng.randrange(max(1, len(edited) - 26), len(edited) - 6)
    edited[place] = rng.randrange(100, tokenizer.vocab_size)
    (changed,) = checker.replay([edited], [case.generated.output_ids])
    asked = case.request.model_copy(update={"prompt_ids": tuple(edited)})
    yield check("prompt-edit", number, asked, case.generated, case.proofs, changed)


def spoofed_prefill(case: Case, checker: Checker) -> Record:
    """Cheap tokens with proofs of what the true model makes of them, alone in its batch."""
    (true,) = checker.replay([case.request.prompt_ids], [case.generated.output_ids])
    made = prove(replace(case.generated, stages=true.stages))
    number = case.record.prompt
    return check("spoofed-prefill", number, case.request, case.generated, made, case.replayed)


def _resampled(case: Case, eos_ids: Sequence[int]) -> Iterator[Record]:
    """The honest output where something else was asked for: another seed, temperature, top-p.
    And an end-of-sequence token that was drawn but passed over for the next best token."""
    honest, used, first = case.record, case.sampling, case.record.prompt_tokens
    replayed = used_replay(case.replayed, first, len(honest.output))
    logits = torch.cat(list(replayed.logits())).numpy()
    asked = {
        name: {key: round(getattr(used, key) + change, 6) for key, change in changes.items()}
        for name, changes in ASKED.items()
    }
    asked["wrong-seed"] = {"noise_key": used.noise_key ^ 1}
    for name, update in asked.items():
        measured = measure_tokens(logits, honest.output, used.model_copy(update=update), first)
        yield with_tokens(name, honest, measured)
    ends = [at for at, token in enumerate(honest.output) if token in eos_ids]
    if ends:
        yield _ended_late(honest, used, logits[ends[0]], ends[0], eos_ids)


def _ended_late(
    honest: Record, used: SamplingSettings, row: np.ndarray, at: int, eos_ids: Sequence[int]
) -> Record:
    position = honest.prompt_tokens + at
    masked = row.copy()
    masked[list(eos_ids)] = -np.inf
    next_best = choose_batch(masked[None], [used], [position])
    one = measure_tokens(row[None], next_best, used, position)
    sampling = honest.measure.sampling
    scores = (*sampling.scores[:at], one.scores[0], *sampling.scores[at + 1 :])
    late = sampling.model_copy(update={"matches": sampling.matches - 1, "scores": scores})
    measure = honest.measure.model_copy(update={"sampling": late})
    return replace(honest, condition="late-eos", measure=measure, errors=())


def _ended_early(generated: Generated, eos: int, rng: random.Random) -> Generated:
    """Cut anywhere in the second half and end with a token that was not sampled."""
    output = generated.output_ids
    at = rng.randrange(len(output) // 2, len(output) - 1)
    prompt = len(generated.stages[0]) - len(output) + 1
    kept = tuple(rows[: prompt + at] for rows in generated.stages)
    return Generated(generated.index, (*output[:at], eos), kept)
