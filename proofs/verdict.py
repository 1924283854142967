"""The verdict on a work unit: accepted or not, and which stage is to blame.

`judge` is a pure function of the bundle, the validator's measurements (one honest prefill, every
stage's proofs compared with the verifier's own rows), the rows that were revealed, and thresholds.
In order; the first rule that speaks decides:

1. **Whose words are these?** Claims that their stage did not sign, or whose receipt the next stage
   did not countersign, may be the assembler's doing: rejected, nobody blamed.
2. **Contradiction.** A stage that countersigned what its own evidence contradicts is at fault
   (`proofs.handover`).
3. **Foundation.** The stages agree with one another and the bundle says something else (other
   tokens, terms, a noise key that follows from nothing), or the output ends against what the bundle
   says was asked for: its assembler's word against theirs. Rejected, nobody blamed.
4. **Form.** Missing, miscounted, null or malformed proofs are each stage's own fault.
5. **Boundaries**, in ring order. Every stage is compared with honest activations; the first that is
   off stands accused, and the walk back (`proofs.blame`) finds who made it so. Later ones inherit
   its error and stay `unchecked` unless they pass.
6. **Sampling.** All boundaries pass but tokens are not those that logits and noise give: the last
   stage, which samples, stands accused. Tokens that an earlier build of the group sampled reject
   the unit and blame nobody: their stages' statements are gone.

Where rows are needed that nobody has shown yet, the answer is an `Inquiry` instead of a verdict.
Sequences without a measure were not chosen for a replay (`proofs.spotcheck`); rules 1 to 3 hold for
them all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from proofs.blame import Culprit, Inquiry, Revealed, walk_back
from proofs.bundle import (
    ROWS_PER_PROOF,
    BundleSequence,
    FinishReason,
    UnitBundle,
    check_claims,
)
from proofs.eip712 import Domain
from proofs.errors import ProofError
from proofs.evidence import StageEvidence
from proofs.findings import Findings
from proofs.handover import contradictions, unfounded
from proofs.measures import ChunkMeasure, SequenceMeasure
from proofs.thresholds import Thresholds
from proofs.verdict_messages import Verdict

Measures = Sequence[SequenceMeasure | None]


class VerdictError(ProofError):
    """Measurements that do not belong to the bundle: the validator's own mistake."""


def judge(
    bundle: UnitBundle,
    measures: Measures,
    thresholds: Thresholds,
    domain: Domain,
    revealed: Revealed | None = None,
) -> Verdict | Inquiry:
    """The verdict on `bundle`, whose sequences were measured as `measures`, in the same order.

    `revealed` are the rows that earlier inquiries brought, by hash. Raises VerdictError when
    measures do not fit the bundle.
    """
    _check_coverage(bundle, measures)
    findings = Findings(bundle, measures)
    if reason := check_claims(bundle, domain):
        return findings.unattributed(reason)
    for stage, reason in contradictions(bundle).items():
        findings.fault(stage, reason)
    if findings.faults:
        return findings.verdict()
    if reason := unfounded(bundle) or _ending_faults(bundle):
        return findings.unattributed(reason)
    for stage, claim in enumerate(bundle.stages):
        for place, measure in enumerate(measures):
            if measure is not None:
                _check_proofs(findings, stage, place, claim.evidence[place], measure, thresholds)
    accused = _accused(findings) or _sampling_fault(findings, bundle, measures, thresholds)
    if isinstance(accused, str):
        return findings.unattributed(accused) if accused else findings.verdict()
    suspect, place, reason = accused
    found = walk_back(bundle, suspect, place, reason, revealed or {}, thresholds)
    if isinstance(found, Culprit):
        findings.fault(found.stage, found.reason)
        return findings.verdict()
    return found


def ending_fault(sequence: BundleSequence) -> str:
    """How a sequence's end breaks the rules, or "". Stop strings cannot be checked on ids."""
    output, eos = sequence.output_ids, set(sequence.eos_ids)
    if len(output) > sequence.max_tokens:
        return f"{len(output)} tokens where at most {sequence.max_tokens} were asked for"
    first = next((i for i, token in enumerate(output) if token in eos), None)
    if first is not None and first < len(output) - 1:
        return f"output goes on after the end-of-sequence token at {first}"
    if first is not None and sequence.reason != FinishReason.EOS:
        return f"ends with an end-of-sequence token but says {sequence.reason.value!r}"
    if first is None and sequence.reason == FinishReason.EOS:
        return "says 'eos' but does not end with an end-of-sequence token"
    if sequence.reason == FinishReason.LENGTH and len(output) < sequence.max_tokens:
        return f"says 'length' after {len(output)} of {sequence.max_tokens} tokens"
    if sequence.reason == FinishReason.STOP and not sequence.stop:
        return "says 'stop' but no stop string was asked for"
    return ""


def _check_coverage(bundle: UnitBundle, measures: Measures) -> None:
    if len(measures) != len(bundle.sequences):
        raise VerdictError("give a measure, or None, for each of the bundle's sequences")
    for sequence, measure in zip(bundle.sequences, measures, strict=True):
        if measure is None:
            continue
        if measure.sequence_id != sequence.sequence_id:
            raise VerdictError("give the measures in the order of the bundle's sequences")
        sampling = measure.sampling
        if not len(sequence.output_ids) == sampling.tokens == len(sampling.scores):
            raise VerdictError("measure the sampling of every output token")
        if len(measure.stages) != len(bundle.stages):
            raise VerdictError("measure every stage of the bundle")
        if any(len(chunks) < sequence.chunks for chunks in measure.stages):
            raise VerdictError("measure every chunk of every stage, missing proofs too")


def _ending_faults(bundle: UnitBundle) -> str:
    for place, sequence in enumerate(bundle.sequences):
        if reason := ending_fault(sequence):
            return f"sequence {place}: {reason}"
    return ""


def _check_proofs(
    findings: Findings,
    stage: int,
    place: int,
    item: StageEvidence,
    measure: SequenceMeasure,
    thresholds: Thresholds,
) -> None:
    """One stage and sequence: form first, then how its chunks measured."""
    chunks = -(-item.rows // ROWS_PER_PROOF)
    measured = measure.stages[stage][:chunks]
    if len(item.proofs) != chunks:
        reason = f"{len(item.proofs)} proofs of {item.rows} rows, not {chunks}"
        findings.fault(stage, f"sequence {place}: {reason}")
        return
    for number, chunk in enumerate(measured):
        if chunk.malformed:
            findings.fault(stage, f"sequence {place}, chunk {number}: {chunk.malformed}")
        elif not thresholds.passes(chunk):
            findings.off(stage, place, f"sequence {place}, chunk {number}: {_describe(chunk)}")
    if not findings.clean(stage, place):
        return
    if not thresholds.passes_sequence(measured):
        findings.off(stage, place, f"sequence {place}: {_describe_mean(measured)}")


def _describe(chunk: ChunkMeasure) -> str:
    return (
        f"{chunk.exp_mismatches} exponents differ, mantissas by {chunk.mant_err_mean:.2f} on"
        f" average and {chunk.mant_err_median:g} in the median"
    )


def _describe_mean(chunks: Sequence[ChunkMeasure]) -> str:
    exponents = sum(chunk.exp_mismatches for chunk in chunks) / len(chunks)
    mantissas = sum(chunk.mant_err_mean for chunk in chunks) / len(chunks)
    return (
        f"over {len(chunks)} chunks {exponents:.2f} exponents differ and mantissas by"
        f" {mantissas:.3f} on average"
    )


def _accused(findings: Findings) -> tuple[int, int, str] | str:
    """The first stage that is off, where no stage before it has a fault of its own."""
    suspect = findings.first_off()
    if suspect is None or suspect[0] > min(findings.faults, default=suspect[0]):
        return ""
    return suspect


def _sampling_fault(
    findings: Findings, bundle: UnitBundle, measures: Measures, thresholds: Thresholds
) -> tuple[int, int, str] | str:
    """What is wrong with the tokens: (last stage, sequence, reason) where it sampled them, a reason
    alone where an earlier build did, or ""."""
    if findings.faults:
        return ""
    last = len(bundle.stages) - 1
    for place, (sequence, measure) in enumerate(zip(bundle.sequences, measures, strict=True)):
        if measure is None:
            continue
        start = bundle.stages[last].evidence[place].sampled_from
        for part, own in ((slice(start, None), True), (slice(0, start), False)):
            if reason := _part_fault(sequence, measure, part, thresholds):
                reason = f"sequence {place}: {reason}"
                return (last, place, reason) if own else f"{reason}, from an earlier build"
    return ""


def _part_fault(
    sequence: BundleSequence, measure: SequenceMeasure, part: slice, thresholds: Thresholds
) -> str:
    """How the tokens of one part of a sequence differ from those that it should have, or ""."""
    scores = measure.sampling.scores[part]
    if not scores:
        return ""
    whole = len(scores) == measure.sampling.tokens
    matches = measure.sampling.matches if whole else sum(score == 0.0 for score in scores)
    if not thresholds.passes_sampling(len(scores), matches, sum(scores)):
        rate, mean = matches / len(scores), sum(scores) / len(scores)
        return f"sampling: {rate:.1%} of tokens match, mean score {mean:.4f}"
    ends = part.stop is None and sequence.reason == FinishReason.EOS
    if ends and not scores[-1] <= thresholds.eos_score:
        return "ends with an end-of-sequence token that was not sampled"
    return ""
