"""Do the stages of a unit agree on what passed between them, and with the bundle?

A stage countersigns its upstream neighbour's receipt only after comparing the evidence under it
with its own: same sequences, same rows, same terms, and what the neighbour says it sent is what
came in. An honest stage therefore never has both signatures under statements of one ring that
differ, and a stage that has contradicts itself: it is at fault, whoever of the two was right about
the rows. That takes no replay and nobody else's word.

Where all stages agree with one another and the bundle says something else, whoever assembled the
bundle may have written it: nobody is blamed.
"""

from __future__ import annotations

from proofs.evidence.bundle import UnitBundle
from proofs.evidence.ring_terms import request_terms
from proofs.evidence.sequence import BundleSequence
from proofs.evidence.statement import StageEvidence, input_digest, token_digest


def contradictions(bundle: UnitBundle) -> dict[int, str]:
    """Stages that countersigned statements which their own contradict, and how.

    Only for bundles whose claims bind (`proofs.evidence.bundle.check_claims`).
    """
    count = len(bundle.stages)
    if count == 1:
        return {}
    found: dict[int, str] = {}
    for stage in range(count):
        upstream = (stage - 1) % count
        reason = difference(bundle.stages[upstream].evidence, bundle.stages[stage].evidence, stage)
        if reason:
            found[stage] = f"countersigned for stage {upstream} what it contradicts: {reason}"
    return found


def difference(
    upstream: tuple[StageEvidence, ...], own: tuple[StageEvidence, ...], stage: int
) -> str:
    """How what the neighbour before `stage` says differs from what `stage` itself saw, or "".

    This is what a stage checks before it countersigns, and what a validator holds against it.
    """
    if [item.sequence_id for item in upstream] != [item.sequence_id for item in own]:
        return "other sequences"
    for index, (theirs, mine) in enumerate(zip(upstream, own, strict=True)):
        if theirs.rows != mine.rows:
            return f"sequence {index}: {theirs.rows} rows, not {mine.rows}"
        if theirs.terms != mine.terms:
            return f"sequence {index}: other terms"
        if theirs.sampled_from != mine.sampled_from:
            return f"sequence {index}: sampled from {theirs.sampled_from}, not {mine.sampled_from}"
        if theirs.sent != (mine.returned if stage == 0 else mine.received):
            return f"sequence {index}: other {'tokens' if stage == 0 else 'rows'}"
    return ""


def find_terms_mismatch(bundle: UnitBundle) -> str:
    """Which stage signed for other sequences, another ring or other terms than the bundle's, or "".

    An honest stage says one thing of a sequence in one ring, and may have said another elsewhere.
    So only statements of the very ring that the bundle names are held against one another.
    """
    asked = [sequence.sequence_id for sequence in bundle.sequences]
    terms = [_terms(bundle, sequence) for sequence in bundle.sequences]
    for stage, claim in enumerate(bundle.stages):
        if [item.sequence_id for item in claim.evidence] != asked:
            return f"stage {stage} proved other sequences than the bundle holds"
        for index, item in enumerate(claim.evidence):
            if item.terms != terms[index]:
                return f"sequence {index}: stage {stage} was told another ring, sampling or ending"
    return ""


def find_bundle_mismatch(bundle: UnitBundle) -> str:
    """How the bundle says something else than its stages signed and agree on, or ""."""
    first, last = bundle.stages[0].evidence, bundle.stages[-1].evidence
    for index, sequence in enumerate(bundle.sequences):
        reason = _sequence_unfounded(bundle, sequence, first[index], last[index])
        if reason:
            return f"sequence {index}: {reason}"
    return ""


def _sequence_unfounded(
    bundle: UnitBundle, sequence: BundleSequence, first: StageEvidence, last: StageEvidence
) -> str:
    if first.received != input_digest(sequence.request.prompt_ids, sequence.output_ids):
        return "stage 0 proved other tokens than the bundle holds"
    if first.rows != len(sequence.output_ids):
        return f"{first.rows} rows were proven of {len(sequence.output_ids)} tokens"
    if last.sampled_from != sequence.sampled_from(bundle.generation):
        return f"sampled from token {last.sampled_from} on, the bundle says otherwise"
    if last.sent != token_digest(sequence.output_ids, last.sampled_from):
        return "the last stage signed for other tokens than the bundle holds"
    return sequence.noise_fault()


def _terms(bundle: UnitBundle, sequence: BundleSequence) -> bytes:
    return request_terms(bundle.ring, sequence.request)
