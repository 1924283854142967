"""When an output has to end, and how the outputs of a bundle break that rule.

An output ends with a token of `eos_ids`, once its text holds a stop string, or after `max_tokens`
tokens, whichever comes first. All of that follows from the request, which every stage signed
(`proofs.evidence.ring_terms`), and from the tokens, which the first and the last stage signed. So
the reason that a bundle states is not believed: whoever judges finds it again. Only the text takes
a tokenizer; what was read in it is handed in as a `StopReading`.

Stage 0 alone decides whether a sequence goes on. An output that ends where it need not, or goes on
where it must not, is therefore stage 0's doing, as far as its own generation of the group sampled
the tokens beyond the end; what it was handed as generated before is its orchestrator's word.
"""

from __future__ import annotations

from dataclasses import dataclass

from proofs.evidence.sequence import BundleSequence, FinishReason, SequenceRequest


@dataclass(frozen=True)
class StopReading:
    """After how many `tokens` an output's text first held a stop string, None: after none.

    `certain`: decoding the output as a whole says the same as decoding it token by token, which
    stage 0 does. Where they differ, nobody is blamed for a stop string.
    """

    tokens: int | None
    certain: bool = True


NO_STOP = StopReading(None)


@dataclass(frozen=True)
class EndingFault:
    """`ran_on` is by how many tokens an output is too long. `by_head`: stage 0 decided so, by its
    signed word; else nobody can be blamed."""

    reason: str
    by_head: bool
    ran_on: int = 0


def ending_of(
    request: SequenceRequest, output: tuple[int, ...], stop_after: int | None
) -> tuple[int, FinishReason] | None:
    """After how many tokens `output` has to end, and why; None where it should have gone on.

    `stop_after` tokens of it were the first whose text held a stop string.
    """
    eos = set(request.eos_ids)
    for count, token in enumerate(output, 1):
        if token in eos:
            return count, FinishReason.EOS
        if count == stop_after:
            return count, FinishReason.STOP
        if count >= request.max_tokens:
            return count, FinishReason.LENGTH
    return None


def bundle_ending_fault(
    sequence: BundleSequence, generation: int, reading: StopReading
) -> EndingFault | None:
    """How a finished output of `generation` breaks the rules of its request, None: not at all."""
    request, output = sequence.request, sequence.output_ids
    ended = ending_of(request, output, reading.tokens)
    sampled_from = sequence.sampled_from(generation)
    if ended is None:
        reason = f"ends after {len(output)} of {request.max_tokens} tokens without a reason"
        own = sampled_from < len(output)  # else stage 0 never signed for the last token
        return EndingFault(reason, own and reading.certain)
    count, why = ended
    if count < len(output):
        own = sampled_from <= count
        certain = reading.certain or why is not FinishReason.STOP
        reason = f"goes on for {len(output) - count} tokens after it ended by {why.value!r}"
        return EndingFault(reason, own and certain, len(output) - count)
    if why is not sequence.reason:
        reason = f"ends by {why.value!r}, and the bundle says {sequence.reason.value!r}"
        return EndingFault(reason, by_head=False)
    return None
