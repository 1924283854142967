"""A ring of stages without a model, for attacks: who did what is known, so blame can be judged.

Rows are an error (how far they are from honest ones) and a tag that makes them different bytes. An
honest stage hands its input's error on; whether such an error shows in its proof is up to the test,
because errors outside the largest values do not. The honest token at output index i is `10 + i`.
Honest stages sign and countersign by the rules that workers keep; what a dishonest one says and
does is a `Deed`. Signatures are real.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from proofs.encoding.receipts import Receipt
from proofs.encoding.signing import address_of
from proofs.evidence.bundle import StageClaim, UnitBundle
from proofs.evidence.sequence import BundleSequence
from proofs.evidence.statement import StageEvidence, evidence_commitment, input_digest, token_digest
from proofs.thresholds.measures import (
    ChunkMeasure,
    RevealedRowsCheck,
    SamplingMeasure,
    SequenceMeasure,
)
from proofs.verdict.blame import Inquiry
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.handover import difference
from proofs.verdict.judge import judge
from proofs.verdict.message import Verdict
from tests.proofs.units import (
    DOMAIN,
    GENERATION,
    GOOD,
    GROUP,
    MODEL,
    NULL,
    OFF,
    PROOF,
    cut,
    stage_key,
    terms,
)

WRONG_TOKEN = 99
FAR = 50.0


@dataclass(frozen=True)
class Rows:
    """All rows of a sequence at one boundary."""

    error: float
    tag: bytes

    @property
    def digest(self) -> bytes:
        return sha256(b"%f" % self.error + self.tag).digest()


@dataclass(frozen=True)
class Deed:
    """What a stage does to a sequence; the defaults are honest.

    `spoil` is the error of the rows that it sends, `proof` what its proofs measure. If it `hides`,
    an error that it was handed does not show in an honest proof of its rows. `says` changes what it
    signs, `terms` what it passes on; `tokens`: as the last stage it sends others back.
    """

    spoil: float = 0.0
    proof: ChunkMeasure | None = None
    hides: bool = False
    says: dict[str, object] = field(default_factory=dict)
    terms: bytes = b""
    tokens: bool = False
    reveals: bool = True
    signs_anything: bool = False


HONEST = Deed()


@dataclass(frozen=True)
class Work:
    """A unit as it was done: every stage's evidence, the rows it got, what its proofs measure."""

    unit_id: bytes
    asked: tuple[BundleSequence, ...]
    done: tuple[BundleSequence, ...]
    evidence: tuple[tuple[StageEvidence, ...], ...]
    received: tuple[tuple[Rows | None, ...], ...]
    measured: tuple[tuple[ChunkMeasure, ...], ...]
    deeds: tuple[Deed, ...]


def do_work(
    unit_id: bytes, asked: tuple[BundleSequence, ...], deeds: tuple[Deed, ...], known: int = 0
) -> Work:
    """Run a unit through stages that do `deeds`; `asked` hold the prompts and the honest output.

    The first `known` tokens are wrong ones that an earlier generation of the group sampled.
    """
    evidence: list[list[StageEvidence]] = [[] for _ in deeds]
    received: list[list[Rows | None]] = [[] for _ in deeds]
    measured: list[list[ChunkMeasure]] = [[] for _ in deeds]
    done = []
    last = len(deeds) - 1
    for sequence in asked:
        told, rows = terms(sequence, len(deeds)), Rows(0.0, sequence.sequence_id)
        incoming: list[Rows | None] = []
        outgoing: list[Rows] = []
        all_terms = []
        for stage, deed in enumerate(deeds):
            incoming.append(rows if stage else None)
            all_terms.append(told)
            told = deed.terms or told
            spoilt = max(rows.error, deed.spoil)
            rows = Rows(spoilt, b"%d" % stage + rows.tag)
            outgoing.append(rows)
            truth = OFF if rows.error and not deed.hides else GOOD
            measured[stage].append(deed.proof or truth)
            received[stage].append(incoming[stage])
        wrong = deeds[last].tokens or (rows.error > 0.0 and not deeds[last].hides)
        honest = sequence.output_ids
        earlier = min(known, len(honest))
        start = len(honest) if wrong else earlier
        output = (WRONG_TOKEN,) * start + honest[start:]
        made = ((0, 3), (earlier, GENERATION)) if earlier < len(honest) else ((0, 3),)
        changes = {"output_ids": output, "segments": made if known else ()}
        final = sequence.model_copy(update=changes)
        done.append(final)
        for stage, deed in enumerate(deeds):
            came = incoming[stage]
            item = StageEvidence(
                sequence_id=sequence.sequence_id,
                rows=len(output),
                proofs=(PROOF,) * sequence.chunks,
                sent=token_digest(output, earlier) if stage == last else outgoing[stage].digest,
                received=came.digest if came else input_digest(sequence.request.prompt_ids, output),
                terms=all_terms[stage],
                returned=b"" if stage else token_digest(output, earlier),
                sampled_from=earlier,
            )
            evidence[stage].append(item.model_copy(update=deed.says))
    return Work(
        unit_id,
        asked,
        tuple(done),
        tuple(map(tuple, evidence)),
        tuple(map(tuple, received)),
        tuple(map(tuple, measured)),
        deeds,
    )


def sign_claim(
    work: Work, stage: int, items: tuple[StageEvidence, ...] | None = None
) -> StageClaim | None:
    """A stage's claim with its neighbour's countersignature, None where that is refused. `items`
    other than its own evidence can be signed by a dishonest stage alone."""
    count = len(work.deeds)
    items = work.evidence[stage] if items is None else items
    following = (stage + 1) % count
    if (
        count > 1
        and not work.deeds[following].signs_anything
        and difference(items, work.evidence[following], following)
    ):
        return None
    tokens = sum(s.token_count for s in work.done)
    receipt = Receipt(
        job_id=work.unit_id,
        worker=address_of(stage_key(stage)),
        pool_id=1,
        stage=stage,
        seq=GENERATION,
        counterparty=address_of(stage_key(following)),
        epoch=1,
        units=10 * tokens,
        commitment=evidence_commitment(items),
    )
    return StageClaim(
        peer_id=f"peer{stage}",
        address=address_of(stage_key(stage)),
        evidence=items,
        receipt=receipt,
        receipt_signature=receipt.sign(stage_key(stage), DOMAIN),
        counter_signature=receipt.sign(stage_key(following), DOMAIN),
    )


def assemble(
    work: Work, claims: list[StageClaim], sequences: tuple[BundleSequence, ...] | None = None
) -> UnitBundle:
    """The bundle as an assembler presents it: `sequences` is its word."""
    return UnitBundle(
        unit_id=work.unit_id,
        group_id=GROUP,
        generation=GENERATION,
        model_id=MODEL,
        boundaries=cut(len(claims)),
        stages=tuple(claims),
        sequences=sequences or work.done,
    )


def hold_court(work: Work, bundle: UnitBundle, limits: RejectConvictLimits) -> Verdict:
    """An honest validator's verdict. It can measure only against the bundle's own tokens: where
    these are not what was embedded, every honest proof is off."""
    measures = []
    for index, (told, done) in enumerate(zip(bundle.sequences, work.done, strict=True)):
        same = (told.request.prompt_ids, told.output_ids) == (
            done.request.prompt_ids,
            done.output_ids,
        )
        stages = []
        for stage in range(len(work.deeds)):
            chunk = work.measured[stage][index]
            chunk = chunk if same or chunk is NULL else OFF
            stages.append((chunk,) * told.chunks)
        scores = tuple(0.0 if token == 10 + i else 0.5 for i, token in enumerate(told.output_ids))
        sampling = SamplingMeasure(tokens=len(scores), matches=scores.count(0.0), scores=scores)
        measures.append(
            SequenceMeasure(sequence_id=told.sequence_id, stages=tuple(stages), sampling=sampling)
        )
    revealed: dict[Inquiry, RevealedRowsCheck | None] = {}
    for _ in range(len(work.deeds) + 1):
        answer = judge(bundle, measures, limits, DOMAIN, revealed)
        if isinstance(answer, Verdict):
            return answer
        revealed[answer] = _reveal(work, answer)
    raise AssertionError("more inquiries than stages")


def _reveal(work: Work, inquiry: Inquiry) -> RevealedRowsCheck | None:
    """What a validator finds out. Nobody can show other bytes for a hash than those it was made of,
    and what a stage's layers give for them is known."""
    stage, index, deed = inquiry.stage, inquiry.index, work.deeds[inquiry.stage]
    rows = work.received[stage][index]
    if not deed.reveals or rows is None or rows.digest != inquiry.digest:
        return None
    chunk = deed.proof or (OFF if deed.spoil and not deed.hides else GOOD)
    if deed.proof is GOOD and rows.error:
        chunk = OFF  # of honest rows, which these layers do not give for such an input
    count = len(work.done[index].output_ids)
    wrong = deed.tokens or deed.spoil > 0.0
    return RevealedRowsCheck(
        error=rows.error,
        chunks=(chunk,) * work.done[index].chunks,
        sampling=SamplingMeasure(
            tokens=count, matches=0 if wrong else count, scores=((0.5 if wrong else 0.0),) * count
        ),
        sent_error=deed.spoil,
    )
