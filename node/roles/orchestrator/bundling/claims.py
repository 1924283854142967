"""Is a stage's claim what it was asked for? Checked on arrival, before it goes into a bundle.

A validator can only convict a stage by what the stage signed, and whoever is named in a claim is
who gets banned. So a claim must name the peer that was asked, and carry a receipt for this unit,
stage and generation that binds the evidence, signed by that peer and its downstream neighbour.
Evidence that is bad but signed is left to the validator, with one exception. Sequences, rows,
tokens and terms must be those that this node knows: a bundle that says something else than its
stages signed blames nobody, since its assembler may have written it. Here the assembler knows
better. Stage 0 schedules the rows, passes the terms on and reports the tokens, so what another
stage says of them is its lie or stage 0's.
"""

from __future__ import annotations

from dataclasses import dataclass

from node.roles.orchestrator.coordinator.units import Unit, WorkSequence
from pipeline.planner import GroupPlan
from proofs.encoding.eip712 import Domain
from proofs.errors import ProofError
from proofs.evidence.bundle import MAX_BUNDLE_BYTES, StageClaim
from proofs.evidence.ring_terms import request_terms, ring_digest
from proofs.evidence.statement import StageEvidence, evidence_commitment, input_digest, token_digest

SEQUENCE_BYTES = 512
"""Of a bundle, for what a sequence takes besides 5 bytes a token and its stop strings."""


class BadClaim(Exception):
    """A claim that cannot go into a bundle. `suspects` are the stages of which one is at fault."""

    def __init__(self, reason: str, suspects: tuple[int, ...]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.suspects = suspects


@dataclass(frozen=True)
class ClaimRequestContext:
    """A unit of one generation, as its stages were asked about it. `addresses` are the stages' own,
    `owner` is the pool owner's, who countersigns for a lone stage. `kernel_class` is the only one
    that the pool takes, "" for any."""

    unit: Unit
    plan: GroupPlan
    addresses: tuple[str, ...]
    pool_id: int
    domain: Domain
    owner: str
    model_id: bytes
    kernel_class: str = ""

    @property
    def share(self) -> int:
        """Bytes of the bundle that one stage's claim may take."""
        sequences = sum(
            SEQUENCE_BYTES
            + 5 * (s.token_count + len(s.request.eos_ids))
            + sum(len(stop.encode()) + 8 for stop in s.request.stop)
            for s in self.unit.sequences
        )
        return max(MAX_BUNDLE_BYTES - sequences - 4096, 0) // len(self.addresses)

    def check(self, stage: int, data: bytes) -> StageClaim:
        """The claim of `stage`. Raises `BadClaim`."""
        if len(data) > self.share:
            raise BadClaim(f"its claim has {len(data)} bytes, {self.share} are its share", (stage,))
        try:
            claim = StageClaim.from_bytes(data)
        except ProofError as exc:
            raise BadClaim(str(exc), (stage,)) from exc
        self._check_receipt(stage, claim)
        self._check_evidence(stage, claim)
        return claim

    def _check_receipt(self, stage: int, claim: StageClaim) -> None:
        planned, count = self.plan.stages[stage], len(self.addresses)
        following = self.addresses[(stage + 1) % count] if count > 1 else self.owner
        receipt, signature = claim.receipt, claim.receipt_signature
        if receipt is None or signature is None:
            raise BadClaim("its claim has no signed receipt", (stage,))
        layers = planned.last_layer - planned.first_layer
        expected = {
            "peer": (claim.peer_id, planned.peer_id),
            "address": (claim.address, self.addresses[stage]),
            "worker": (receipt.worker, self.addresses[stage]),
            "job": (receipt.job_id, self.unit.unit_id),
            "pool": (receipt.pool_id, self.pool_id),
            "stage": (receipt.stage, stage),
            "generation": (receipt.seq, self.unit.generation),
            "units": (receipt.units, layers * self.unit.token_count),
            "commitment": (receipt.commitment, evidence_commitment(claim.evidence)),
        }
        expected["counterparty"] = (receipt.counterparty, following)
        for name, (said, wanted) in expected.items():
            if said != wanted:
                raise BadClaim(f"its claim names another {name}: {said!r:.80}", (stage,))
        if not receipt.signed_by(self.addresses[stage], self.domain, signature):
            raise BadClaim("its receipt is signed by somebody else", (stage,))
        counter = claim.counter_signature
        if count > 1 and (
            counter is None or not receipt.signed_by(following, self.domain, counter)
        ):
            raise BadClaim("its receipt is not countersigned by the next stage", (stage,))

    def _check_evidence(self, stage: int, claim: StageClaim) -> None:
        sequences = self.unit.sequences
        if [item.sequence_id for item in claim.evidence] != [s.sequence_id for s in sequences]:
            raise BadClaim("it proves other sequences", (stage,))
        for sequence, item in zip(sequences, claim.evidence, strict=True):
            if self.kernel_class and item.kernel_class != self.kernel_class:
                stated = item.kernel_class or "no kernel class"
                raise BadClaim(f"it states {stated}, not {self.kernel_class}", (stage,))
            if reason := self._differs(stage, sequence, item):
                raise BadClaim(reason, tuple(dict.fromkeys((0, stage))))

    def _differs(self, stage: int, sequence: WorkSequence, item: StageEvidence) -> str:
        """How a stage's evidence differs from what this node knows of the sequence, or ""."""
        prompt, output = sequence.request.prompt_ids, sequence.output_ids
        unit, cut = self.unit, tuple(planned.last_layer for planned in self.plan.stages)
        terms = request_terms(
            ring_digest(self.model_id, unit.group_id, unit.generation, cut), sequence.request
        )
        if item.rows != len(output):
            return f"it proves {item.rows} rows of {len(output)} tokens"
        if item.terms != terms:
            return "it was told another ring, model, sampling or ending"
        if item.sampled_from != sequence.sampled_from(unit.generation):
            return f"it says that tokens were sampled from {item.sampled_from} on"
        if stage == 0 and item.received != input_digest(prompt, output):
            return "it embedded other tokens than it reported"
        last = stage == len(self.addresses) - 1
        if last and item.sent != token_digest(output, item.sampled_from):
            return "it sampled other tokens than were reported"
        return ""
