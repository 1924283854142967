"""Work units with honest evidence, receipts and measurements, to be spoilt by tests."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from proofs.encoding.eip712 import Domain
from proofs.encoding.receipts import Receipt
from proofs.encoding.signing import address_of, checksum_address
from proofs.evidence.bundle import StageClaim, UnitBundle
from proofs.evidence.ring_terms import request_terms, ring_digest
from proofs.evidence.sequence import BundleSequence, FinishReason, NoiseSource, SequenceRequest
from proofs.evidence.statement import StageEvidence, evidence_commitment, input_digest, token_digest
from proofs.sampling.noise import noise_key
from proofs.sampling.settings import SamplingSettings
from proofs.thresholds.measures import ChunkMeasure, SamplingMeasure, SequenceMeasure

DOMAIN = Domain(chain_id=31337, verifying_contract=checksum_address(b"\xaa" * 20))
UNIT = sha256(b"unit").digest()
MODEL = sha256(b"model").digest()
EOS = 2
OWNER_KEY = b"\x0f" * 32
PROOF = b"\xff\xd9" + bytes(256)
GOOD = ChunkMeasure(exp_mismatches=0, mant_err_mean=0.01, mant_err_median=0.0)
OFF = ChunkMeasure(exp_mismatches=90, mant_err_mean=40.0, mant_err_median=38.0)
UNMATCHED = ChunkMeasure(exp_mismatches=128, mant_err_mean=-1.0, mant_err_median=-1.0)
NULL = ChunkMeasure(
    exp_mismatches=128, mant_err_mean=-1.0, mant_err_median=-1.0, malformed="null proof"
)


def stage_key(stage: int) -> bytes:
    return bytes([stage + 1]) * 32


PROMPT = (5, 6, 7)


REQUEST_FIELDS = frozenset(SequenceRequest.model_fields)


def sequence(number: int, tokens: int = 70, **changes: Any) -> BundleSequence:
    source = NoiseSource(beacon=b"block hash", block=7, request_id=bytes([number]))
    key = noise_key(source.beacon, source.request_id, PROMPT, 0)
    request = {
        "sequence_id": bytes([number]) * 16,
        "prompt_ids": PROMPT,
        "sampling": SamplingSettings(temperature=0.7, top_k=50, noise_key=key),
        "max_tokens": tokens,
        "eos_ids": (EOS,),
    }
    fields = {
        "output_ids": tuple(10 + i % 50 for i in range(tokens)),
        "noise": source,
        "reason": FinishReason.LENGTH,
    }
    request |= {name: changes.pop(name) for name in list(changes) if name in REQUEST_FIELDS}
    made = SequenceRequest.model_validate(request)
    return BundleSequence.model_validate({"request": made, **fields, **changes})


def changed(told: BundleSequence, **changes: Any) -> BundleSequence:
    """`told` with other fields, its own or of its request, unchecked."""
    asked = {name: changes.pop(name) for name in list(changes) if name in REQUEST_FIELDS}
    request = told.request.model_copy(update=asked)
    return told.model_copy(update={"request": request, **changes})


def link(stage: int, number: int) -> bytes:
    """Hash of the rows that stage `stage` sends of sequence `number`."""
    return sha256(b"rows %d %d" % (stage, number)).digest()


GROUP, GENERATION = sha256(b"group").digest(), 4


def cut(stages: int) -> tuple[int, ...]:
    return tuple(10 * (stage + 1) for stage in range(stages))


def terms(seq: BundleSequence, stages: int) -> bytes:
    ring = ring_digest(MODEL, GROUP, GENERATION, cut(stages))
    return request_terms(ring, seq.request)


def evidence(
    stage: int, sequences: Sequence[BundleSequence], stages: int = 3
) -> tuple[StageEvidence, ...]:
    """What an honest stage says of the sequences."""
    return tuple(
        StageEvidence(
            sequence_id=seq.sequence_id,
            rows=len(seq.output_ids),
            proofs=(PROOF,) * seq.chunks,
            sent=token_digest(seq.output_ids, 0) if stage == stages - 1 else link(stage, number),
            received=link(stage - 1, number)
            if stage
            else input_digest(seq.request.prompt_ids, seq.output_ids),
            terms=terms(seq, stages),
            returned=b"" if stage else token_digest(seq.output_ids, 0),
        )
        for number, seq in enumerate(sequences)
    )


def claim(
    stage: int, stages: int, items: tuple[StageEvidence, ...], /, **changes: Any
) -> StageClaim:
    """A claim with `items` as evidence, truly signed; `changes` are to the receipt. A lone stage's
    is countersigned by the pool's owner."""
    counter_key = OWNER_KEY if stages == 1 else stage_key((stage + 1) % stages)
    receipt = Receipt(
        job_id=UNIT,
        worker=address_of(stage_key(stage)),
        pool_id=1,
        stage=stage,
        seq=GENERATION,
        counterparty=address_of(counter_key),
        epoch=1,
        units=0,
        commitment=evidence_commitment(items),
    ).model_copy(update=changes)
    return StageClaim(
        peer_id=f"peer{stage}",
        address=address_of(stage_key(stage)),
        evidence=items,
        receipt=receipt,
        receipt_signature=receipt.sign(stage_key(stage), DOMAIN),
        counter_signature=receipt.sign(counter_key, DOMAIN),
    )


def work(sequences: Sequence[BundleSequence]) -> int:
    """Units of work of each stage: ten layers for every token."""
    return 10 * sum(s.token_count for s in sequences)


def bundle(stages: int = 3, sequences: Sequence[BundleSequence] | None = None) -> UnitBundle:
    sequences = sequences or (sequence(1), sequence(2, 20))
    return UnitBundle(
        unit_id=UNIT,
        group_id=GROUP,
        generation=GENERATION,
        model_id=MODEL,
        boundaries=cut(stages),
        stages=tuple(
            claim(s, stages, evidence(s, sequences, stages), units=work(sequences))
            for s in range(stages)
        ),
        sequences=tuple(sequences),
    )


def with_evidence(unit: UnitBundle, stage: int, items: tuple[StageEvidence, ...]) -> UnitBundle:
    """`unit` with other evidence of one stage, which that stage truly signed."""
    claims = list(unit.stages)
    claims[stage] = claim(stage, len(claims), items, units=work(unit.sequences))
    return unit.model_copy(update={"stages": tuple(claims)})


def measures(
    unit: UnitBundle,
    spoilt: dict[int, ChunkMeasure] | None = None,
    scores: float = 0.0,
    match_every: int = 1,
) -> list[SequenceMeasure]:
    """Honest measurements; `spoilt` replaces the last chunk of the last sequence of a stage."""
    found = []
    for seq in unit.sequences:
        last = seq is unit.sequences[-1]
        chunks = []
        for stage in range(len(unit.stages)):
            row = [GOOD] * seq.chunks
            if last and spoilt and stage in spoilt:
                row[-1] = spoilt[stage]
            chunks.append(tuple(row))
        count = len(seq.output_ids)
        sampling = SamplingMeasure(
            tokens=count, matches=count // match_every, scores=(scores,) * count
        )
        found.append(
            SequenceMeasure(sequence_id=seq.sequence_id, stages=tuple(chunks), sampling=sampling)
        )
    return found
