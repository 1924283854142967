"""From prompts to work units.

A job's prompts are rendered with the model's chat template and cut into units of `unit_size`
sequences, part by part. Ids follow from the job and from the prompts' numbers in it: the same part
cut twice gives the same units, which is what makes a unit that is read back from disk the same.
Prompts that cannot be run (`sequences.py`) are left out; the others keep their numbers.

A prompt's seed, where it has one, is its noise: whoever submits it chose it, and may have tried
several. A sampled prompt without one waits for its job's beacon (`beacons.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import Unit, WorkSequence
from node.roles.orchestrator.jobs.refusals import PromptRefusal, PromptUnfit
from node.roles.orchestrator.jobs.sequences import (
    GREEDY,
    SequenceLimits,
    Tokenizer,
    make_sequence,
)
from proofs.evidence.sequence import FinishReason, SequenceRequest, ending_fault
from proofs.sampling.settings import SamplingSettings

Numbered = tuple[int, Prompt]
"""A prompt and its number in its job, from 0."""


def make_unit(job_id: str, sequences: Sequence[WorkSequence]) -> Unit:
    """A unit of these sequences."""
    seed = b"prime-node/unit/1" + b"".join(s.sequence_id for s in sequences)
    return Unit(hashlib.sha256(seed).digest(), job_id, tuple(sequences))


def job_id_of(key: str, prompts: Iterable[Prompt] = ()) -> str:
    """A job's id: from its key where it has one, else from its content."""
    seed = key or "\n".join(p.model_dump_json() for p in prompts)
    return hashlib.sha256(f"prime-node/job/1:{seed}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Cut:
    """Units with the prompts that they are of, and the prompts that are in none."""

    parts: tuple[tuple[Unit, tuple[Numbered, ...]], ...]
    refusals: tuple[PromptRefusal, ...]

    @property
    def units(self) -> list[Unit]:
        """The units alone."""
        return [unit for unit, _ in self.parts]


@dataclass(frozen=True)
class JobCutter:
    """Cuts jobs for one model, and reads what became of them. `context_length` is how many tokens a
    sequence may have in this pool, `model_context` how many the model could take (0: not known);
    `defaults` is how the model samples where a prompt does not say.
    """

    tokenizer: Tokenizer
    model_id: bytes
    model_name: str
    context_length: int
    unit_size: int
    vocab_size: int
    model_context: int = 0
    defaults: SamplingSettings = GREEDY

    def text(self, sequence: WorkSequence) -> str:
        """A sequence's output as text: without a final end-of-sequence token, cut before a stop
        string."""
        text = self._decoded(sequence.request, sequence.output_ids)
        ends = [at for stop in sequence.request.stop if (at := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text

    def output_fault(
        self,
        request: SequenceRequest,
        ids: tuple[int, ...],
        reason: FinishReason | None,
        before: int,
    ) -> str:
        """What makes these tokens no output of `request`, or ""; `reason` is None where it goes on,
        `before` counts those before them. A validator asks the same of what can be seen on ids
        (`ending_fault`)."""
        if max(ids, default=0) >= self.vocab_size:
            return "a token that the model does not have"
        if fault := ending_fault(request, ids, reason, before=before):
            return fault
        if reason is FinishReason.STOP:
            text = self._decoded(request, ids)
            if not any(stop in text for stop in request.stop):
                return "says 'stop', and its text holds no stop string"
        return ""

    def unfinished_fault(self, sequence: WorkSequence) -> str:
        """What makes its tokens no beginning of an output, or ""."""
        return self.output_fault(sequence.request, sequence.output_ids, None, 0)

    def _decoded(self, request: SequenceRequest, ids: tuple[int, ...]) -> str:
        ended = bool(ids) and ids[-1] in request.eos_ids
        return self.tokenizer.decode(ids[:-1] if ended else ids)

    @property
    def _limits(self) -> SequenceLimits:
        return SequenceLimits(self.context_length, self.vocab_size, self.model_context)

    def unit(self, job_id: str, prompts: Sequence[Numbered], *, waits: bool = True) -> Unit:
        """The unit of these prompts of a job. Raises `PromptUnfit` for one that cannot be run; of a
        unit that `waits` for its turn, for one that is too long, too."""
        limits = self._limits if waits else None
        return make_unit(
            job_id,
            [
                make_sequence(prompt, job_id, i, self.tokenizer, limits, self.defaults)
                for i, prompt in prompts
            ],
        )

    def cut(self, job_id: str, first: int, prompts: Sequence[Prompt]) -> Cut:
        """Prompts from number `first` of a job on as units of at most `unit_size`."""
        fit: list[tuple[Numbered, WorkSequence]] = []
        refusals = []
        for index, prompt in enumerate(prompts, first):
            try:
                sequence = make_sequence(
                    prompt, job_id, index, self.tokenizer, self._limits, self.defaults
                )
                fit.append(((index, prompt), sequence))
            except PromptUnfit as exc:
                refusals.append(PromptRefusal(index, prompt.id, str(exc)))
        parts = []
        for at in range(0, len(fit), self.unit_size):
            numbered, sequences = zip(*fit[at : at + self.unit_size], strict=True)
            parts.append((make_unit(job_id, sequences), numbered))
        return Cut(tuple(parts), tuple(refusals))
