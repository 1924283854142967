"""Real development chains for the chain tests; nothing here stands in for the chain."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from chain.client import ChainClient, open_chain
from chain.deployment.deployment import Deployment
from chain.deployment.parameters import DeploymentParams
from chain.devnet.anvil import find_anvil
from chain.devnet.bootstrap import deploy_on_devnet
from chain.devnet.server import DevChain, serve_devnet
from chain.endpoint.faucet import request_funds
from chain.transactions.account import Account, open_account
from chain.transactions.machine import Rules
from chain.transactions.sender import SenderSettings
from proofs.encoding.signing import address_of

FAST = SenderSettings(poll=0.05, rules=Rules(confirmations=1))

needs_anvil = pytest.mark.skipif(
    find_anvil() is None, reason="anvil not found: install Foundry, or `npm ci` in contracts/"
)


@pytest.fixture
async def devnet(nursery: trio.Nursery) -> DevChain:
    """A fresh embedded chain on a free port."""
    return await nursery.start(partial(serve_devnet, "127.0.0.1", 0, backend="py-evm"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `each_chain` run on every kind of chain; all others on anvil, which is faster,
    or, where it is missing, on the embedded one."""
    chosen = any(
        "any_devnet" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    )
    if "any_devnet" not in metafunc.fixturenames or chosen:
        return
    kinds = ["py-evm" if find_anvil() is None else "anvil"]
    if metafunc.definition.get_closest_marker("each_chain") is not None:
        kinds = ["py-evm", pytest.param("anvil", marks=needs_anvil)]
    metafunc.parametrize("any_devnet", kinds, indirect=True)


@pytest.fixture
async def any_devnet(request: pytest.FixtureRequest, nursery: trio.Nursery) -> DevChain:
    """A fresh chain of the kind that the test is to run on."""
    return await nursery.start(partial(serve_devnet, "127.0.0.1", 0, backend=request.param))


class World:
    """A chain with the contracts on it, and clients for as many funded keys as a test wants."""

    def __init__(
        self,
        dev: DevChain,
        deployment: Deployment,
        owner: bytes,
        folder: Path,
        nursery: trio.Nursery,
    ) -> None:
        self.dev = dev
        self.deployment = deployment
        self.owner_key = owner
        self._folder = folder
        self._nursery = nursery

    async def client(self, key: bytes | None = None) -> ChainClient:
        """A client of a key with ether and tokens; a new key by default."""
        key = key or os.urandom(32)
        await request_funds(self.dev.url, address_of(key))
        client: ChainClient = await self._nursery.start(self._hold, key)
        return client

    async def _hold(self, key: bytes, task_status: trio.TaskStatus[ChainClient]) -> None:
        path = self._folder / f"{address_of(key)}.sqlite"
        async with open_chain(self.dev.url, self.deployment, key, path, settings=FAST) as client:
            task_status.started(client)
            await trio.sleep_forever()


@pytest.fixture
def params() -> DeploymentParams:
    """What `world` is deployed with; modules put their own in its place."""
    return DeploymentParams()


@pytest.fixture
async def world(
    any_devnet: DevChain, tmp_path: Path, nursery: trio.Nursery, params: DeploymentParams
) -> World:
    owner = os.urandom(32)
    path = tmp_path / f"{address_of(owner)}.sqlite"
    deployment = await deploy_on_devnet(any_devnet.url, owner, path, params, settings=FAST)
    return World(any_devnet, deployment, owner, tmp_path, nursery)


@pytest.fixture
async def account(any_devnet: DevChain, tmp_path: Path) -> AsyncIterator[Account]:
    """A funded key's sender on a chain without contracts."""
    key = os.urandom(32)
    await request_funds(any_devnet.url, address_of(key))
    async with open_account(any_devnet.url, key, tmp_path / "a.sqlite", settings=FAST) as opened:
        yield opened
