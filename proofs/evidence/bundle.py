"""The proof bundle: everything a validator needs to judge one work unit.

The orchestrator assembles it from the group's answers. What it says about a stage is only as
good as the stage's signature: a `StageClaim` carries the evidence, and a receipt whose `commitment`
binds that evidence, signed by the stage and its downstream neighbour. `check_claims` tells whether
every claim is so bound; one that is not cannot be held against the stage, because whoever
assembled the bundle might have written it.

A bundle is content-addressed: its id is the sha256 of its canonical bytes.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import FailFast, Field, model_validator

from proofs.encoding.canonical import CanonicalModel
from proofs.encoding.eip712 import Domain
from proofs.encoding.fields import Count, Id32
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.receipts import EncodedReceipt
from proofs.encoding.signing import Address, Signature, tagged_hash
from proofs.evidence.ring_terms import ring_digest
from proofs.evidence.sequence import BundleSequence
from proofs.evidence.statement import StageEvidence, evidence_commitment

MAX_BUNDLE_BYTES = 8 * 2**20

PeerId = Annotated[str, Field(min_length=1, max_length=128)]


class StageClaim(CanonicalModel):
    """One stage's evidence, in the order of the unit's sequences, and its receipt.

    `receipt` and the signatures may be missing where the stage gave none. The receipt is embedded
    as its ABI bytes.
    """

    MAX_BYTES: ClassVar[int] = MAX_BUNDLE_BYTES

    peer_id: PeerId
    address: Address
    evidence: Annotated[tuple[StageEvidence, ...], FailFast(), Field(max_length=4096)] = ()
    receipt: EncodedReceipt | None = None
    receipt_signature: Signature | None = None
    counter_signature: Signature | None = None


class UnitBundle(CanonicalModel):
    """A finished work unit. `boundaries[s]` is the layer at which stage s ends.

    `committed_at` is the chain's latest block when all claims were signed: what is checked follows
    from a later one (`proofs.thresholds.spotcheck`). 0 where there is no chain.
    """

    MAX_BYTES: ClassVar[int] = MAX_BUNDLE_BYTES

    version: Literal[3] = 3
    unit_id: Id32
    group_id: Id32
    generation: Count
    model_id: Id32
    boundaries: Annotated[tuple[Count, ...], FailFast(), Field(min_length=1, max_length=256)]
    stages: Annotated[tuple[StageClaim, ...], FailFast(), Field(min_length=1, max_length=256)]
    sequences: Annotated[
        tuple[BundleSequence, ...], FailFast(), Field(min_length=1, max_length=4096)
    ]
    committed_at: Count = 0

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(self.stages) != len(self.boundaries):
            raise ValueError("there must be one claim for each boundary")
        if any(later <= earlier for earlier, later in pairwise((0, *self.boundaries))):
            raise ValueError("boundaries must rise from above 0")
        if len({s.sequence_id for s in self.sequences}) != len(self.sequences):
            raise ValueError("sequence ids must differ")
        return self

    def work(self, stage: int) -> int:
        """Units of work of a stage: its layers times the prompt and output tokens of the unit."""
        layers = self.boundaries[stage] - (self.boundaries[stage - 1] if stage else 0)
        return layers * sum(sequence.token_count for sequence in self.sequences)

    def depth(self, stage: int) -> float:
        """The layer after which a stage ends over the model's layers."""
        return self.boundaries[stage] / self.boundaries[-1]

    @property
    def ring(self) -> bytes:
        """The ring that the bundle names, as its stages sign it (`proofs.evidence.ring_terms`)."""
        return ring_digest(self.model_id, self.group_id, self.generation, self.boundaries)

    @property
    def draw_id(self) -> bytes:
        """What spot checks draw from, 32 bytes: a tagged hash over the unit's id and each stage's
        evidence commitment. Nothing that can be made anew for the same work, as signatures can."""
        commitments = (evidence_commitment(claim.evidence) for claim in self.stages)
        return tagged_hash("drawn-unit/1", self.unit_id + b"".join(commitments))

    @property
    def content_id(self) -> bytes:
        """sha256 of the canonical bytes."""
        return hashlib.sha256(self.to_bytes()).digest()


def signed_receipts(bundle: UnitBundle) -> tuple[SignedReceipt, ...]:
    """The receipts of a bundle whose claims bind (`check_claims`), stage by stage.

    Work that a node ordered from itself has a receipt that it countersigned; nobody pays for that.
    """
    return tuple(
        SignedReceipt(claim.receipt, claim.receipt_signature, claim.counter_signature)
        for claim in bundle.stages
        if claim.receipt is not None
        and claim.receipt_signature is not None
        and claim.counter_signature is not None
        and claim.receipt.worker != claim.receipt.counterparty
    )


def check_claims(bundle: UnitBundle, domain: Domain) -> str:
    """Why some claim does not bind its stage, or "".

    Each receipt must be for this unit, generation and stage and the pool of the others, claim the
    stage's work, commit to the claim's evidence and carry two signatures: the worker's and that of
    the next stage of the ring, for a lone stage that of whom its receipt names.
    """
    count, pools = len(bundle.stages), set[int]()
    for stage, claim in enumerate(bundle.stages):
        receipt, following = claim.receipt, bundle.stages[(stage + 1) % count].address
        if receipt is None or claim.receipt_signature is None:
            return f"stage {stage} gave no signed receipt"
        bound = (
            receipt.job_id == bundle.unit_id
            and receipt.seq == bundle.generation
            and receipt.stage == stage
            and receipt.worker == claim.address
            and receipt.commitment == evidence_commitment(claim.evidence)
            and (count == 1 or receipt.counterparty == following)
        )
        if not bound:
            return f"the receipt of stage {stage} is not for this unit, stage and evidence"
        if receipt.units != bundle.work(stage):
            return f"stage {stage} claims {receipt.units} units of work, not {bundle.work(stage)}"
        pools.add(receipt.pool_id)
        if len(pools) > 1:
            return f"the receipt of stage {stage} is for another pool than those before it"
        if not receipt.signed_by(claim.address, domain, claim.receipt_signature):
            return f"the receipt of stage {stage} is not signed by {claim.address}"
        counter = claim.counter_signature
        if counter is None or not receipt.signed_by(receipt.counterparty, domain, counter):
            return f"the receipt of stage {stage} is not countersigned by {receipt.counterparty}"
    return ""
