"""A development chain that is another chain: faucet and deployment on an endpoint given by URL."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from chain.devnet.bootstrap import deploy_on_devnet
from chain.devnet.evm import CHAIN_ID, EvmBackend
from chain.devnet.faucet import ETHER_GRANT, FUNDS, Faucet
from chain.devnet.remote import RemoteChain
from chain.devnet.server import make_app, serve_devnet
from chain.endpoint.faucet import request_funds
from chain.endpoint.rpc import open_rpc
from chain.errors import DevnetError
from proofs.encoding.signing import address_of


@asynccontextmanager
async def elsewhere(key: bytes, wei: int = FUNDS) -> AsyncIterator[str]:
    """A chain on another server, where the account of `key` holds `wei`."""
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    port = listener.getsockname()[1]
    backend = await EvmBackend.start(address_of(key), wei)
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = 1
    app = make_app(backend, Faucet(backend, CHAIN_ID, os.urandom(32)))
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, app, config)
        yield f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


async def test_contracts_and_grants_come_from_the_given_account(tmp_path) -> None:
    key = os.urandom(32)
    async with elsewhere(key) as url, trio.open_nursery() as nursery:
        chain = await nursery.start(
            lambda *, task_status: serve_devnet(
                port=0, remote=RemoteChain(url, key), task_status=task_status
            )
        )
        assert (chain.chain_id, chain.faucet_address) == (CHAIN_ID, address_of(key))
        deployer = os.urandom(32)
        deployment = await deploy_on_devnet(chain.url, deployer, tmp_path / "deployer.sqlite")
        someone = address_of(os.urandom(32))
        await request_funds(chain.url, someone)
        async with open_rpc(url) as direct:
            assert await direct.balance(someone) == ETHER_GRANT
            assert await direct.code(deployment.address("PrimeToken"))
        nursery.cancel_scope.cancel()


async def test_an_account_without_gas_money_is_named() -> None:
    key = os.urandom(32)
    async with elsewhere(os.urandom(32)) as url:
        with pytest.raises(DevnetError, match=address_of(key)):
            await serve_devnet(port=0, remote=RemoteChain(url, key))


async def test_an_endpoint_that_is_none_is_named() -> None:
    remote = RemoteChain("http://127.0.0.1:9", os.urandom(32))
    with pytest.raises(DevnetError, match=re.escape("127.0.0.1:9")):
        await serve_devnet(port=0, remote=remote)


def test_the_key_is_in_no_repr() -> None:
    key = os.urandom(32)
    assert key.hex() not in repr(RemoteChain("http://127.0.0.1:9", key))
    assert repr(key) not in repr(RemoteChain("http://127.0.0.1:9", key))
