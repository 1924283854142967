"""A validator among strangers who want money, and killed at bad moments."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from node.journal import open_journal
from node.protocol import VERDICT, VERIFY, Done, VerdictNotice, VerifyRequest
from node.roles.validator.service import Validator
from node.rpc import serve
from p2p.errors import RemoteRefused
from proofs.bundle import (
    BundleSequence,
    FinishReason,
    StageClaim,
    StageEvidence,
    UnitBundle,
    evidence_commitment,
    input_digest,
)
from proofs.receipts import Receipt
from proofs.verdict_messages import SignedVerdict
from tests.adversarial.harness import Node, eventually, make_validator, open_node, running
from tests.adversarial.standins import (
    DOMAIN,
    LAYERS,
    MODEL,
    POOL,
    PRICE,
    PROOF,
    Engine,
    Ledger,
    Ring,
)

TOKENS = 7


def bundle(worker: Node, unit: bytes = b"u", *, pool_id: int = POOL, last: int = 13) -> UnitBundle:
    """A unit that `worker` truly did alone; `last` is its last token."""
    sequence = BundleSequence(
        sequence_id=sha256(unit).digest()[:16],
        prompt_ids=(3, 4, 5),
        output_ids=(10, 11, 12, last),
        max_tokens=4,
        reason=FinishReason.LENGTH,
    )
    evidence = StageEvidence(
        sequence_id=sequence.sequence_id,
        rows=4,
        proofs=(PROOF,),
        sent=b"s" * 32,
        received=input_digest(sequence),
    )
    receipt = Receipt(
        job_id=sha256(unit).digest(),
        worker=worker.address,
        pool_id=pool_id,
        stage=0,
        seq=1,
        counterparty=worker.address,
        epoch=1,
        units=LAYERS * TOKENS,
        commitment=evidence_commitment((evidence,)),
    )
    claim = StageClaim(
        peer_id=worker.peer_id,
        address=worker.address,
        evidence=(evidence,),
        receipt=receipt,
        receipt_signature=receipt.sign(worker.context.key, DOMAIN),
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


def ask(unit: UnitBundle) -> VerifyRequest:
    return VerifyRequest(bundle=unit.to_bytes())


@dataclass
class Court:
    """`owner` owns the pool, `rival` another one; verdicts that they got are in `verdicts`."""

    folder: Path
    owner: Node
    rival: Node
    ledger: Ledger
    engine: Engine
    deaf: bool = False
    verdicts: list[bytes] = field(default_factory=list)
    judge: Node | None = None
    validator: Validator | None = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Court]:
        """One run of the validator; the next one finds its journal."""
        self.engine = Engine(self.engine.ring)
        async with open_node(
            5, self.folder / "judge", boot=self.owner, ledger=self.ledger, role="validator"
        ) as self.judge:
            self.ledger.validators.add(self.judge.address)
            self.validator = make_validator(self.judge, self.engine)
            async with running(self.judge, validator=self.validator):
                yield self

    async def verify(self, unit: UnitBundle, sender: Node | None = None) -> None:
        assert self.judge is not None
        await (sender or self.owner).ask(self.judge.peer_id, VERIFY, ask(unit))

    async def refused(self, unit: UnitBundle, sender: Node | None = None) -> str:
        assert self.judge is not None
        return await (sender or self.owner).refused(self.judge.peer_id, VERIFY, ask(unit))

    async def judged(self, *units: UnitBundle) -> None:
        await eventually(lambda: all(u.content_id in self.verdicts for u in units))

    def paid(self) -> int:
        roots = self.ledger.roots.get(POOL)
        return roots[-1].total_payout if roots else 0


@pytest.fixture
def court(net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("node.roles.validator.service.FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr("node.roles.validator.service.LAST_RETRY_SECONDS", 0.01)

    @asynccontextmanager
    async def open_court() -> AsyncIterator[Court]:
        ledger = Ledger()
        async with AsyncExitStack() as stack:
            owner = await stack.enter_async_context(
                open_node(20, tmp_path / "owner", ledger=ledger)
            )
            rival = await stack.enter_async_context(
                open_node(21, tmp_path / "rival", boot=owner, ledger=ledger)
            )
            ledger.creators |= {POOL: owner.address, POOL + 1: rival.address}
            court = Court(tmp_path, owner, rival, ledger, Engine(Ring()))

            async def on_verdict(peer_id: str, notice: VerdictNotice) -> Done:
                if court.deaf:
                    raise RuntimeError("this orchestrator takes no verdicts")
                signed = SignedVerdict.from_bytes(notice.verdict)
                assert signed.verdict.accepted, signed.verdict.reason
                court.verdicts.append(signed.verdict.bundle_id)
                return Done()

            for node in (owner, rival):
                serve(node.network, VERDICT, on_verdict)
            yield court

    return open_court


WORK = LAYERS * TOKENS * PRICE


async def test_only_the_pools_owner_can_spend_its_money(court) -> None:
    async with court() as c, c.session():
        unit = bundle(c.rival)
        assert await c.refused(unit, c.rival) == "not_your_pool"
        assert await c.refused(bundle(c.owner, pool_id=99)) == "not_your_pool"
        await c.verify(unit)
        await c.judged(unit)
        await eventually(lambda: c.paid() == WORK)


async def test_bundles_that_are_none_or_name_others_are_refused(court) -> None:
    async with court() as c, c.session():
        unit, (claim,) = bundle(c.rival), bundle(c.rival).stages
        framed = claim.model_copy(update={"peer_id": c.owner.peer_id})
        unpaid = claim.model_copy(update={"receipt": None})
        for changed in (framed, unpaid):
            assert await c.refused(unit.model_copy(update={"stages": (changed,)})) == "bad_bundle"
        for data in (b"", b"\xc1", unit.to_bytes()[:-1], unit.to_bytes() + b"\x00"):
            request = VerifyRequest(bundle=data)
            assert await c.owner.refused(c.judge.peer_id, VERIFY, request) == "bad_bundle"


async def test_a_second_bundle_for_an_accepted_unit_is_not_paid(court) -> None:
    async with court() as c, c.session():
        first, second = bundle(c.rival), bundle(c.rival, last=14)
        assert first.unit_id == second.unit_id
        await c.verify(first)
        await c.judged(first)
        assert await c.refused(second) == "already_accepted"
        await c.verify(first)  # asked again: judged already, paid once
        await eventually(lambda: c.verdicts.count(first.content_id) >= 2)
        await eventually(lambda: c.paid() == WORK)
        assert c.engine.count("replay") == 1
        await c.validator.epochs.close_now()
        assert c.paid() == WORK


async def test_two_bundles_of_one_unit_in_the_queue_are_paid_once(court) -> None:
    async with court() as c, c.session():
        first, second = bundle(c.rival), bundle(c.rival, last=14)
        await c.verify(first)
        with suppress(RemoteRefused):  # the first one may be through already
            await c.verify(second)
        await c.judged(first)
        await eventually(lambda: not c.validator._pending)
        await c.validator.epochs.close_now()
        await eventually(lambda: c.paid() == WORK)
        assert sum(len(r) for r in c.ledger.roots.values()) == 1


async def test_a_rival_cannot_use_up_anothers_unit_id(court) -> None:
    async with court() as c, c.session():
        theirs, ours = bundle(c.rival, pool_id=POOL + 1), bundle(c.rival)
        assert theirs.unit_id == ours.unit_id
        await c.verify(theirs, c.rival)
        await c.judged(theirs)
        await c.verify(ours)
        await c.judged(ours)


async def test_one_sender_cannot_fill_the_queue(court, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.roles.validator.service.MAX_SENDER_QUEUE", 3)
    monkeypatch.setattr("node.roles.validator.service.DELIVERY_TRIES", 10**9)
    async with court() as c, c.session():
        c.deaf = True
        for number in range(3):
            await c.verify(bundle(c.rival, bytes([number])))
        assert await c.refused(bundle(c.rival, b"more")) == "busy"
        await c.verify(bundle(c.rival, b"other", pool_id=POOL + 1), c.rival)
        c.deaf = False
        await eventually(lambda: len(c.verdicts) == 4)
        await c.verify(bundle(c.rival, b"more"))


async def test_a_bundle_that_breaks_the_engine_is_set_aside_and_can_be_asked_again(court) -> None:
    async with court() as c, c.session():
        poison, good = bundle(c.rival, b"poison"), bundle(c.rival, b"good")
        c.engine.refuse["replay"] = "internal"
        await c.verify(poison)
        await eventually(lambda: not c.validator._pending)
        c.engine.refuse.clear()
        await c.verify(good)
        await c.judged(good)
        await c.verify(poison)
        await c.judged(poison)


async def test_a_pool_whose_root_is_refused_holds_up_no_other(court) -> None:
    async with court() as c, c.session():
        c.ledger.refuse_roots.add(POOL + 1)
        await c.verify(bundle(c.rival, b"stuck", pool_id=POOL + 1), c.rival)
        ledgers = c.validator.epochs._ledgers
        await eventually(lambda: POOL + 1 in ledgers and ledgers[POOL + 1].closing.locked())
        await c.verify(bundle(c.rival))
        await eventually(lambda: c.paid() == WORK)


async def test_a_verdict_that_was_not_delivered_is_delivered_by_the_next_run(court) -> None:
    async with court() as c:
        unit = bundle(c.rival)
        c.deaf = True
        async with c.session():
            await c.verify(unit)
            await eventually(lambda: c.validator.judged == 1)
        c.deaf = False
        async with c.session():
            await c.judged(unit)
            assert c.engine.count("replay") == 0
            await eventually(lambda: c.paid() == WORK)


async def test_killed_between_verdict_and_ledger_the_unit_is_still_paid(court) -> None:
    async with court() as c:
        unit = bundle(c.rival)
        async with c.session():
            await c.verify(unit)
            await c.judged(unit)
            await eventually(lambda: c.paid() == WORK)
        path = c.folder / "judge" / "journal.db"
        with sqlite3.connect(path) as connection:  # as if killed right after the verdict
            connection.execute(
                "DELETE FROM events WHERE kind NOT IN ('peer.bundle', 'self.verdict')"
            )
        c.ledger.roots.clear()
        c.verdicts.clear()
        async with c.session():
            await c.judged(unit)
            await eventually(lambda: c.paid() == WORK)
            assert c.engine.count("replay") == 0


async def test_killed_between_epoch_and_root_it_is_posted_once(court) -> None:
    async with court() as c:
        unit = bundle(c.rival)
        c.ledger.refuse_roots.add(POOL)
        async with c.session():
            await c.verify(unit)
            await eventually(lambda: POOL in c.validator.epochs._ledgers)
            await eventually(lambda: c.validator.epochs._ledgers[POOL].closing.locked())
            assert not c.ledger.roots
        async with open_journal(c.folder / "judge" / "journal.db") as journal:
            assert len(await journal.events(["self.epoch"])) == 1
        c.ledger.refuse_roots.clear()
        for _ in range(2):
            async with c.session():
                await eventually(lambda: c.paid() == WORK)
                await c.validator.epochs.close_now()
        assert c.ledger.posts == 1
