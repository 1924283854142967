"""What a stage is owed: its receipt for a unit, and its neighbour's countersignature.

When a unit is finished the orchestrator asks every stage for its claim. A stage collects the
evidence from its engine, signs a receipt that commits to it, has the downstream stage (of the last
one: stage 0) countersign, and answers with all of it. A lone stage has nobody to countersign. The
receipt is journaled before it is signed, so that a node which is killed and asked again gives the
same one.

A countersignature is agreement. It says: this neighbour was upstream of me in this generation of
the group, the units it claims are its layers times the tokens that I, too, was told of, and what
its evidence says of what passed between us (sequences, rows, terms, hashes) is what mine says. So a
stage that has both signatures under statements that differ contradicts itself, and an honest one
never has. Whether the rows were right is the validator's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.roles.worker.journal_events import ReceiptSigned
from node.roles.worker.membership import Membership
from node.roles.worker.signing.statements import Statements
from node.roles.worker.stage import Assignment, StageHost, engine_refusals
from node.roles.worker.timing import WorkerTiming
from node.wire.decoding import decode_for
from node.wire.messages.fields import Done, StageRef
from node.wire.messages.verification import (
    ClaimAnswer,
    ClaimRequest,
    Countersigned,
    CountersignRequest,
    Forget,
)
from node.wire.methods import COUNTERSIGN
from node.wire.rpc import call
from p2p.errors import P2PError, Refused
from pipeline.engine.control.messages import SequenceIds
from pipeline.engine.control.operations import FORGET
from proofs.encoding.receipts import Receipt
from proofs.encoding.signing import recover, sign_digest
from proofs.errors import ProofError
from proofs.evidence.bundle import StageClaim
from proofs.evidence.statement import StageEvidence, evidence_commitment
from proofs.verdict.handover import difference

UNITS_REMEMBERED = 4096
MAX_AWAITED = 64
"""Units that the neighbour asks about and the orchestrator has not spoken of yet."""


@dataclass
class _UnitFacts:
    """What the orchestrator told this stage of a unit, and the upstream receipt that was
    countersigned for it: one, whatever else is asked later."""

    token_count: int = 0
    sequence_ids: tuple[bytes, ...] = ()
    countersigned: bytes = b""


class Receipts:
    """Signs this stage's receipts and countersigns its upstream neighbour's. `worked` is told what
    the engine did for them, in layers times tokens. What was told of units is kept of the newest
    `units_remembered`."""

    def __init__(
        self,
        context: NodeContext,
        membership: Membership,
        stage: StageHost,
        timing: WorkerTiming,
        worked: Callable[[int], None],
        units_remembered: int = UNITS_REMEMBERED,
    ) -> None:
        self._context = context
        self._membership = membership
        self._stage = stage
        self._timing = timing
        self._worked = worked
        self._units_remembered = units_remembered
        self._statements = Statements(context, stage, timing)
        self._counted: dict[bytes, None] = {}
        self._facts: dict[tuple[bytes, int], _UnitFacts] = {}
        self._awaited: dict[tuple[bytes, int], trio.Event] = {}

    async def on_claim(self, peer_id: str, request: ClaimRequest) -> ClaimAnswer:
        """This stage's evidence and countersigned receipt for a finished unit."""
        pool = self._membership.require_orchestrator(peer_id)
        assignment = self._require_own(request.ref)
        self._tell(request)
        me, order = assignment.me, assignment.order
        evidence = await self._statements.of(request.unit_id, order.ref, request.sequence_ids)
        alone = len(order.stages) == 1
        receipt = Receipt(
            job_id=request.unit_id,
            worker=self._context.address,
            pool_id=order.pool_id,
            stage=order.ref.stage,
            seq=request.ref.generation,
            counterparty=pool.address if alone else assignment.downstream.address,
            epoch=request.epoch,
            units=(me.last_layer - me.first_layer) * request.token_count,
            commitment=evidence_commitment(evidence),
        )
        receipt = await self._journaled(receipt)
        self._count(evidence, me.last_layer - me.first_layer)
        digest = receipt.digest(self._context.receipt_domain)
        claim = StageClaim(
            peer_id=self._context.peer_id,
            address=self._context.address,
            evidence=evidence,
            receipt=receipt,
            receipt_signature=sign_digest(self._context.key, digest),
        )
        if not alone:
            counter = await self._countersignature(assignment, request.ref, claim)
            claim = claim.model_copy(update={"counter_signature": counter})
        return ClaimAnswer(claim=claim.to_bytes())

    async def on_countersign(self, peer_id: str, request: CountersignRequest) -> Countersigned:
        """Sign the upstream stage's receipt, if its claim is what this stage saw."""
        assignment = self._stage.require(request.ref)
        own, upstream = assignment.order.ref, assignment.upstream
        if peer_id != upstream.peer_id:
            raise Refused("not_my_neighbour", "only the upstream stage may ask")
        try:
            network = self._context.network
            claim = await decode_for(network, peer_id, request.claim, StageClaim.from_bytes)
            if claim.receipt is None or claim.receipt_signature is None:
                raise Refused("bad_receipt", "the claim has no signed receipt")
            receipt = claim.receipt
            digest = receipt.digest(self._context.receipt_domain)
            signer = recover(digest, claim.receipt_signature)
        except ProofError as exc:
            raise Refused("bad_receipt", str(exc)) from exc
        _require(
            peer=(claim.peer_id, upstream.peer_id),
            address=(claim.address, upstream.address),
            worker=(receipt.worker, upstream.address),
            signer=(signer, upstream.address),
            counterparty=(receipt.counterparty, self._context.address),
            pool=(receipt.pool_id, assignment.order.pool_id),
            stage=(receipt.stage, (own.stage - 1) % len(assignment.order.stages)),
            seq=(receipt.seq, own.generation),
            commitment=(receipt.commitment, evidence_commitment(claim.evidence)),
        )
        facts = await self._told_of(receipt.job_id, own.generation)
        _require(
            units=(
                receipt.units,
                (upstream.last_layer - upstream.first_layer) * facts.token_count,
            ),
            receipt=(digest, facts.countersigned or digest),
        )
        evidence = await self._statements.of(receipt.job_id, own, facts.sequence_ids)
        if reason := difference(claim.evidence, evidence, own.stage):
            raise Refused("rows_differ", reason)
        _require(receipt=(digest, facts.countersigned or digest))
        facts.countersigned = digest
        return Countersigned(signature=sign_digest(self._context.key, digest))

    async def on_forget(self, peer_id: str, request: Forget) -> Done:
        """Drop evidence that nobody will ask for any more. Rows of an older generation go, too."""
        self._membership.require_orchestrator(peer_id)
        await self._stage.release(request.sequence_ids)
        self._require_own(request.ref)
        with engine_refusals():
            body = SequenceIds(sequence_ids=request.sequence_ids)
            await self._stage.engine.request(FORGET, body, timeout=self._timing.engine)
        return Done()

    def _require_own(self, ref: StageRef) -> Assignment:
        assignment = self._stage.require(ref)
        if ref.stage != assignment.order.ref.stage:
            raise Refused("bad_request", f"my stage is {assignment.order.ref.stage}")
        return assignment

    def _tell(self, request: ClaimRequest) -> None:
        """What the orchestrator says of a unit; it stays with the neighbour's receipt for it."""
        key = (request.unit_id, request.ref.generation)
        facts = self._facts.setdefault(key, _UnitFacts())
        facts.token_count, facts.sequence_ids = request.token_count, request.sequence_ids
        while len(self._facts) > self._units_remembered:
            del self._facts[next(iter(self._facts))]
        if key in self._awaited:
            self._awaited[key].set()

    async def _told_of(self, unit_id: bytes, generation: int) -> _UnitFacts:
        """What the orchestrator says of a unit, waited for. What a neighbour asks about takes no
        place from what was told. Raises `Refused`."""
        key = (unit_id, generation)
        if key not in self._facts:
            if key not in self._awaited and len(self._awaited) >= MAX_AWAITED:
                raise Refused("busy", "other units are being waited for; ask again")
            told = self._awaited.setdefault(key, trio.Event())
            try:
                with trio.move_on_after(self._timing.countersign):
                    await told.wait()
            finally:
                self._awaited.pop(key, None)
        facts = self._facts.get(key)
        if facts is None:
            raise Refused("unknown_unit", "the orchestrator has not asked me about that unit")
        return facts

    def _count(self, evidence: tuple[StageEvidence, ...], layers: int) -> None:
        """Tell how much this stage's own engine did, each sequence once, whatever it is called."""
        fresh = [item for item in evidence if item.sequence_id not in self._counted]
        for item in fresh:
            while len(self._counted) >= self._units_remembered:
                del self._counted[next(iter(self._counted))]
            self._counted[item.sequence_id] = None
        if fresh:
            self._worked(layers * sum(item.rows for item in fresh))

    async def _journaled(self, receipt: Receipt) -> Receipt:
        """The receipt to sign for this unit and generation: the first one ever journaled."""
        signed, journal = ReceiptSigned(receipt=receipt), self._context.journal
        (fresh,) = await journal.record(signed)
        known = None if fresh else await journal.find(ReceiptSigned, signed.key)
        first = receipt if known is None else known.receipt
        if first.model_copy(update={"epoch": receipt.epoch}) != receipt:
            raise Refused("conflict", "I signed another receipt for that unit")
        return first

    async def _countersignature(
        self, assignment: Assignment, ref: StageRef, claim: StageClaim
    ) -> bytes:
        body = CountersignRequest(ref=ref, claim=claim.to_bytes())
        try:
            answer = await call(self._context, assignment.downstream.peer_id, COUNTERSIGN, body)
        except P2PError as exc:
            raise Refused("no_countersignature", str(exc)) from exc
        return answer.signature


def _require(**facts: tuple[object, object]) -> None:
    """Raise `Refused` for the first fact whose two values, said and seen, differ."""
    for name, (said, seen) in facts.items():
        if said != seen:
            raise Refused("bad_receipt", f"{name} is {said!r:.100}, I know {seen!r:.100}")
