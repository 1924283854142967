"""Sequences for an engine's tests: as submitted, and as handed to a validator's replay."""

from __future__ import annotations

from typing import Any

from pipeline.engine.control.messages import SequenceSpec
from pipeline.engine.control.replay_messages import ReplaySequence
from proofs.evidence.sequence import BundleSequence, FinishReason, SequenceRequest


def make_spec(
    sequence_id: bytes,
    prompt_ids: tuple[int, ...],
    *,
    generated: tuple[int, ...] = (),
    **asked: Any,
) -> SequenceSpec:
    """A sequence to submit; `asked` are further fields of its request."""
    request = SequenceRequest(sequence_id=sequence_id, prompt_ids=prompt_ids, **asked)
    return SequenceSpec(request=request, generated=generated)


def to_replay(
    request: SequenceRequest,
    output_ids: tuple[int, ...],
    proofs: tuple[tuple[bytes, ...], ...] = (),
) -> ReplaySequence:
    """A finished sequence with what its stages proved."""
    sequence = BundleSequence(request=request, output_ids=output_ids, reason=FinishReason.LENGTH)
    return ReplaySequence(sequence=sequence, proofs=proofs)
