"""The chain of a scenario: contracts, a funded pool, validators and workers of many providers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from chain.client import ChainClient, open_chain
from chain.deployment.deployment import Deployment
from chain.deployment.parameters import TOKEN, DeploymentParams
from chain.devnet.bootstrap import deploy_on_devnet
from chain.endpoint.faucet import request_funds
from chain.transactions.machine import Rules
from chain.transactions.sender import SenderSettings
from proofs.encoding.signing import address_of
from tests.integration.settlement.ledger import Worker

RATE = TOKEN // 1_000
BUDGET = 200_000 * TOKEN
FAST = SenderSettings(poll=0.05, rules=Rules(confirmations=1))
AT_ONCE = 8


@dataclass(frozen=True)
class ValidatorKeys:
    """A validator's node and its provider, with the stake that carries its voice."""

    key: bytes
    node: str
    account: str
    stake: int


@dataclass
class World:
    """Everybody on chain. `owner` deployed it all and owns the pool; accounts by node."""

    url: str
    deployment: Deployment
    owner: ChainClient
    pool: int
    validators: list[ValidatorKeys]
    workers: list[Worker]
    claimer_keys: list[bytes]
    """Funded keys of the nodes that claim for the workers."""

    @property
    def accounts(self) -> dict[str, str]:
        return {worker.node: worker.account for worker in self.workers}


@asynccontextmanager
async def open_world(
    url: str,
    folder: Path,
    random_: random.Random,
    params: DeploymentParams,
    *,
    stakes: list[int],
    workers: int,
    claimers: int,
) -> AsyncIterator[World]:
    """Deploy, register everybody under providers of their own, and start a funded pool."""
    owner_key = random_.randbytes(32)
    path = folder / "owner.sqlite"
    deployment = await deploy_on_devnet(url, owner_key, path, params, settings=FAST)
    nodes = [random_.randbytes(32) for _ in range(len(stakes) + workers)]
    providers = [random_.randbytes(32) for _ in nodes]
    claimer_keys = [random_.randbytes(32) for _ in range(claimers)]
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def enrol(place: int) -> None:
        async with limiter:
            key, node = providers[place], nodes[place]
            await request_funds(url, address_of(key))
            own = folder / f"{address_of(key)}.sqlite"
            async with open_chain(url, deployment, key, own, settings=FAST) as client:
                stake = (
                    stakes[place]
                    if place < len(stakes)
                    else await client.providers.minimum_stake(1)
                )
                await client.nodes.register(node, stake, 1)
            if place < len(stakes):
                await request_funds(url, address_of(node))

    async with trio.open_nursery() as nursery:
        for place in range(len(nodes)):
            nursery.start_soon(enrol, place)
        for key in claimer_keys:
            nursery.start_soon(request_funds, url, address_of(key))
    accounts = [address_of(key) for key in providers]
    validators = [
        ValidatorKeys(node, address_of(node), account, stake)
        for node, account, stake in zip(nodes, accounts, stakes, strict=False)
    ]
    rest = zip(nodes[len(stakes) :], accounts[len(stakes) :], strict=True)
    async with open_chain(url, deployment, owner_key, path, settings=FAST) as owner:
        for validator in validators:
            await owner.validators.grant(validator.node)
        pool = await owner.pools.create("scenario", rate=RATE)
        await owner.pools.fund(pool, BUDGET)
        await owner.pools.start(pool)
        found = [Worker(node, address_of(node), account) for node, account in rest]
        yield World(url, deployment, owner, pool, validators, found, claimer_keys)
