"""`Rpc` of a development chain, and `HostileRpc` as long as it is in no hostile mood."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio

from chain.devnet.evm import CHAIN_ID
from chain.devnet.server import DevChain, serve_devnet
from chain.encoding.hexdata import to_data
from chain.endpoint.faucet import request_funds
from chain.endpoint.rpc import Rpc, open_rpc
from chain.errors import RpcError
from chain.transactions.signing import Fees, SignedTransaction, Unsigned, sign
from proofs.encoding.signing import address_of
from tests.chain.conftest import needs_anvil
from tests.chain.hostile_chain import GWEI, HostileRpc

ANVIL = pytest.param("anvil", marks=needs_anvil)
FRIEND = "0x" + "22" * 20


@dataclass
class Endpoint:
    """An endpoint, and an account that can pay; transactions are mined when a test says so, but at
    once where `waits` is False."""

    rpc: Rpc
    key: bytes
    waits: bool

    @property
    def address(self) -> str:
        return address_of(self.key)

    def transfer(self, nonce: int, gwei: int = 10) -> SignedTransaction:
        fees = Fees(max_fee=gwei * GWEI, tip=gwei * GWEI // 2)
        return sign(Unsigned(CHAIN_ID, nonce, FRIEND, 1, b"", 21_000, fees), self.key)

    async def mine(self) -> None:
        if isinstance(self.rpc, HostileRpc):
            self.rpc.mine([(0, True)])
        elif self.waits:
            await self.rpc.request("evm_mine", [])

    async def refusal(self, signed: SignedTransaction) -> str:
        with pytest.raises(RpcError) as caught:
            await self.rpc.send_raw(signed.raw)
        return str(caught.value).lower()


@pytest.fixture(params=["py-evm", ANVIL, "stand-in"])
async def endpoint(
    request: pytest.FixtureRequest, nursery: trio.Nursery
) -> AsyncIterator[Endpoint]:
    key = os.urandom(32)
    if request.param == "stand-in":
        rpc: Any = HostileRpc()
        yield Endpoint(rpc, key, waits=True)
        return
    serve = partial(serve_devnet, "127.0.0.1", 0, backend=request.param)
    dev: DevChain = await nursery.start(serve)
    await request_funds(dev.url, address_of(key))
    async with open_rpc(dev.url) as rpc:
        waits = request.param == "anvil"
        if waits:
            await rpc.request("evm_setAutomine", [False])
        yield Endpoint(rpc, key, waits)


async def test_what_is_mined_is_counted_found_and_in_its_block(endpoint: Endpoint) -> None:
    rpc, signed = endpoint.rpc, endpoint.transfer(0)
    before = await rpc.block_number()
    assert await rpc.nonce(endpoint.address) == 0
    assert await rpc.receipt(signed.hash) is None
    await rpc.send_raw(signed.raw)
    await endpoint.mine()
    assert await rpc.nonce(endpoint.address) == 1
    assert await rpc.nonce(endpoint.address, before) == 0
    number = await rpc.block_number()
    assert number == before + 1
    receipt = await rpc.receipt(signed.hash)
    assert receipt is not None
    assert (receipt.transaction_hash, receipt.block_number) == (signed.hash, number)
    assert (receipt.status, receipt.gas_used, receipt.contract) == (1, 21_000, None)
    block = await rpc.block(number)
    assert block is not None
    assert (block.number, block.hash) == (number, receipt.block_hash)
    latest = await rpc.block("latest")
    assert latest is not None
    assert latest.hash == block.hash
    assert await rpc.block(number + 1) is None
    held: Any = await rpc.request("eth_getBlockByNumber", [hex(number), False])
    assert held["transactions"] == [to_data(signed.hash)]
    assert await rpc.tip() > 0


async def test_a_nonce_is_used_once(endpoint: Endpoint) -> None:
    first, second = endpoint.transfer(0), endpoint.transfer(0, gwei=20)
    await endpoint.rpc.send_raw(first.raw)
    await endpoint.mine()
    assert "nonce too low" in await endpoint.refusal(second)
    again = await endpoint.refusal(first)
    assert "nonce too low" in again or "already known" in again
    assert await endpoint.rpc.receipt(second.hash) is None


@pytest.mark.parametrize("endpoint", [ANVIL, "stand-in"], indirect=True)
async def test_what_waits_is_replaced_by_a_better_offer_alone(endpoint: Endpoint) -> None:
    first = endpoint.transfer(0, gwei=10)
    await endpoint.rpc.send_raw(first.raw)
    assert "already" in await endpoint.refusal(first)
    assert "underpriced" in await endpoint.refusal(endpoint.transfer(0, gwei=9))
    better = endpoint.transfer(0, gwei=20)
    await endpoint.rpc.send_raw(better.raw)
    assert await endpoint.rpc.nonce(endpoint.address) == 0
    await endpoint.mine()
    assert await endpoint.rpc.nonce(endpoint.address) == 1
