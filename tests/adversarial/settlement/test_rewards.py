"""A worker that follows the chain to its pay, whatever others publish, withhold or take back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node.roles.worker.service import Worker
from node.settlement.reward import Reward
from node.wire.messages.settlement import FetchedChunk, FetchRequest
from node.wire.methods import FETCH
from node.wire.rpc import serve
from proofs.evidence.bundle import signed_receipts
from proofs.settlement.epoch import build_epoch
from proofs.settlement.epoch_data import Epoch, data_hash
from tests.adversarial.harness import Node, eventually, make_worker, open_node, running
from tests.adversarial.ledger import BUDGET, Ledger
from tests.adversarial.standins import DOMAIN, POOL, PRICE, Engine, Ring
from tests.adversarial.validator_scenario import bundle_of


@dataclass
class Payday:
    """`worker` worked in the pool; `signer` is a validator that posts what the test makes."""

    ledger: Ledger
    boss: Node
    signer: Node
    node: Node
    worker: Worker

    def epoch(self, *units: bytes, number: int = 1, earned: dict[str, int] | None = None) -> Epoch:
        receipts = [
            item
            for unit in units
            for item in signed_receipts(bundle_of(self.node, self.boss, unit, POOL, 13))
        ]
        return build_epoch(
            receipts,
            self.ledger.owners,
            domain=DOMAIN,
            pool_id=POOL,
            epoch=number,
            price=PRICE,
            available=BUDGET,
            earned=earned or {},
        )

    def post(self, epoch: Epoch) -> None:
        self.ledger.post(epoch.root, [self.signer.address])

    @property
    def paid(self) -> int:
        return self.ledger.paid.get((POOL, self.node.address), 0)

    async def noted(self) -> list[Reward]:
        return await self.node.context.journal.replay(Reward)


@pytest.fixture
def payday(tmp_path: Path) -> Callable[[], Any]:
    @asynccontextmanager
    async def open_payday() -> AsyncIterator[Payday]:
        ledger = Ledger()
        async with AsyncExitStack() as stack:
            boss = await stack.enter_async_context(open_node(30, tmp_path / "boss", ledger=ledger))
            signer = await stack.enter_async_context(
                open_node(31, tmp_path / "signer", boot=boss, ledger=ledger, role="validator")
            )
            node = await stack.enter_async_context(
                open_node(32, tmp_path / "worker", boot=boss, ledger=ledger)
            )
            ledger.creators[POOL] = boss.address
            ledger.weights[signer.address] = 1
            signer.follower.blobs.serve()
            worker = make_worker(node, Engine(Ring()))
            await stack.enter_async_context(running(node, worker=worker))
            await worker.rewards.joined(POOL)
            for known in (boss, signer):
                await known.announce("validator")
            records = node.network.records
            await eventually(lambda: len(records.all()) == 2)
            yield Payday(ledger, boss, signer, node, worker)
            assert ledger.refused_claims == [], "only what a final root promises is claimed"

    return open_payday


async def test_the_worker_finds_its_leaf_and_claims_it_without_being_told(payday) -> None:
    async with payday() as p:
        epoch = p.epoch(b"one", b"two")
        await p.signer.follower.blobs.put(epoch.content)
        p.post(epoch)
        await eventually(lambda: p.paid == epoch.root.total_payout)
        (reward,) = await p.noted()
        assert (reward.account, reward.cumulative) == (p.node.address, p.paid)
        assert await p.node.follower.blobs.get(epoch.root.data_hash) == epoch.content


async def test_a_root_without_leaves_is_not_claimed_until_somebody_has_them(payday) -> None:
    async with payday() as p:
        epoch = p.epoch(b"one")
        asked: list[bytes] = []

        async def on_fetch(peer_id: str, request: FetchRequest) -> FetchedChunk:
            asked.append(request.digest)
            return FetchedChunk(data=b"x" * 100, total=100)

        serve(p.signer.network, FETCH, on_fetch)
        p.post(epoch)
        await eventually(lambda: len(asked) >= 3)
        assert await p.noted() == []
        assert p.paid == 0
        await p.boss.follower.blobs.put(epoch.content)  # no signer, but it has them
        p.boss.follower.blobs.serve()
        await eventually(lambda: p.paid == epoch.root.total_payout)


async def test_leaves_that_do_not_make_the_root_are_worth_nothing(payday) -> None:
    """Their hash is the one on chain: the signers lied, not the peer that has them."""
    async with payday() as p:
        true, other = p.epoch(b"one"), p.epoch(b"one", b"two")
        await p.signer.follower.blobs.put(other.content)
        wrong = true.root.model_copy(update={"data_hash": data_hash(other.content)})
        p.ledger.post(wrong, [p.signer.address])
        digest = wrong.data_hash
        blob = p.node.context.blobs / f"{digest.hex()}.epoch"
        await eventually(blob.exists)
        await eventually(lambda: not p.node.follower.fetching)
        assert await p.noted() == []
        p.ledger.void(POOL)
        await p.signer.follower.blobs.put(true.content)
        p.post(true)
        await eventually(lambda: p.paid == true.root.total_payout)


async def test_only_what_is_final_is_claimed_and_a_voided_root_never(payday) -> None:
    async with payday() as p:
        p.ledger.window = 3600
        greedy, honest = p.epoch(b"one", b"two"), p.epoch(b"one")
        for epoch in (greedy, honest):
            await p.signer.follower.blobs.put(epoch.content)
        p.post(greedy)
        history = p.node.follower.history(POOL)
        await eventually(lambda: history.complete(1) and history.last == 1)
        p.ledger.void(POOL)
        await eventually(lambda: history.last == 0)
        p.ledger.window = 0
        p.post(honest)
        await eventually(lambda: p.paid == honest.root.total_payout)
        assert [r.cumulative for r in await p.noted()] == [
            greedy.root.total_payout,
            honest.root.total_payout,
        ]


async def test_the_next_root_makes_the_last_one_final_and_one_claim_takes_both(payday) -> None:
    async with payday() as p:
        p.ledger.window = 3600
        first = p.epoch(b"one")
        second = p.epoch(b"two", number=2, earned=first.earned)
        for epoch in (first, second):
            await p.signer.follower.blobs.put(epoch.content)
        p.post(first)
        history = p.node.follower.history(POOL)
        await eventually(lambda: history.complete(1) and history.last == 1)
        assert p.paid == 0
        p.ledger.window = 0
        p.post(second)
        await eventually(lambda: p.paid == second.root.total_payout)
        await eventually(lambda: p.worker.rewards.claimed == second.root.total_payout)


async def test_pools_in_which_it_never_worked_are_not_looked_at(payday) -> None:
    async with payday() as p:
        epoch = p.epoch(b"one")
        await p.signer.follower.blobs.put(epoch.content)
        foreign = epoch.root.model_copy(update={"pool_id": POOL + 1})
        p.ledger.post(foreign, [p.signer.address])
        p.post(epoch)
        await eventually(lambda: p.paid == epoch.root.total_payout)
        assert p.node.follower.history(POOL + 1).missing()
        assert {r.posted.root.pool_id for r in await p.noted()} == {POOL}
