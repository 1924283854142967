"""What a replay holds against the stages of a unit, before anybody is blamed for it.

Proofs and tokens are compared with the validator's own rows and logits. What is wrong with the form
of a stage's proofs is that stage's own doing; what is off in their content may be inherited, so it
is a `Charge` that the walk back (`proofs.blame`) can move to somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proofs.blame import Charge
from proofs.bundle import ROWS_PER_PROOF, BundleSequence, FinishReason, UnitBundle
from proofs.evidence import StageEvidence
from proofs.measures import ChunkMeasure, SequenceMeasure
from proofs.thresholds import Thresholds

Measures = Sequence[SequenceMeasure | None]


def malformed(bundle: UnitBundle, measures: Measures) -> Iterator[tuple[int, str]]:
    """Stages whose proofs are missing, too many, null or malformed, and what is wrong."""
    for stage, claim in enumerate(bundle.stages):
        for place, measure in enumerate(measures):
            if measure is not None:
                reason = _form_fault(claim.evidence[place], measure.stages[stage])
                if reason:
                    yield stage, f"sequence {place}{reason}"


def off_boundaries(
    bundle: UnitBundle, measures: Measures, thresholds: Thresholds
) -> dict[tuple[int, int], Charge]:
    """By stage and sequence: proofs that are well-formed, but not of the rows they should be of."""
    found = {}
    gross = thresholds.convicting()
    for stage in range(len(bundle.stages)):
        for place, measure in enumerate(measures):
            if measure is None:
                continue
            chunks = [c for c in measure.stages[stage] if not c.malformed]
            if reason := _content_fault(chunks, thresholds):
                found[stage, place] = Charge(
                    stage, place, f"sequence {place}{reason}", bool(_content_fault(chunks, gross))
                )
    return found


def wrong_tokens(
    bundle: UnitBundle, measures: Measures, thresholds: Thresholds
) -> Charge | str | None:
    """The first sequence whose tokens are not those that logits and noise give.

    A charge against the last stage, which samples; a reason alone where an earlier build of the
    group sampled those tokens, whose stages' statements are gone.
    """
    last = len(bundle.stages) - 1
    gross = thresholds.convicting()
    for place, (sequence, measure) in enumerate(zip(bundle.sequences, measures, strict=True)):
        if measure is None:
            continue
        start = bundle.stages[last].evidence[place].sampled_from
        own, earlier = slice(start, None), slice(0, start)
        if reason := _token_fault(sequence, measure, own, thresholds):
            beyond = bool(_token_fault(sequence, measure, own, gross))
            return Charge(last, place, f"sequence {place}: {reason}", beyond)
        if reason := _token_fault(sequence, measure, earlier, thresholds):
            return f"sequence {place}: {reason}, from an earlier build"
    return None


def _form_fault(item: StageEvidence, measured: Sequence[ChunkMeasure]) -> str:
    owed = -(-item.rows // ROWS_PER_PROOF)
    if len(item.proofs) != owed:
        return f": {len(item.proofs)} proofs of {item.rows} rows, not {owed}"
    for number, chunk in enumerate(measured):
        if chunk.malformed:
            return f", chunk {number}: {chunk.malformed}"
    return ""


def _content_fault(chunks: Sequence[ChunkMeasure], thresholds: Thresholds) -> str:
    """How a stage's chunks of a sequence are off, or ""."""
    for number, chunk in enumerate(chunks):
        if not thresholds.passes(chunk):
            return f", chunk {number}: {_described([chunk])}"
    return "" if thresholds.passes_sequence(chunks) else f": {_described(chunks)}"


def _described(chunks: Sequence[ChunkMeasure]) -> str:
    exponents = sum(chunk.exp_mismatches for chunk in chunks) / len(chunks)
    mantissas = sum(chunk.mant_err_mean for chunk in chunks) / len(chunks)
    over = f" over {len(chunks)} chunks" if len(chunks) > 1 else ""
    return f"{exponents:.4g} exponents differ and mantissas by {mantissas:.3g} on average{over}"


def _token_fault(
    sequence: BundleSequence, measure: SequenceMeasure, part: slice, thresholds: Thresholds
) -> str:
    """How the tokens of one part of a sequence differ from those that it should have, or ""."""
    sampling = measure.sampling
    scores = sampling.scores[part]
    if not scores:
        return ""
    whole = len(scores) == sampling.tokens
    matches = sampling.matches if whole else sum(score == 0.0 for score in scores)
    total, worst = sum(scores), max(scores)
    if not thresholds.passes_sequence_sampling(
        len(scores), matches, total, worst, sampling.surprise if whole else 0.0
    ):
        return (
            f"sampling: {matches / len(scores):.1%} of tokens match, mean score"
            f" {total / len(scores):.4f}, largest {worst:.3g}, surprise {sampling.surprise:.2f}"
        )
    ends = part.stop is None and sequence.reason == FinishReason.EOS
    if ends and not scores[-1] <= thresholds.eos_score:
        return "ends with an end-of-sequence token that was not sampled"
    return ""
