"""What must hold for any bytes from a stranger: the fuzzed properties.

Each target takes a fuzzer's bytes, makes a proof, a bundle or a verdict of them, and raises
AssertionError, or whatever a defect raises, unless

- nothing but a `ProofError` comes out of a parser, and what it accepts has that one byte form;
- a proof that was changed is malformed or fails the published thresholds, unless all coefficients
  but the constant one are honest: that one moves all values together, and a small change of it is
  within the noise; another modulus folds only the indices above it;
- `judge` answers for whatever `from_bytes` accepts, and accepts nothing that differs in what stages
  signed.

A target returns a word for what happened, to be counted.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgpack
import torch

from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle
from proofs.evidence.statement import StageEvidence
from proofs.thresholds.builtin import PUBLISHED
from proofs.thresholds.measures import ChunkMeasure
from proofs.toploc import (
    ProofPoly,
    build_chunk_proof,
    measure_chunk,
    measure_rows,
    verify_proofs_base64,
)
from proofs.verdict.blame import Inquiry
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import judge
from proofs.verdict.message import SignedVerdict, Verdict
from tests.fuzz.mutation import Choices, mutate_bytes, mutate_message
from tests.proofs.units import DOMAIN, bundle, measures, stage_key, with_evidence


def _rows(width: int) -> torch.Tensor:
    return torch.randn(32, width, generator=torch.Generator().manual_seed(width)).bfloat16()


CHUNKS = [_rows(64), _rows(2100), _rows(4)]  # within the field, folded into it, exactly k values
PROOFS = [build_chunk_proof(chunk) for chunk in CHUNKS]
UNIT = bundle()
UNIT_BYTES = UNIT.to_bytes()
MEASURES = measures(UNIT)
LIMITS = RejectConvictLimits.of(PUBLISHED, PUBLISHED)
_FIRST = judge(UNIT, MEASURES, LIMITS, DOMAIN)
assert isinstance(_FIRST, Verdict)
assert _FIRST.accepted
SIGNED = SignedVerdict.sign(_FIRST, stage_key(9))
SIGNED_BYTES = SIGNED.to_bytes()


def proof_target(data: bytes) -> str:
    """Proof bytes and base64 through parsers and verifiers."""
    choices = Choices(data)
    which, raw = choices.below(len(CHUNKS)), not choices.below(8)
    chunk, honest = CHUNKS[which], PROOFS[which]
    proof = choices.rest() if raw else mutate_bytes(honest, choices)
    _check_parsers(proof, choices)
    result = measure_chunk(chunk, proof)
    assert measure_rows(chunk, [proof]) == [result]
    if result.malformed:
        assert proof != honest
        return "malformed"
    measure = ChunkMeasure(
        exp_mismatches=result.exp_mismatches,
        mant_err_mean=result.mant_err_mean,
        mant_err_median=result.mant_err_median,
    )
    if PUBLISHED.passes(measure):
        assert proof[4:] == honest[4:]
        return "passed"
    return "failed"


def _check_parsers(proof: bytes, choices: Choices) -> None:
    text = base64.b64encode(proof).decode()
    if not choices.below(2):
        text = mutate_bytes(text.encode(), choices).decode("latin-1")
    try:
        poly = ProofPoly.from_bytes(proof)
        assert poly.to_bytes() == proof
        assert 0 <= poly(choices.below(65536)) < 65497
    except ProofError:
        pass
    try:
        again = ProofPoly.from_base64(text)
        assert ProofPoly.from_base64(again.to_base64()) == again
    except ProofError:
        pass
    assert len(verify_proofs_base64([CHUNKS[0]], [text], 32, 128)) == 1


def bundle_target(data: bytes) -> str:
    """Bundle bytes through the parser and, where it accepts them, the judge."""
    choices = Choices(data)
    kind = choices.below(4)
    if kind == 0:
        resigned = _resigned(choices)
        return _judged(resigned)[0] if resigned else "refused"
    if kind == 1:
        changed = mutate_bytes(UNIT_BYTES, choices)
    elif kind == 2:
        changed = choices.rest()
    else:
        changed = _mutated(UNIT_BYTES, choices)
    try:
        unit = UnitBundle.from_bytes(changed)
    except ProofError:
        return "refused"
    assert unit.to_bytes() == changed
    outcome, accepted = _judged(unit)
    if accepted:
        for claim, original in zip(unit.stages, UNIT.stages, strict=True):
            assert claim.receipt == original.receipt
            assert claim.evidence == original.evidence
    return outcome


def _mutated(data: bytes, choices: Choices) -> bytes:
    message = msgpack.unpackb(data)
    for _ in range(1 + choices.below(3)):
        message = mutate_message(message, choices)
    changed: bytes = msgpack.packb(message)
    return changed


def _resigned(choices: Choices) -> UnitBundle | None:
    """A bundle in which one stage truly signed other evidence; None where that is no evidence."""
    stage = choices.below(len(UNIT.stages))
    items = list(UNIT.stages[stage].evidence)
    place = choices.below(len(items))
    try:
        items[place] = StageEvidence.from_bytes(_mutated(items[place].to_bytes(), choices))
    except ProofError:
        return None
    return with_evidence(UNIT, stage, tuple(items))


def _judged(unit: UnitBundle) -> tuple[str, bool]:
    try:
        answer = judge(unit, MEASURES, LIMITS, DOMAIN)
    except ProofError:
        return "measured otherwise", False
    if isinstance(answer, Inquiry):
        return "inquiry", False
    assert Verdict.from_bytes(answer.to_bytes()) == answer
    return ("accepted" if answer.accepted else "rejected"), answer.accepted


def verdict_target(data: bytes) -> str:
    """Signed verdicts through the parser and the check of their signature."""
    choices = Choices(data)
    kind = choices.below(3)
    if kind == 0:
        changed = mutate_bytes(SIGNED_BYTES, choices)
    elif kind == 1:
        changed = choices.rest()
    else:
        changed = _mutated(SIGNED_BYTES, choices)
    try:
        signed = SignedVerdict.from_bytes(changed)
    except ProofError:
        return "refused"
    assert signed.to_bytes() == changed
    try:
        signer = signed.signer()
    except ProofError:
        return "not signed"
    assert signer != SIGNED.validator or signed.verdict == SIGNED.verdict
    return "signed"


TARGETS: dict[str, Callable[[bytes], str]] = {
    "proofs": proof_target,
    "bundles": bundle_target,
    "verdicts": verdict_target,
}
