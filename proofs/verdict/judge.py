"""The verdict on a work unit: accepted or not, and which stage is to blame.

`judge` is a pure function of the bundle, the validator's measurements (one honest prefill, every
stage's proofs compared with the verifier's own rows), the rows that were revealed, and thresholds.
In order; the first rule that applies decides:

1. **Whose words are these?** Claims that their stage did not sign, whose receipt the next stage did
   not countersign, or that are of another ring, model, sampling or ending than the bundle's, may be
   the assembler's doing: rejected, nobody blamed.
2. **Contradiction.** A stage that countersigned what its own evidence contradicts is at fault
   (`proofs.verdict.handover`).
3. **Foundation.** The stages agree with one another and the bundle says something else (other
   tokens, a noise key that follows from nothing, another reason for the end of an output): its
   assembler's word against theirs. Rejected, nobody blamed. An output that ends early, or goes on
   past its end, is stage 0's fault: it signed for what ends it (`proofs.evidence.endings`).
4. **Form.** Missing, miscounted, null or malformed proofs are each stage's own fault.
   Where a stage signed for the exact kernel class that the replay was computed in, equality decides
   (`proofs.verdict.exact`): the first stage whose rows differ, or the last one whose tokens do, is
   at fault. What is equal passes what follows, too.
5. **Boundaries.** Every stage is compared with honest activations. One that is off stands accused,
   gross ones first, then in ring order, and the walk back (`proofs.verdict.blame`) finds who made
   it so. Later ones inherit its error and stay `unchecked` unless they pass. A charge that is
   beyond the limits, and not beyond those of a conviction, leaves the stage in doubt: the unit is
   rejected, and nobody is convicted.
6. **Sampling.** All boundaries pass but tokens are not those that logits and noise give: the last
   stage, which samples, stands accused. Tokens that an earlier generation sampled reject
   the unit and blame nobody: their stages' statements are gone.

Where rows are needed that nobody has shown yet, the answer is an `Inquiry` instead of a verdict.
Sequences without a measure were not chosen for a replay (`proofs.thresholds.spotcheck`); rules 1 to
3 hold for them all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from proofs.encoding.eip712 import Domain
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle, check_claims
from proofs.evidence.endings import NO_STOP, StopReading, bundle_ending_fault
from proofs.verdict.blame import Charge, ChargeSubject, Inquiry, Revealed, walk_back
from proofs.verdict.charges import Measures, malformed, off_boundaries, wrong_tokens
from proofs.verdict.exact import Difference, ExactClass, class_fault, differences
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.findings import Findings
from proofs.verdict.handover import contradictions, find_bundle_mismatch, find_terms_mismatch
from proofs.verdict.message import Verdict

StopReadings = Sequence[StopReading | None]
"""What was read in the text of each of a bundle's sequences; None where none has stop strings."""
MAX_WALKS = 16
"""Charges that are walked back; each may take as many inquiries as there are stages."""


class VerdictError(ProofError):
    """Measurements that do not belong to the bundle: the validator's own mistake."""


def judge(
    bundle: UnitBundle,
    measures: Measures,
    limits: RejectConvictLimits,
    domain: Domain,
    revealed: Revealed | None = None,
    stops: StopReadings | None = None,
    exact: ExactClass | None = None,
) -> Verdict | Inquiry:
    """The verdict on `bundle`, whose sequences were measured as `measures`, in the same order.

    `revealed` is what earlier inquiries brought, `stops` where outputs first held one of their stop
    strings, `exact` the class of the replay where that is an exact one. Raises VerdictError when
    measures do not fit the bundle, or a text was not read that has stop strings.
    """
    _check_coverage(bundle, measures, exact)
    findings = Findings(bundle, measures)
    if (verdict := _judge_words(findings, bundle, domain, stops)) is not None:
        return verdict
    if reason := class_fault(bundle, exact):
        return findings.unattributed(reason)
    for stage, reason in malformed(bundle, measures):
        findings.fault(stage, reason)
    unequal = list(differences(bundle, measures, exact))
    if unequal and not findings.faults:
        return _judge_unequal(findings, bundle, unequal)
    charges = sorted(off_boundaries(bundle, measures, limits), key=_order)
    findings.off = charges
    unattributed = ""
    if not charges and not findings.faults:
        found = list(wrong_tokens(bundle, measures, limits))
        charges = sorted((c for c in found if isinstance(c, Charge)), key=_order)
        unattributed = next((reason for reason in found if isinstance(reason, str)), "")
    first_fault = min(findings.faults, default=len(bundle.stages))
    for charge in charges[:MAX_WALKS]:
        if charge.stage > first_fault or (findings.doubt is not None and not charge.gross):
            continue  # may be inherited; or nothing worse can come of it
        stands = walk_back(bundle, charge, revealed or {}, limits)
        if isinstance(stands, Inquiry):
            return stands
        if stands is None:
            unattributed = unattributed or f"{charge.reason}; noise that built up"
            continue
        findings.blame(stands)
        if stands.gross:
            break
    if unattributed and not findings.faults and findings.doubt is None:
        return findings.unattributed(unattributed)
    return findings.verdict()


def judge_words(
    bundle: UnitBundle, domain: Domain, stops: StopReadings | None = None
) -> Verdict | None:
    """The verdict that rules 1 to 3 reach: they need signatures, statements and texts, no replay.
    None where the bundle holds so far, and only a replay can tell. Raises VerdictError for a text
    that was not read."""
    return _judge_words(Findings(bundle, [None] * len(bundle.sequences)), bundle, domain, stops)


def _judge_words(
    findings: Findings, bundle: UnitBundle, domain: Domain, stops: StopReadings | None
) -> Verdict | None:
    if reason := check_claims(bundle, domain) or find_terms_mismatch(bundle):
        return findings.unattributed(reason)
    for stage, reason in contradictions(bundle).items():
        findings.fault(stage, reason)
    if findings.faults:
        return findings.verdict()
    if reason := find_bundle_mismatch(bundle):
        return findings.unattributed(reason)
    return _judge_endings(findings, bundle, stops)


def _order(charge: Charge) -> tuple[bool, int, int]:
    """Gross ones first, so that a small deviation hides no large one, then in ring order."""
    return (not charge.gross, charge.stage, charge.index)


def _check_coverage(bundle: UnitBundle, measures: Measures, exact: ExactClass | None) -> None:
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
        if exact is not None and len(measure.sent) != len(bundle.stages):
            raise VerdictError("within an exact class, hash all rows that stages must have sent")


def _judge_unequal(
    findings: Findings, bundle: UnitBundle, unequal: Sequence[Difference]
) -> Verdict:
    stages = [found.stage for found in unequal if found.stage is not None]
    if not stages:
        return findings.unattributed(f"{unequal[0].reason}, from an earlier generation")
    for found in unequal:
        if found.stage is not None:
            findings.fault(found.stage, found.reason)
    findings.off = [
        Charge(stage, 0, ChargeSubject.ROWS, f"after stage {min(stages)}", gross=False)
        for stage in range(min(stages) + 1, len(bundle.stages))
    ]
    return findings.verdict()


def _judge_endings(
    findings: Findings, bundle: UnitBundle, stops: StopReadings | None
) -> Verdict | None:
    unattributed = ""
    for index, sequence in enumerate(bundle.sequences):
        reading = stops[index] if stops is not None and index < len(stops) else None
        if reading is None and sequence.request.stop:
            raise VerdictError("read the text of each output that has stop strings")
        fault = bundle_ending_fault(sequence, bundle.generation, reading or NO_STOP)
        if fault is not None and fault.by_head:
            findings.fault(0, f"sequence {index}: {fault.reason}")
        elif fault is not None:
            unattributed = unattributed or f"sequence {index}: {fault.reason}"
    if findings.faults:
        return findings.verdict()
    return findings.unattributed(unattributed) if unattributed else None
