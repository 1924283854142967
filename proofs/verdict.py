"""The verdict on a work unit: accepted or not, and which stage is to blame.

`judge` is a pure function of the bundle, the validator's measurements (one honest prefill, every
stage's proofs compared with the verifier's own rows) and thresholds. In order:

1. **Whose words are these?** Claims that their stage did not sign, or output that stage 0 did not
   sign for, may be the assembler's doing: rejected, nobody blamed.
2. **Form.** Missing, miscounted, null or malformed proofs are each stage's own fault.
3. **Output rules.** Stage 0 schedules the group: tokens after an end-of-sequence token or over
   `max_tokens`, or a finish reason that the output contradicts, are its fault.
4. **Boundaries**, in ring order. Every stage is compared with honest activations, so the first
   boundary that is off names the suspect; later ones inherit its error and stay `unchecked`
   unless they pass. If the neighbours' hashes of the rows between them differ, either may lie:
   rejected, unresolved, nobody blamed.
5. **Sampling.** All boundaries pass but tokens are not those that the logits and noise give: the
   last stage, which samples.

Known limits: when both neighbours sign for the same rows, a sender whose proof is right but whose
rows were not is told from a corrupt receiver only by revealing those rows; drift upstream that
stays inside the boundary limits can add to what the last stage's sampling is charged with; and what
was asked for (`max_tokens`, end-of-sequence ids) is the assembler's word. A verdict is therefore
grounds to reject and eject; taking stake needs more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from proofs.bundle import (
    BundleSequence,
    FinishReason,
    StageEvidence,
    UnitBundle,
    check_claims,
    input_digest,
)
from proofs.eip712 import Domain
from proofs.errors import ProofError
from proofs.measures import ChunkMeasure, SequenceMeasure
from proofs.thresholds import Thresholds
from proofs.verdict_messages import StageStatus, StageVerdict, Verdict


class VerdictError(ProofError):
    """Measurements that do not belong to the bundle: the validator's own mistake."""


@dataclass
class _Findings:
    """What was found about each stage; the first reason against a stage stays."""

    faults: dict[int, str] = field(default_factory=dict)
    off: dict[int, str] = field(default_factory=dict)  # measured, may be inherited from upstream

    def fault(self, stage: int, reason: str) -> None:
        self.faults.setdefault(stage, reason)


def judge(
    bundle: UnitBundle,
    measures: Sequence[SequenceMeasure],
    thresholds: Thresholds,
    domain: Domain | None = None,
) -> Verdict:
    """The verdict on `bundle`, whose sequences were measured as `measures`, in the same order.

    Receipts are checked for `domain`; without one they are not looked at. Raises VerdictError when
    measures do not cover the bundle.
    """
    _check_coverage(bundle, measures)
    figures = _figures(bundle, measures)
    if reason := _unbound(bundle, domain):
        return _verdict(bundle, _Findings(), reason, figures)
    findings = _Findings()
    for place, sequence in enumerate(bundle.sequences):
        if reason := ending_fault(sequence):
            findings.fault(0, f"sequence {place}: {reason}")
    for stage, claim in enumerate(bundle.stages):
        by_id = _by_sequence(claim.evidence)
        for place, (sequence, measure) in enumerate(zip(bundle.sequences, measures, strict=True)):
            items = by_id.get(sequence.sequence_id, [])
            chunks = measure.stages[stage]
            _check_evidence(findings, stage, place, sequence, items, chunks, thresholds)
    suspect = min(findings.off, default=None)
    if suspect is not None and suspect <= min(findings.faults, default=suspect):
        if suspect > 0 and (reason := _dispute(bundle, suspect)):
            return _verdict(bundle, findings, reason, figures, disputed=suspect)
        findings.fault(suspect, findings.off[suspect])
    elif not findings.faults and (reason := _sampling_fault(bundle, measures, thresholds)):
        findings.fault(len(bundle.stages) - 1, reason)
    return _verdict(bundle, findings, "", figures)


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


def _check_coverage(bundle: UnitBundle, measures: Sequence[SequenceMeasure]) -> None:
    ids = [sequence.sequence_id for sequence in bundle.sequences]
    if [measure.sequence_id for measure in measures] != ids:
        raise VerdictError("measure exactly the bundle's sequences, in their order")
    for sequence, measure in zip(bundle.sequences, measures, strict=True):
        sampling = measure.sampling
        if not len(sequence.output_ids) == sampling.tokens == len(sampling.scores):
            raise VerdictError("measure the sampling of every output token")
        if len(measure.stages) != len(bundle.stages):
            raise VerdictError("measure every stage of the bundle")
        if any(len(chunks) < sequence.chunks for chunks in measure.stages):
            raise VerdictError("measure every chunk of every stage, missing proofs too")


def _unbound(bundle: UnitBundle, domain: Domain | None) -> str:
    """Why the bundle does not hold its stages to their words, or ""."""
    if domain is not None and (reason := check_claims(bundle, domain)):
        return reason
    first = {item.sequence_id: item for item in bundle.stages[0].evidence}
    for place, sequence in enumerate(bundle.sequences):
        item = first.get(sequence.sequence_id)
        if item is not None and item.received != input_digest(sequence):
            return f"sequence {place}: stage 0 proved other tokens than the bundle holds"
    return ""


def _by_sequence(evidence: tuple[StageEvidence, ...]) -> dict[bytes, list[StageEvidence]]:
    found: dict[bytes, list[StageEvidence]] = {}
    for item in evidence:
        found.setdefault(item.sequence_id, []).append(item)
    return found


def _check_evidence(
    findings: _Findings,
    stage: int,
    place: int,
    sequence: BundleSequence,
    items: list[StageEvidence],
    measured: tuple[ChunkMeasure, ...],
    thresholds: Thresholds,
) -> None:
    """One stage and sequence: form first, then how its chunks measured."""
    where = f"sequence {place}"
    if len(items) != 1:
        findings.fault(stage, f"{where}: {len(items)} pieces of evidence instead of one")
        return
    item, rows, chunks = items[0], len(sequence.output_ids), sequence.chunks
    if item.rows != rows or len(item.proofs) != chunks:
        findings.fault(
            stage, f"{where}: {len(item.proofs)} proofs of {item.rows} rows, not {chunks} of {rows}"
        )
        return
    for number, chunk in enumerate(measured[:chunks]):
        if chunk.malformed:
            findings.fault(stage, f"{where}, chunk {number}: {chunk.malformed}")
        elif not thresholds.passes(chunk):
            findings.off.setdefault(stage, f"{where}, chunk {number}: {_describe(chunk)}")


def _describe(chunk: ChunkMeasure) -> str:
    return (
        f"{chunk.exp_mismatches} exponents differ, mantissas by {chunk.mant_err_mean:.2f} on"
        f" average and {chunk.mant_err_median:g} in the median"
    )


def _dispute(bundle: UnitBundle, suspect: int) -> str:
    """How the suspect and the stage before it signed for different rows between them, or ""."""
    sent = {item.sequence_id: item.sent for item in bundle.stages[suspect - 1].evidence}
    received = {item.sequence_id: item.received for item in bundle.stages[suspect].evidence}
    for place, sequence in enumerate(bundle.sequences):
        key = sequence.sequence_id
        if key in sent and key in received and sent[key] != received[key]:
            neighbours = f"stages {suspect - 1} and {suspect}"
            return f"sequence {place}: {neighbours} signed for different rows between them"
    return ""


def _sampling_fault(
    bundle: UnitBundle, measures: Sequence[SequenceMeasure], thresholds: Thresholds
) -> str:
    scores = [score for measure in measures for score in measure.sampling.scores]
    matches = sum(measure.sampling.matches for measure in measures)
    if not thresholds.passes_sampling(len(scores), matches, sum(scores)):
        rate, mean = matches / len(scores), sum(scores) / len(scores)
        return f"sampling: {rate:.1%} of tokens match, mean score {mean:.4f}"
    for place, (sequence, measure) in enumerate(zip(bundle.sequences, measures, strict=True)):
        if sequence.reason == FinishReason.EOS and (
            not measure.sampling.scores[-1] <= thresholds.eos_score
        ):
            return f"sequence {place}: ends with an end-of-sequence token that was not sampled"
    return ""


def _verdict(
    bundle: UnitBundle,
    findings: _Findings,
    unattributed: str,
    figures: dict[str, float],
    disputed: int | None = None,
) -> Verdict:
    faults = findings.faults
    first = min(faults, default=None)
    stages = []
    for stage, claim in enumerate(bundle.stages):
        status, reason = StageStatus.HONEST, ""
        if stage in faults:
            status, reason = StageStatus.FAULTY, faults[stage]
        elif unattributed and (disputed is None or stage >= disputed - 1):
            status, reason = StageStatus.UNCHECKED, unattributed
        elif stage in findings.off:
            status, reason = StageStatus.UNCHECKED, findings.off[stage]
        stages.append(
            StageVerdict(stage=stage, peer_id=claim.peer_id, status=status, reason=reason[:1024])
        )
    reason = unattributed if first is None else f"stage {first}: {faults[first]}"
    return Verdict(
        unit_id=bundle.unit_id,
        bundle_id=bundle.content_id,
        accepted=reason == "",
        stages=tuple(stages),
        first_faulty=first,
        reason=reason[:1024],
        figures=figures,
    )


def _figures(bundle: UnitBundle, measures: Sequence[SequenceMeasure]) -> dict[str, float]:
    """The worst chunk of every stage, and sampling over the unit."""
    figures: dict[str, float] = {}
    for stage in range(len(bundle.stages)):
        chunks = [chunk for measure in measures for chunk in measure.stages[stage]]
        sound = [chunk for chunk in chunks if not chunk.malformed]
        figures[f"stage{stage}.malformed"] = float(len(chunks) - len(sound))
        for name in ("exp_mismatches", "mant_err_mean", "mant_err_median"):
            worst = max((float(getattr(chunk, name)) for chunk in sound), default=-1.0)
            figures[f"stage{stage}.{name}"] = worst
    scores = [score for measure in measures for score in measure.sampling.scores]
    figures["sampling.score_mean"] = sum(scores) / len(scores)
    figures["sampling.match_rate"] = sum(m.sampling.matches for m in measures) / len(scores)
    figures["tokens"] = float(len(scores))
    return figures
