"""Epochs of a small pool for the chain tests: signed receipts, settled and signed by validators."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import trio

from chain.calls.settlement import Claim
from chain.client import ChainClient
from chain.deployment.parameters import DeploymentParams
from proofs.encoding.eip712 import Domain
from proofs.encoding.leaves import PostedRoot, SignedReceipt, ascending
from proofs.encoding.receipts import EpochRoot, Receipt
from proofs.encoding.signing import address_of
from proofs.settlement.epoch import build_epoch
from proofs.settlement.epoch_data import Epoch
from tests.chain.conftest import World

TOKEN = 10**18
STAKE = 100 * TOKEN
RATE = TOKEN // 1000
BUDGET = 1_000 * TOKEN
UNITS = 50
WINDOW = 120
"""Seconds to question a root: more than a test takes on a busy machine, so that only `pass_time`
ends it."""
LONG_WINDOWS = DeploymentParams(
    challenge_window=WINDOW, answer_window=3 * WINDOW, unbonding_period=5 * WINDOW
)

Signatures = list[tuple[str, bytes]]


@dataclass
class Party:
    """A provider with one node; the client is of the provider's `key`."""

    client: ChainClient
    key: bytes
    node_key: bytes

    @property
    def account(self) -> str:
        return self.client.address

    @property
    def node(self) -> str:
        return address_of(self.node_key)


@dataclass
class Arena:
    """A pool with members and validators on one chain. `owner` deployed it and owns the pool."""

    world: World
    owner: ChainClient
    pool: int
    validators: list[Party]
    workers: list[Party]
    domain: Domain

    @property
    def owners(self) -> dict[str, str]:
        return {worker.node: worker.account for worker in self.workers}

    def receipt(
        self,
        worker: int,
        *,
        job: bytes | None = None,
        epoch: int = 1,
        countersigned_by: bytes | None = None,
    ) -> SignedReceipt:
        """Work of one worker, countersigned by the next one, or with another key."""
        mine, other = self.workers[worker], self.workers[(worker + 1) % len(self.workers)]
        counter_key = countersigned_by or other.node_key
        receipt = Receipt(
            job_id=job or os.urandom(32),
            worker=mine.node,
            pool_id=self.pool,
            stage=worker,
            seq=0,
            counterparty=address_of(counter_key),
            epoch=epoch,
            units=UNITS,
            commitment=os.urandom(32),
        )
        return SignedReceipt(
            receipt,
            receipt.sign(mine.node_key, self.domain),
            receipt.sign(counter_key, self.domain),
        )

    def settle(
        self,
        receipts: Sequence[SignedReceipt],
        *,
        epoch: int = 1,
        earned: Mapping[str, int] | None = None,
        price: int = RATE,
    ) -> Epoch:
        earned = earned or {}
        return build_epoch(
            receipts,
            self.owners,
            domain=self.domain,
            pool_id=self.pool,
            epoch=epoch,
            price=price,
            available=BUDGET - sum(earned.values()),
            earned=earned,
        )

    def sign(self, root: EpochRoot, count: int | None = None) -> Signatures:
        """What the first `count` validators (all by default) sign."""
        return [
            (validator.node, root.sign(validator.node_key, self.domain))
            for validator in self.validators[:count]
        ]

    def posted(self, root: EpochRoot, count: int | None = None) -> PostedRoot:
        return PostedRoot(
            root, ascending([validator.node for validator in self.validators[:count]])
        )

    async def post(self, root: EpochRoot) -> PostedRoot:
        assert await self.owner.settlement.post_root(root, self.sign(root)) is not None
        return self.posted(root)

    async def pass_time(self, seconds: int) -> None:
        """Put the chain's clock forward, and make a block there."""
        await self.owner.rpc.request("evm_increaseTime", [seconds])
        await self.owner.rpc.request("evm_mine", [])

    def claims(self, posted: PostedRoot, epoch: Epoch) -> list[Claim]:
        found = []
        for account, cumulative in epoch.earned.items():
            payout = epoch.payout(account)
            assert payout is not None
            found.append(Claim(posted, account, cumulative, payout.proof))
        return found


async def open_arena(world: World, *, validators: int = 3, workers: int = 2) -> Arena:
    """Register everybody and start a funded pool that pays `RATE` a unit; workers are members."""
    owner = await world.client(world.owner_key)
    parties: list[Party] = []

    async def enrol() -> None:
        key = os.urandom(32)
        client = await world.client(key)
        party = Party(client, key, os.urandom(32))
        await client.nodes.register(party.node_key, STAKE, 1)
        parties.append(party)

    async with trio.open_nursery() as nursery:
        for _ in range(validators + workers):
            nursery.start_soon(enrol)
    chosen = parties[:validators]
    for validator in chosen:
        await owner.validators.grant(validator.node)
    pool = await owner.pools.create("arena", rate=RATE)
    await owner.pools.fund(pool, BUDGET)
    await owner.pools.start(pool)
    for worker in parties[validators:]:
        await worker.client.pools.join(pool, node=worker.node)
    return Arena(
        world, owner, pool, chosen, parties[validators:], owner.domain("ReceiptSettlement")
    )


def forged(root: EpochRoot, **changes: object) -> EpochRoot:
    """A root with other content under it."""
    return root.model_copy(update=changes)
