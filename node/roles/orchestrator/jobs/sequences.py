"""From a prompt to a sequence, or to the reason why this pool cannot run it.

What is refused here would fail at a worker, over and over: a prompt that the model's template
refuses or makes nothing of, one with ids that the model does not have, one that is too long for
what the pool keeps room for, a stop string that can never appear.

A stop string that is a special token of the model stops, though such tokens leave no text: its id
ends the sequence like the model's own end-of-sequence token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import WorkSequence
from node.roles.orchestrator.jobs.refusals import PromptUnfit
from pipeline.models.errors import ModelError
from proofs.evidence.sequence import NoiseSource, SequenceRequest
from proofs.sampling.settings import SamplingSettings

DEFAULT_MAX_TOKENS = 64
GREEDY = SamplingSettings()


class Tokenizer(Protocol):
    """What is needed of `pipeline.models.tokenizer.ChatTokenizer`."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a completion."""
        ...

    @property
    def special(self) -> Mapping[str, int]:
        """Tokens that leave no text, with their ids."""
        ...

    def encode_chat(self, messages: list[dict[str, Any]]) -> list[int]:
        """A conversation as token ids, up to where the answer begins."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids as text."""
        ...


@dataclass(frozen=True)
class SequenceLimits:
    """What this pool has room for: `positions` tokens of a prompt and its output together, of the
    `context` that the model could take (0: not known), and ids below `vocab_size`."""

    positions: int
    vocab_size: int
    context: int = 0


def sampling_of(prompt: Prompt, defaults: SamplingSettings) -> SamplingSettings:
    """What a prompt says of sampling, and for the rest what its model does."""
    names = ("temperature", "top_k", "top_p")
    said = {name: value for name in names if (value := getattr(prompt, name)) is not None}
    return defaults.model_copy(update=said)


def make_sequence(
    prompt: Prompt,
    job_id: str,
    index: int,
    tokenizer: Tokenizer,
    limits: SequenceLimits | None,
    defaults: SamplingSettings = GREEDY,
) -> WorkSequence:
    """A job's prompt number `index` as a sequence. Without `limits` it was checked before and is
    only read; `defaults` is how the model samples where it does not say. Raises `PromptUnfit`."""
    messages = tuple(message.plain() for message in prompt.messages)
    try:
        prompt_ids = tuple(tokenizer.encode_chat([dict(m) for m in messages]))
    except ModelError as exc:
        raise PromptUnfit(str(exc)) from exc
    if not prompt_ids:
        raise PromptUnfit("the model's chat template makes nothing of it")
    max_tokens = prompt.max_tokens or DEFAULT_MAX_TOKENS
    if limits is not None:
        _check(prompt_ids, max_tokens, limits)
    ends = tuple(tokenizer.eos_ids)
    sequence_id = hashlib.sha256(f"prime-node/sequence/1:{job_id}:{index}".encode()).digest()[:16]
    sequence = WorkSequence(
        request=SequenceRequest(
            sequence_id=sequence_id,
            prompt_ids=prompt_ids,
            sampling=sampling_of(prompt, defaults),
            max_tokens=max_tokens,
            stop=tuple(prompt.stop),
            eos_ids=tuple(dict.fromkeys((*ends, *_stop_ids(prompt.stop, tokenizer.special)))),
        ),
        prompt_id=prompt.id or str(index),
        messages=messages,
        seed=prompt.seed,
        index=index,
        metadata=prompt.metadata,
    )
    if prompt.seed is None:
        return sequence
    return sequence.drawn(NoiseSource(beacon=prompt.seed.to_bytes(8, "big")))


def _check(prompt_ids: tuple[int, ...], max_tokens: int, limits: SequenceLimits) -> None:
    if max(prompt_ids) >= limits.vocab_size:
        raise PromptUnfit(
            f"it has the token id {max(prompt_ids)}, and the model has only the ids below"
            f" {limits.vocab_size}"
        )
    needed = len(prompt_ids) + max_tokens
    if needed <= limits.positions:
        return
    reason = (
        f"{len(prompt_ids)} tokens + {max_tokens} new ones are over the {limits.positions} tokens"
        " that this pool has for a sequence"
    )
    if needed <= limits.context:
        raise PromptUnfit(
            f"{reason}: shorten it, lower max_tokens, or have the pool's owner raise"
            f" orchestrator.tokens_per_sequence (the model takes {limits.context})"
        )
    raise PromptUnfit(f"{reason}: shorten it, or lower max_tokens")


def _stop_ids(stops: Iterable[str], special: Mapping[str, int]) -> list[int]:
    """The ids of stop strings that are special tokens."""
    ids = []
    for stop in stops:
        if stop in special:
            ids.append(special[stop])
        elif found := next((token for token in special if token in stop), ""):
            raise PromptUnfit(
                f"the stop string {stop!r} can never appear: the special token {found} in it leaves"
                f" no text; {found} alone would stop"
            )
    return ids
