"""From prompts to work units.

A job's prompts are rendered with the model's chat template and cut into units of `unit_size`
sequences, part by part. Ids follow from the job and from the prompts' numbers in it: the same part
cut twice gives the same units, which is what makes a unit that is read back from disk the same.

A prompt's seed, where it has one, is its noise: whoever submits it chose it, and may have tried
several. A sampled prompt without one waits for its job's beacon (`beacons.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from node.errors import InputError
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import Unit, WorkSequence
from proofs.evidence.sequence import FinishReason, NoiseSource, SequenceRequest, ending_fault
from proofs.sampling.settings import SamplingSettings

DEFAULT_MAX_TOKENS = 64
GREEDY = SamplingSettings()


class Tokenizer(Protocol):
    """What is needed of `pipeline.models.tokenizer.ChatTokenizer`."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a completion."""
        ...

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """A conversation as token ids, up to where the answer begins."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids as text."""
        ...


def sampling_of(prompt: Prompt, defaults: SamplingSettings) -> SamplingSettings:
    """What a prompt says of sampling, and for the rest what its model does."""
    said = {
        name: value
        for name in ("temperature", "top_k", "top_p")
        if (value := getattr(prompt, name)) is not None
    }
    return defaults.model_copy(update=said)


def make_sequence(
    prompt: Prompt,
    job_id: str,
    index: int,
    tokenizer: Tokenizer,
    context_length: int,
    defaults: SamplingSettings = GREEDY,
) -> WorkSequence:
    """One prompt as a sequence; `defaults` is how its model samples where it does not say. Raises
    `InputError` where it does not fit the model's context."""
    messages = tuple({"role": m.role, "content": m.content} for m in prompt.messages)
    prompt_ids = tuple(tokenizer.encode_chat([dict(m) for m in messages]))
    max_tokens = prompt.max_tokens or DEFAULT_MAX_TOKENS
    if len(prompt_ids) + max_tokens > context_length:
        raise InputError(
            f"prompt {index + 1}: {len(prompt_ids)} tokens + {max_tokens} new ones are over"
            f" the model's context of {context_length}",
            "shorten it or lower max_tokens",
        )
    sequence_id = hashlib.sha256(f"prime-node/sequence/1:{job_id}:{index}".encode()).digest()[:16]
    sequence = WorkSequence(
        request=SequenceRequest(
            sequence_id=sequence_id,
            prompt_ids=prompt_ids,
            sampling=sampling_of(prompt, defaults),
            max_tokens=max_tokens,
            stop=tuple(prompt.stop),
            eos_ids=tuple(tokenizer.eos_ids),
        ),
        prompt_id=prompt.id or str(index),
        messages=messages,
        seed=prompt.seed,
    )
    if prompt.seed is None:
        return sequence
    return sequence.drawn(NoiseSource(beacon=prompt.seed.to_bytes(8, "big")))


def make_unit(job_id: str, sequences: Sequence[WorkSequence]) -> Unit:
    """A unit of these sequences."""
    seed = b"prime-node/unit/1" + b"".join(s.sequence_id for s in sequences)
    return Unit(hashlib.sha256(seed).digest(), job_id, tuple(sequences))


def job_id_of(key: str, prompts: Iterable[Prompt] = ()) -> str:
    """A job's id: from its key where it has one, else from its content."""
    seed = key or "\n".join(p.model_dump_json() for p in prompts)
    return hashlib.sha256(f"prime-node/job/1:{seed}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class JobCutter:
    """Cuts jobs for one model, and reads what became of them. `context_length` in tokens;
    `defaults` is how the model samples where a prompt does not say."""

    tokenizer: Tokenizer
    model_id: bytes
    model_name: str
    context_length: int
    unit_size: int
    vocab_size: int
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

    def _decoded(self, request: SequenceRequest, ids: tuple[int, ...]) -> str:
        ended = bool(ids) and ids[-1] in request.eos_ids
        return self.tokenizer.decode(ids[:-1] if ended else ids)

    def unit(self, job_id: str, first: int, prompts: Sequence[Prompt]) -> Unit:
        """The unit that holds these prompts of a job, of which the first is number `first` (from
        0). Raises `InputError` naming the first prompt that does not fit."""
        return make_unit(
            job_id,
            [
                make_sequence(
                    prompt, job_id, index, self.tokenizer, self.context_length, self.defaults
                )
                for index, prompt in enumerate(prompts, first)
            ],
        )

    def cut(self, job_id: str, first: int, prompts: Sequence[Prompt]) -> list[Unit]:
        """Prompts from number `first` of a job on as units of `unit_size`. Raises as `unit`."""
        starts = range(0, len(prompts), self.unit_size)
        return [self.unit(job_id, first + at, prompts[at : at + self.unit_size]) for at in starts]
