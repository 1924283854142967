"""The real part and its stand-in under one name: each test here runs once over each of them."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.client import ChainClient
from chain.devnet.bootstrap import deploy_on_devnet
from chain.devnet.server import DevChain, serve_devnet
from chain.endpoint.rpc import open_rpc
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


@dataclass
class SharedChain:
    """An embedded chain with an arena on it, which every test finds as it was made."""

    arena: Arena
    world: World
    snapshot: object = None

    async def ground(self, nursery: trio.Nursery, folder: Path) -> Ground:
        """Undo what the last test did, and open clients that know of nothing."""
        world = World(self.world.dev, self.world.deployment, self.world.owner_key, folder, nursery)
        async with open_rpc(world.dev.url) as rpc:
            if self.snapshot is not None:
                assert await rpc.request("evm_revert", [self.snapshot])
            self.snapshot = await rpc.request("evm_snapshot", [])

        async def again(party: Party) -> Party:
            return Party(await world.client(party.key), party.key, party.node_key)

        owner = await world.client(self.world.owner_key)
        arena = replace(
            self.arena,
            world=world,
            owner=owner,
            validators=[await again(party) for party in self.arena.validators],
            workers=[await again(party) for party in self.arena.workers],
        )
        contracts = ["ReceiptSettlement"]
        reader = EventReader(
            owner.rpc, world.deployment, owner.database, "test", contracts, poll=0.05
        )
        return Ground(arena, reader)


async def _furnished(dev: DevChain, folder: Path) -> SharedChain:
    key = os.urandom(32)
    path = folder / "owner.sqlite"
    deployment = await deploy_on_devnet(dev.url, key, path, LONG_WINDOWS, settings=FAST)
    async with trio.open_nursery() as nursery:
        world = World(dev, deployment, key, folder, nursery)
        arena = await open_arena(world)
        nursery.cancel_scope.cancel()
    return SharedChain(arena, world)


class ChainThread:
    """Serves an embedded chain from a thread, since tests run a loop of their own each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._shared: SharedChain | None = None

    async def ground(self, nursery: trio.Nursery, folder: Path) -> Ground:
        """The ground of one test; the first one's makes the chain."""
        if self._shared is None:
            answer: queue.SimpleQueue[tuple[DevChain, Callable[[], None]]] = queue.SimpleQueue()
            self._thread = threading.Thread(target=trio.run, args=(_serve, answer.put))
            self._thread.start()
            dev, self._stop = await trio.to_thread.run_sync(answer.get, True, 60)
            self._shared = await _furnished(dev, self._folder)
        return await self._shared.ground(nursery, folder)

    def close(self) -> None:
        if self._stop is not None and self._thread is not None:
            self._stop()
            self._thread.join(30)


@pytest.fixture(scope="module")
def chain_thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainThread]:
    thread = ChainThread(tmp_path_factory.mktemp("chain"))
    yield thread
    thread.close()


async def _serve(started: Callable[[tuple[DevChain, Callable[[], None]]], None]) -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(serve_devnet, "127.0.0.1", 0, backend="py-evm")
        dev: DevChain = await nursery.start(serve)
        token = trio.lowlevel.current_trio_token()
        started((dev, partial(token.run_sync_soon, nursery.cancel_scope.cancel)))


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
async def ground(
    request: pytest.FixtureRequest,
    nursery: trio.Nursery,
    tmp_path: Path,
    chain_thread: ChainThread,
) -> Ground:
    """The embedded chain, or its stand-in of the adversarial tests."""
    if request.param == "stand-in":
        return ledger_ground()
    return await chain_thread.ground(nursery, tmp_path)
