"""The real part and its stand-in under one name: each test here runs once over each of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.client import ChainClient
from chain.devnet.bootstrap import deploy_on_devnet
from chain.devnet.server import DevChain, serve_devnet
from chain.events.reader import EventReader
from proofs.encoding.signing import address_of
from tests.adversarial.ledger import Ledger
from tests.adversarial.ledger_client import Chain, Reader
from tests.adversarial.standins import DOMAIN, POOL
from tests.chain.conftest import FAST, World
from tests.chain.epochs import LONG_WINDOWS, RATE, STAKE, WINDOW, Arena, Party, open_arena
from tests.pipeline import conftest as pipeline_conftest

tiny_model = pipeline_conftest.tiny_model


@dataclass
class LedgerArena(Arena):
    """A pool with members and validators whose chain is a `Ledger`."""

    ledger: Ledger

    async def pass_time(self, seconds: int) -> None:
        self.ledger.ahead += seconds


@dataclass
class Ground:
    """A chain, real or not, with a pool of two workers and three validators of equal stake."""

    arena: Arena
    reader: Any
    """Of the settlement contract's events, from the first one."""

    @property
    def owner(self) -> ChainClient:
        return self.arena.owner

    async def invited_pool(self) -> int:
        """An active pool of the owner's that takes only whom the owner invites."""
        if isinstance(self.arena, LedgerArena):
            self.arena.ledger.creators[POOL + 1] = self.owner.address
            return POOL + 1
        pool = await self.owner.pools.create("invited", rate=RATE, inviter=self.owner.address)
        await self.owner.pools.fund(pool, RATE)
        await self.owner.pools.start(pool)
        return pool


async def real_ground(nursery: trio.Nursery, folder: Path) -> Ground:
    dev: DevChain = await nursery.start(partial(serve_devnet, "127.0.0.1", 0, backend="py-evm"))
    key = os.urandom(32)
    path = folder / "owner.sqlite"
    deployment = await deploy_on_devnet(dev.url, key, path, LONG_WINDOWS, settings=FAST)
    arena = await open_arena(World(dev, deployment, key, folder, nursery))
    owner = arena.owner
    contracts = ["ReceiptSettlement"]
    reader = EventReader(owner.rpc, deployment, owner.database, "test", contracts, poll=0.05)
    return Ground(arena, reader)


def ledger_ground() -> Ground:
    ledger = Ledger(quorum=LONG_WINDOWS.quorum, window=WINDOW)

    def client(key: bytes) -> Any:
        return Chain(ledger, key, address_of(key))

    owner = client(os.urandom(32))
    keys = [os.urandom(32) for _ in range(5)]
    parties = [Party(client(key), key, os.urandom(32)) for key in keys]
    validators, workers = parties[:3], parties[3:]
    ledger.creators[POOL] = owner.address
    ledger.open_pools.add(POOL)
    ledger.owners |= {party.node: party.account for party in parties}
    ledger.weights |= {validator.node: STAKE for validator in validators}
    ledger.members |= {(POOL, worker.node) for worker in workers}
    nowhere: Any = None
    arena = LedgerArena(nowhere, owner, POOL, validators, workers, DOMAIN, ledger)
    return Ground(arena, Reader(ledger))


@pytest.fixture(params=["chain", "stand-in"])
async def ground(request: pytest.FixtureRequest, nursery: trio.Nursery, tmp_path: Path) -> Ground:
    """The embedded chain, or its stand-in of the adversarial tests."""
    return await real_ground(nursery, tmp_path) if request.param == "chain" else ledger_ground()
