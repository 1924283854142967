"""Validators whose pool owners and fellow validators are played by the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from node.roles.validator.assembly import OpenModel
from node.roles.validator.service import Validator
from node.roles.validator.timing import ValidatorTiming
from node.wire.messages.fields import Done
from node.wire.messages.verification import BundleUpload, VerdictNotice, VerifyRequest
from node.wire.methods import BUNDLE, VERDICT, VERIFY
from node.wire.rpc import serve
from p2p.errors import RemoteRefused
from proofs.encoding.eip712 import Domain
from proofs.encoding.receipts import Receipt
from proofs.evidence.bundle import StageClaim, UnitBundle
from proofs.evidence.ring_terms import ring_digest
from proofs.evidence.sequence import BundleSequence, FinishReason, SequenceRequest
from proofs.evidence.statement import evidence_commitment
from proofs.verdict.message import SignedVerdict, Verdict
from tests.adversarial.harness import (
    VALIDATOR_TIMING,
    Node,
    eventually,
    make_validator,
    named_model,
    open_node,
    running,
)
from tests.adversarial.ledger import Ledger
from tests.adversarial.standins import (
    DOMAIN,
    LAYERS,
    MODEL,
    POOL,
    PRICE,
    Engine,
    Ring,
    stage_evidence,
)

TOKENS = 7
WORK = LAYERS * TOKENS * PRICE
"""What one unit earns, wei."""


def bundle_of(
    worker: Node,
    boss: Node,
    unit: bytes,
    pool_id: int,
    last: int,
    domain: Domain = DOMAIN,
    prompt: tuple[int, ...] = (3, 4, 5),
) -> UnitBundle:
    """A unit that `worker` truly did alone for `boss`; `last` is its last token."""
    sequence = BundleSequence(
        request=SequenceRequest(
            sequence_id=sha256(unit).digest()[:16], prompt_ids=prompt, max_tokens=4
        ),
        output_ids=(10, 11, 12, last),
        reason=FinishReason.LENGTH,
    )
    ring = ring_digest(MODEL, b"g" * 32, 1, (LAYERS,))
    evidence = stage_evidence(sequence, 0, 1, ring=ring)
    receipt = Receipt(
        job_id=sha256(unit).digest(),
        worker=worker.address,
        pool_id=pool_id,
        stage=0,
        seq=1,
        counterparty=boss.address,
        epoch=1,
        units=LAYERS * sequence.token_count,
        commitment=evidence_commitment((evidence,)),
    )
    claim = StageClaim(
        peer_id=worker.peer_id,
        address=worker.address,
        evidence=(evidence,),
        receipt=receipt,
        receipt_signature=receipt.sign(worker.context.key, domain),
        counter_signature=receipt.sign(boss.context.key, domain),
    )
    return UnitBundle(
        unit_id=sha256(unit).digest(),
        group_id=b"g" * 32,
        generation=1,
        model_id=MODEL,
        boundaries=(LAYERS,),
        stages=(claim,),
        sequences=(sequence,),
    )


def ring_bundle(
    workers: Sequence[Node],
    unit: bytes,
    *,
    bad: frozenset[int] = frozenset(),
    says: dict[int, dict[str, Any]] | None = None,
) -> UnitBundle:
    """A unit that `workers` did in a ring; stages in `bad` sent on other rows than they should have
    and signed for them, `says` changes what a stage says."""
    unit_id, count = sha256(unit).digest(), len(workers)
    layers = LAYERS // count
    sequence = BundleSequence(
        request=SequenceRequest(sequence_id=unit_id[:16], prompt_ids=(3, 4, 5), max_tokens=4),
        output_ids=(10, 11, 12, 13),
        reason=FinishReason.LENGTH,
    )
    ring = ring_digest(MODEL, b"g" * 32, 1, tuple(layers * (s + 1) for s in range(count)))
    claims = []
    for stage, worker in enumerate(workers):
        following = workers[(stage + 1) % count]
        item = stage_evidence(sequence, stage, count, bad=bad, ring=ring)
        evidence = (item.model_copy(update=(says or {}).get(stage, {})),)
        receipt = Receipt(
            job_id=unit_id,
            worker=worker.address,
            pool_id=POOL,
            stage=stage,
            seq=1,
            counterparty=following.address,
            epoch=1,
            units=layers * TOKENS,
            commitment=evidence_commitment(evidence),
        )
        claims.append(
            StageClaim(
                peer_id=worker.peer_id,
                address=worker.address,
                evidence=evidence,
                receipt=receipt,
                receipt_signature=receipt.sign(worker.context.key, DOMAIN),
                counter_signature=receipt.sign(following.context.key, DOMAIN),
            )
        )
    return UnitBundle(
        unit_id=unit_id,
        group_id=b"g" * 32,
        generation=1,
        model_id=MODEL,
        boundaries=tuple(layers * (stage + 1) for stage in range(count)),
        stages=tuple(claims),
        sequences=(sequence,),
    )


def offer(unit: UnitBundle, **changes: Any) -> VerifyRequest:
    """What an honest orchestrator offers; `changes` are lies."""
    pools = [claim.receipt.pool_id for claim in unit.stages if claim.receipt is not None]
    content = unit.to_bytes()
    said = VerifyRequest(
        pool_id=pools[0] if pools else POOL,
        unit_id=unit.unit_id,
        bundle_id=sha256(content).digest(),
        size=len(content),
        tokens=sum(sequence.token_count for sequence in unit.sequences),
    )
    return said.model_copy(update=changes)


async def send(sender: Node, judge: str, unit: UnitBundle, **changes: Any) -> None:
    """Offer a bundle and upload it if it is wanted. Raises `RemoteRefused`."""
    said = offer(unit, **changes)
    if (await sender.ask(judge, VERIFY, said))["wanted"]:
        await sender.ask(judge, BUNDLE, upload(unit, said.bundle_id))


def upload(unit: UnitBundle, bundle_id: bytes | None = None) -> BundleUpload:
    content = unit.to_bytes()
    return BundleUpload(bundle_id=bundle_id or sha256(content).digest(), bundle=content)


async def refusal(sender: Node, judge: str, unit: UnitBundle, **changes: Any) -> str:
    """The code of the refusal that an offer or its upload meets."""
    try:
        await send(sender, judge, unit, **changes)
    except RemoteRefused as exc:
        return exc.code
    raise AssertionError("the bundle was taken")


@dataclass
class ValidatorScenario:
    """`owner` owns the pool, `rival` another one, and each works for the other; what they heard
    accepted is in `verdicts`, what rejected, where that `may_reject`, in `rejected`. `judge` is the
    validator under test, alone unless `weights` say else."""

    folder: Path
    owner: Node
    rival: Node
    ledger: Ledger
    engine: Engine
    deaf: bool = False
    may_reject: bool = False
    verdicts: list[bytes] = field(default_factory=list)
    rejected: dict[bytes, Verdict] = field(default_factory=dict)
    judge: Node | None = None
    validator: Validator | None = None
    timing: ValidatorTiming = VALIDATOR_TIMING
    open_model: OpenModel = named_model

    @asynccontextmanager
    async def session(self, weight: int = 1) -> AsyncIterator[ValidatorScenario]:
        """One run of the validator; the next one finds its journal."""
        self.engine = Engine(self.engine.ring)
        async with open_node(
            5, self.folder / "judge", boot=self.owner, ledger=self.ledger, role="validator"
        ) as self.judge:
            self.ledger.weights[self.judge.address] = weight
            self.validator = make_validator(self.judge, self.engine, self.timing, self.open_model)
            async with running(self.judge, validator=self.validator):
                yield self

    def bundle(
        self, unit: bytes = b"u", *, pool_id: int = POOL, last: int = 13, boss: Node | None = None
    ) -> UnitBundle:
        owner, worker = self.owner, self.rival
        if pool_id == POOL + 1:
            owner, worker = worker, owner
        return bundle_of(worker, boss or owner, unit, pool_id, last)

    async def verify(self, unit: UnitBundle, sender: Node | None = None) -> None:
        assert self.judge is not None
        await send(sender or self.owner, self.judge.peer_id, unit)

    async def refused(self, unit: UnitBundle, sender: Node | None = None, **changes: Any) -> str:
        assert self.judge is not None
        return await refusal(sender or self.owner, self.judge.peer_id, unit, **changes)

    async def judged(self, *units: UnitBundle) -> None:
        await eventually(lambda: all(u.content_id in self.verdicts for u in units))

    def paid(self) -> int:
        return self.ledger.total(POOL)


@asynccontextmanager
async def open_scenario(
    folder: Path,
    timing: ValidatorTiming = VALIDATOR_TIMING,
    open_model: OpenModel = named_model,
) -> AsyncIterator[ValidatorScenario]:
    """`timing` is that of the validator under test."""
    ledger = Ledger()
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(open_node(20, folder / "owner", ledger=ledger))
        rival = await stack.enter_async_context(
            open_node(21, folder / "rival", boot=owner, ledger=ledger)
        )
        ledger.creators |= {POOL: owner.address, POOL + 1: rival.address}
        scenario = ValidatorScenario(
            folder, owner, rival, ledger, Engine(Ring()), timing=timing, open_model=open_model
        )

        async def on_verdict(peer_id: str, notice: VerdictNotice) -> Done:
            if scenario.deaf:
                raise RuntimeError("this orchestrator takes no verdicts")
            signed = SignedVerdict.from_bytes(notice.verdict)
            if scenario.may_reject and not signed.verdict.accepted:
                scenario.rejected[signed.verdict.bundle_id] = signed.verdict
                return Done()
            assert signed.verdict.accepted, signed.verdict.reason
            scenario.verdicts.append(signed.verdict.bundle_id)
            return Done()

        for node in (owner, rival):
            serve(node.network, VERDICT, on_verdict)
        yield scenario
