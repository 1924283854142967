"""Is a stage's claim what it was asked for? Checked on arrival, before it goes into a bundle.

A validator can only convict a stage by what the stage signed, and whoever is named in a claim is
who gets banned. So a claim must name the peer that was asked, and carry a receipt for this unit,
stage and build that binds the evidence, signed by that peer and its downstream neighbour. Evidence
that is bad but signed is left to the validator, with one exception: a count of rows that differs
from the output's length is the sender's lie or stage 0's, which schedules the rows, and must not
convict either of them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from node.roles.orchestrator.units import Unit
from pipeline.planner import GroupPlan
from proofs.bundle import MAX_BUNDLE_BYTES, StageClaim
from proofs.eip712 import Domain
from proofs.errors import ProofError
from proofs.evidence import evidence_commitment

SEQUENCE_BYTES = 512
"""Of a bundle, for what a sequence takes besides 5 bytes a token and its stop strings."""


class BadClaim(Exception):
    """A claim that cannot go into a bundle. `suspects` are the stages of which one is at fault."""

    def __init__(self, reason: str, suspects: tuple[int, ...]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.suspects = suspects


@dataclass(frozen=True)
class Asked:
    """A build's unit, as its stages were asked about it. `addresses` are the stages' own, `owner`
    is the pool owner's, who countersigns for a lone stage."""

    unit: Unit
    plan: GroupPlan
    addresses: tuple[str, ...]
    pool_id: int
    domain: Domain
    owner: str

    @property
    def share(self) -> int:
        """Bytes of the bundle that one stage's claim may take."""
        sequences = sum(
            SEQUENCE_BYTES
            + 5 * (len(s.prompt_ids) + len(s.output_ids) + len(s.eos_ids))
            + sum(len(stop.encode()) + 8 for stop in s.stop)
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
        self._check_rows(stage, claim)
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
            "build": (receipt.seq, self.unit.generation),
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

    def _check_rows(self, stage: int, claim: StageClaim) -> None:
        lengths = {s.sequence_id: len(s.output_ids) for s in self.unit.sequences}
        for item in claim.evidence:
            if item.rows != lengths.get(item.sequence_id, item.rows):
                raise BadClaim(
                    f"it proves {item.rows} rows of {lengths[item.sequence_id]} tokens",
                    tuple(dict.fromkeys((0, stage))),
                )
