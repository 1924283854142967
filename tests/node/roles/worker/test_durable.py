"""At each append of a worker the disk fails or stalls: nothing that rests on it is seen before, and
what is remembered then is what a restart finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from node.config.hardware import Device
from node.context import NodeContext
from node.roles.worker.disk import WorkerDisk
from node.roles.worker.generations import Generations
from node.roles.worker.journal_events import EvidenceSaid, PoolJoined, ReceiptSigned
from node.roles.worker.membership import JoinedPool
from node.roles.worker.purse import GasPurse
from node.roles.worker.rewards import LEAVES_KEPT, Rewards
from node.roles.worker.signing.receipts import MAX_AWAITED, Receipts
from node.roles.worker.stage import StageHost
from node.roles.worker.timing import WorkerTiming
from node.settlement.history import PostedEpoch
from node.settlement.reward import Reward
from node.wire.codec import encode
from node.wire.messages.fields import StageRef
from node.wire.messages.verification import ClaimRequest, Countersigned, CountersignRequest
from node.wire.messages.work import LoadStage, StagePeer
from p2p.errors import Refused
from p2p.identity import peer_id_of
from pipeline.engine.control.messages import SequenceSpec
from pipeline.models.manifest import Manifest
from pipeline.models.prepared import PreparedModel
from proofs.encoding.leaves import PostedRoot
from proofs.encoding.receipts import Receipt
from proofs.encoding.signing import address_of, sign_digest
from proofs.evidence.bundle import StageClaim
from proofs.evidence.sequence import SequenceRequest
from proofs.evidence.statement import evidence_commitment
from tests.adversarial.standins import LAYERS, MODEL, POOL, Engine, Ring, stage_evidence
from tests.node.journal.disks import Disk
from tests.node.roles.chains import open_context
from tests.node.roles.durable import HOW, shown_once_on_disk
from tests.proofs.settlement.epochs import PROVIDERS, settled, signed

BOSS, OTHER_KEY = "boss", b"o" * 32
OTHER = peer_id_of(OTHER_KEY)
UNIT, SEQUENCE, TOKENS = b"u" * 32, b"s" * 16, 7


class Network:
    """The neighbour countersigns whatever it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.addresses = ("/ip4/127.0.0.1/tcp/1",)

    async def request(self, peer_id: str, protocol: str, payload: bytes, **_: Any) -> bytes:
        self.asked.append(protocol)
        return encode(Countersigned(signature=bytes(65)))


class Seat:
    """A worker's stage and what it signs; its disk is in trouble when a test says so."""

    def __init__(self, context: NodeContext, disk: Disk, stage: int) -> None:
        network: Any = context.network
        self.context, self.disk, self.network, self.number = context, disk, network, stage
        self.engine = Engine(Ring())
        self.engine.ring.specs[SEQUENCE] = SequenceSpec(
            request=SequenceRequest(sequence_id=SEQUENCE, prompt_ids=(3, 4, 5), max_tokens=4)
        )
        self.engine.ring.outputs[SEQUENCE] = (10, 11, 12, 13)
        pool = JoinedPool(BOSS, "0xb", POOL, MODEL, "tiny")
        membership: Any = SimpleNamespace(pool=pool, require_orchestrator=lambda peer_id: pool)
        engine: Any = self.engine
        nobody: Any = None
        timing = replace(WorkerTiming(), countersign=0.0)
        self.stage = StageHost(
            context,
            membership,
            engine,
            Device("cpu", "test", 1 << 30),
            nobody,
            find,
            WorkerDisk(context.config),
            timing,
        )
        self.receipts = Receipts(context, membership, self.stage, timing, lambda units: None)

    def ref(self, generation: int = 1, stage: int | None = None) -> StageRef:
        number = self.number if stage is None else stage
        return StageRef(group_id=b"g" * 32, generation=generation, stage=number)

    def order(self, generation: int = 1) -> LoadStage:
        peers = [self.context.peer_id, OTHER][:: -1 if self.number else 1]
        keys = [self.context.key, OTHER_KEY][:: -1 if self.number else 1]
        cuts = (0, 10, LAYERS)
        return LoadStage(
            ref=self.ref(generation),
            pool_id=POOL,
            model_id=MODEL,
            model_name="tiny",
            stages=tuple(
                StagePeer(peer_id=p, address=address_of(k), first_layer=a, last_layer=b)
                for p, k, a, b in zip(peers, keys, cuts, cuts[1:], strict=False)
            ),
            kv_tokens=64,
            micro_batches=1,
            max_batch_tokens=64,
        )

    async def load(self, generation: int = 1) -> None:
        await self.stage.on_load(BOSS, self.order(generation))
        self.engine.stage = self.number

    def claim(self, unit: bytes = UNIT) -> ClaimRequest:
        return ClaimRequest(
            ref=self.ref(), unit_id=unit, epoch=1, sequence_ids=(SEQUENCE,), token_count=TOKENS
        )

    def countersign(self, unit: bytes = UNIT) -> CountersignRequest:
        """What stage 0 asks of stage 1, truly signed."""
        ring = self.engine.ring
        evidence = (stage_evidence(ring.specs[SEQUENCE], 0, output=ring.outputs[SEQUENCE]),)
        receipt = Receipt(
            job_id=unit,
            worker=address_of(OTHER_KEY),
            pool_id=POOL,
            stage=0,
            seq=1,
            counterparty=self.context.address,
            epoch=1,
            units=10 * TOKENS,
            commitment=evidence_commitment(evidence),
        )
        digest = receipt.digest(self.context.receipt_domain)
        claim = StageClaim(
            peer_id=OTHER,
            address=address_of(OTHER_KEY),
            evidence=evidence,
            receipt=receipt,
            receipt_signature=sign_digest(OTHER_KEY, digest),
        )
        return CountersignRequest(ref=self.ref(stage=0), claim=claim.to_bytes())


def find(store: Path, which: str) -> PreparedModel:
    return PreparedModel(store, Manifest.model_construct(hidden_size=8, dtype="float32"))


@asynccontextmanager
async def seat(folder: Path, stage: int = 0) -> AsyncIterator[Seat]:
    disk = Disk()
    async with open_context(folder, disk=disk, network=Network()) as context:
        yield Seat(context, disk, stage)


@pytest.mark.parametrize("how", HOW)
async def test_no_slice_is_loaded_before_its_generation_is_on_disk(
    tmp_path: Path, how: str
) -> None:
    async with seat(tmp_path) as s:
        await s.load(1)

        def seen() -> Any:
            return s.engine.count("load"), s.stage.assignment

        s.stage.assignment = None  # the older one is over as soon as another is begun
        await shown_once_on_disk(s.disk, how, "", lambda: s.load(2), seen)
        known = await s.stage.generations._known()
        assert known == await Generations(s.context.journal)._known() == {POOL: 2}
        with pytest.raises(Refused, match="stale"):
            await s.load(2)
        await s.load(3)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", [EvidenceSaid, ReceiptSigned])
async def test_nothing_is_claimed_before_it_is_on_disk(tmp_path: Path, how: str, kind: Any) -> None:
    async with seat(tmp_path) as s:
        await s.load()
        answer = await shown_once_on_disk(
            s.disk,
            how,
            kind.kind,
            lambda: s.receipts.on_claim(BOSS, s.claim()),
            lambda: list(s.network.asked),
        )
        (said,) = await s.context.journal.replay(EvidenceSaid)
        (receipt,) = await s.context.journal.replay(ReceiptSigned)
        claim = StageClaim.from_bytes(answer.claim)
        assert evidence_commitment(claim.evidence) == said.commitment
        assert claim.receipt == receipt.receipt
        assert await s.receipts.on_claim(BOSS, s.claim()) == answer  # and it goes on


@pytest.mark.parametrize("how", HOW)
async def test_nothing_is_countersigned_before_it_is_on_disk(tmp_path: Path, how: str) -> None:
    async with seat(tmp_path, stage=1) as s:
        await s.load()
        s.receipts._tell(s.claim())
        answer = await shown_once_on_disk(
            s.disk,
            how,
            EvidenceSaid.kind,
            lambda: s.receipts.on_countersign(OTHER, s.countersign()),
        )
        assert len(await s.context.journal.replay(EvidenceSaid)) == 1
        assert await s.receipts.on_countersign(OTHER, s.countersign()) == answer


async def test_a_generation_that_was_replaced_while_the_disk_stalled_says_nothing(
    tmp_path: Path,
) -> None:
    async with seat(tmp_path) as s:
        await s.load()
        codes: list[str] = []

        async def ask() -> None:
            with pytest.raises(Refused) as refused:
                await s.receipts.on_claim(BOSS, s.claim())
            codes.append(refused.value.code)

        s.disk.stall()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await s.disk.tried()
            nursery.start_soon(s.load, 2)
            await trio.testing.wait_all_tasks_blocked(0.005)
            s.disk.heal()
        assert codes == ["stale"]
        assert s.network.asked == []
        assert await s.context.journal.replay(EvidenceSaid) == []


async def test_a_generation_that_is_spent_signs_again_what_it_signed_and_nothing_else(
    tmp_path: Path,
) -> None:
    async with seat(tmp_path) as s:
        await s.load()
        s.stage.generations._most_said = 1
        answer = await s.receipts.on_claim(BOSS, s.claim())
        assert await s.receipts.on_claim(BOSS, s.claim()) == answer
        with pytest.raises(Refused, match="spent"):
            await s.receipts.on_claim(BOSS, s.claim(b"v" * 32))
        assert len(await s.context.journal.replay(EvidenceSaid)) == 1


async def test_a_neighbour_that_asks_about_made_up_units_displaces_nothing(tmp_path: Path) -> None:
    async with seat(tmp_path, stage=1) as s:
        await s.load()
        s.receipts._tell(s.claim())
        s.receipts._timing = replace(WorkerTiming(), countersign=60.0)
        codes: list[str] = []

        async def ask(number: int) -> None:
            try:
                await s.receipts.on_countersign(OTHER, s.countersign(number.to_bytes(32, "big")))
            except Refused as exc:
                codes.append(exc.code)

        async with trio.open_nursery() as nursery:
            for number in range(MAX_AWAITED + 9):
                nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert codes == ["busy"] * 9
            assert len(s.receipts._facts) == 1
            await s.receipts.on_countersign(OTHER, s.countersign())
            nursery.cancel_scope.cancel()
        assert not s.receipts._awaited


class Paying:
    """What a worker's pay asks of the chain."""

    def __init__(self) -> None:
        self.looked = 0

    def look_again(self) -> None:
        self.looked += 1


def rewards_of(context: NodeContext, follower: Paying) -> Rewards:
    nobody: Any = None
    settled_by: Any = follower
    return Rewards(context, nobody, settled_by, nobody, accounts=PROVIDERS[:1])


@pytest.mark.parametrize("how", HOW)
async def test_a_pool_is_not_joined_before_it_is_on_disk(tmp_path: Path, how: str) -> None:
    async with seat(tmp_path) as s:
        follower = Paying()
        rewards = rewards_of(s.context, follower)
        await shown_once_on_disk(
            s.disk,
            how,
            PoolJoined.kind,
            lambda: rewards.joined(POOL),
            lambda: (rewards.wants(POOL), follower.looked),
        )
        restored = rewards_of(s.context, Paying())
        await restored.restore()
        assert restored._pools == rewards._pools == {POOL}


@pytest.mark.parametrize("how", HOW)
async def test_a_leaf_counts_as_noted_once_it_is_on_disk_and_old_ones_go(
    tmp_path: Path, how: str
) -> None:
    async with seat(tmp_path) as s:
        rewards = rewards_of(s.context, Paying())
        (account,) = PROVIDERS[:1]

        def entry(number: int) -> PostedEpoch:
            epoch = settled([signed(number)], epoch=number)
            return PostedEpoch(PostedRoot(epoch.root, ()), 1, number, f"0x{number}", epoch)

        first = entry(1)
        await shown_once_on_disk(
            s.disk,
            how,
            Reward.kind,
            lambda: rewards._note(first, account),
            lambda: {**rewards._noted},
        )
        await rewards._note(first, account)
        assert len(await s.context.journal.replay(Reward)) == 1
        if how == "stall":
            return
        for number in range(2, LEAVES_KEPT + 9):
            await rewards._note(entry(number), account)
        kept = await s.context.journal.replay(Reward)
        assert [leaf.epoch for leaf in kept] == list(range(9, LEAVES_KEPT + 9))


@pytest.mark.parametrize("how", HOW)
async def test_nothing_is_sent_before_the_gas_is_counted_on_disk(tmp_path: Path, how: str) -> None:
    async with seat(tmp_path) as s:
        nobody: Any = None
        purse = GasPurse(s.context, nobody)
        await purse.restore()
        sent: list[int] = []

        async def pay() -> None:
            async with purse.paying("join/7", 100, 3) as paid:
                sent.append(1)
                paid(None)

        def seen() -> Any:
            return list(sent), purse.unfinished, purse._ledger.entries

        await shown_once_on_disk(s.disk, how, "", pay, seen)
        restored = GasPurse(s.context, nobody)
        await restored.restore()
        assert restored._ledger.entries == purse._ledger.entries
        assert restored.unfinished == ()


async def test_a_payment_that_was_given_up_before_it_was_on_disk_was_never_counted(
    tmp_path: Path,
) -> None:
    async with seat(tmp_path) as s:
        nobody: Any = None
        purse = GasPurse(s.context, nobody)
        await purse.restore()
        s.disk.stall()

        async def pay(what: str) -> None:
            async with purse.paying(what, 100, 3) as paid:
                paid(None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, "join/1")
            await s.disk.tried()
            with trio.move_on_after(0.0):
                await pay("join/2")  # stands in line behind the other
            s.disk.heal()
        assert [entry.what for entry in purse._ledger.entries] == ["join/1"]
        restored = GasPurse(s.context, nobody)
        await restored.restore()
        assert restored._ledger.entries == purse._ledger.entries
