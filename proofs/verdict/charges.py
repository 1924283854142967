"""What a replay holds against the stages of a unit, before anybody is blamed for it.

Proofs and tokens are compared with the validator's own rows and logits. What is wrong with the form
of a stage's proofs is that stage's own doing; what is off in their content may be inherited, so it
is a `Charge` that the walk back (`proofs.verdict.blame`) can move to somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proofs.evidence.bundle import UnitBundle
from proofs.evidence.sequence import ROWS_PER_PROOF
from proofs.evidence.statement import StageEvidence
from proofs.thresholds.measures import ChunkMeasure, SequenceMeasure
from proofs.verdict.blame import Charge, ChargeSubject
from proofs.verdict.exceedances import RejectConvictLimits, content_fault, token_fault

Measures = Sequence[SequenceMeasure | None]


def malformed(bundle: UnitBundle, measures: Measures) -> Iterator[tuple[int, str]]:
    """Stages whose proofs are missing, too many, null or malformed, and what is wrong."""
    for stage, claim in enumerate(bundle.stages):
        for index, measure in enumerate(measures):
            if measure is not None:
                reason = _form_fault(claim.evidence[index], measure.stages[stage])
                if reason:
                    yield stage, f"sequence {index}: {reason}"


def off_boundaries(
    bundle: UnitBundle, measures: Measures, limits: RejectConvictLimits
) -> Iterator[Charge]:
    """Proofs that are well-formed, but not of the rows they should be of."""
    for stage in range(len(bundle.stages)):
        for index, measure in enumerate(measures):
            chunks = [c for c in measure.stages[stage] if not c.malformed] if measure else []
            found = content_fault(chunks, bundle.depth(stage), limits) if chunks else None
            if found is not None:
                reason = f"sequence {index}: {found.reason}"
                yield Charge(stage, index, ChargeSubject.PROOFS, reason, found.gross)


def wrong_tokens(
    bundle: UnitBundle, measures: Measures, limits: RejectConvictLimits
) -> Iterator[Charge | str]:
    """Tokens that are not those that logits and noise give.

    Charges against the last stage, which samples; a reason alone where an earlier
    generation of the group sampled those tokens: its stages' statements are gone. Short outputs say
    little by themselves, so all that the generation sampled is taken together, too.
    """
    last = len(bundle.stages) - 1
    tokens = matches = 0
    total = 0.0
    for index, (sequence, measure) in enumerate(zip(bundle.sequences, measures, strict=True)):
        if measure is None:
            continue
        start = bundle.stages[last].evidence[index].sampled_from
        if found := token_fault(sequence, measure.sampling, slice(start, None), limits):
            yield Charge(
                last, index, ChargeSubject.TOKENS, f"sequence {index}: {found.reason}", found.gross
            )
        if found := token_fault(sequence, measure.sampling, slice(0, start), limits):
            yield f"sequence {index}: {found.reason}, from an earlier generation"
        scores = measure.sampling.scores[start:]
        tokens, total = tokens + len(scores), total + measure.sampling.total(slice(start, None))
        matches += sum(score == 0.0 for score in scores)
    if not limits.reject.passes_sampling(tokens, matches, total):
        reason = f"{matches} of {tokens} tokens of the unit match"
        yield Charge(last, 0, ChargeSubject.UNIT, reason, gross=False)


def _form_fault(item: StageEvidence, measured: Sequence[ChunkMeasure]) -> str:
    owed = -(-item.rows // ROWS_PER_PROOF)
    if len(item.proofs) != owed:
        return f"{len(item.proofs)} proofs of {item.rows} rows, not {owed}"
    for number, chunk in enumerate(measured):
        if chunk.malformed:
            return f"chunk {number}: {chunk.malformed}"
    return ""
