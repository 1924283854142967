"""Several transactions of one key at once, on real chains."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from chain.database import Database
from chain.devnet.server import DevChain
from chain.endpoint.faucet import request_funds
from chain.errors import InvalidInput, TransactionDropped
from chain.transactions.machine import Rules, State, Transaction
from chain.transactions.sender import FILLER, SenderSettings
from chain.transactions.store import TransactionStore
from tests.chain.conftest import needs_anvil
from tests.chain.transactions.test_manager import FRIEND, Wallet

DEEP = SenderSettings(poll=0.02, rules=Rules(confirmations=3, bump_after=3))


class CountingStore(TransactionStore):
    """Says when as many different transactions as wanted were stored in a state."""

    def __init__(self, database: Database, state: State, wanted: int) -> None:
        super().__init__(database)
        self._state = state
        self._keys: set[str] = set()
        self._wanted = wanted
        self.reached = trio.Event()

    def save(self, tx: Transaction) -> None:
        super().save(tx)
        if tx.state is self._state:
            self._keys.add(tx.key)
            if len(self._keys) >= self._wanted:
                trio.from_thread.run_sync(self.reached.set)


def counting(
    state: State, wanted: int
) -> tuple[list[CountingStore], Callable[[Database], CountingStore]]:
    stores: list[CountingStore] = []

    def make(database: Database) -> CountingStore:
        stores.append(CountingStore(database, state, wanted))
        return stores[-1]

    return stores, make


@pytest.fixture
async def wallet(any_devnet: DevChain, tmp_path: Path) -> Wallet:
    wallet = Wallet(any_devnet, os.urandom(32), tmp_path / "w.sqlite")
    async with wallet.open() as (manager, _):
        await request_funds(any_devnet.url, manager.address)
    return wallet


@needs_anvil
@pytest.mark.parametrize("any_devnet", ["anvil"], indirect=True)
async def test_sixteen_share_a_block_and_the_others_the_next(wallet: Wallet) -> None:
    stores, make = counting(State.SENT, 16)
    settings = SenderSettings(poll=0.02)
    async with wallet.open(make, settings) as (manager, rpc), trio.open_nursery() as nursery:
        await rpc.request("evm_setAutomine", [False])
        for number in range(20):
            nursery.start_soon(partial(manager.send, f"p/{number}", FRIEND, b"", 1, gas=30_000))
        await stores[0].reached.wait()
        await rpc.request("evm_mine", [])
        assert await rpc.balance(FRIEND) == 16
        await rpc.request("evm_setAutomine", [True])
        await rpc.request("evm_mine", [])
    async with wallet.open() as (manager, rpc):
        assert await rpc.balance(FRIEND) == 20
        assert await rpc.nonce(manager.address) == 20


async def test_reorganised_ones_are_sent_again_in_order_also_after_a_restart(
    wallet: Wallet,
) -> None:
    stores, make = counting(State.MINED, 3)
    async with wallet.open(make, DEEP) as (manager, rpc):
        snapshot = await rpc.request("evm_snapshot", [])
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(manager.send, f"p/{number}", FRIEND, b"", 1)
            await stores[0].reached.wait()
            nursery.cancel_scope.cancel()
        assert await rpc.balance(FRIEND) == 3
    async with wallet.open(path=":memory:") as (_, rpc):
        assert await rpc.request("evm_revert", [snapshot]) is True
        assert await rpc.balance(FRIEND) == 0
    stores, make = counting(State.CONFIRMED, 3)
    async with wallet.open(make, DEEP) as (manager, rpc):
        with trio.fail_after(60):
            while not stores[0].reached.is_set():
                await rpc.request("evm_mine", [])
        assert await rpc.balance(FRIEND) == 3
        assert await rpc.nonce(manager.address) == 3


async def test_a_final_one_that_leaves_the_chain_is_sent_before_anything_new(
    wallet: Wallet,
) -> None:
    async with wallet.open() as (manager, rpc):
        snapshot = await rpc.request("evm_snapshot", [])
        await manager.send("a", FRIEND, b"", 5)
        assert await rpc.request("evm_revert", [snapshot]) is True
        assert await rpc.balance(FRIEND) == 0
        await manager.send("b", FRIEND, b"", 100)
        assert await rpc.balance(FRIEND) == 105
        assert (await manager.send("a", FRIEND, b"", 5)).status
        assert await rpc.nonce(manager.address) == 2


async def test_the_hole_that_a_stranger_leaves_is_closed(wallet: Wallet) -> None:
    stores, make = counting(State.MINED, 1)
    async with wallet.open(make, DEEP) as (manager, rpc), trio.open_nursery() as nursery:
        snapshot = await rpc.request("evm_snapshot", [])
        async with wallet.open(path=":memory:") as (stranger, _):
            await stranger.send("x", "0x" + "33" * 20, b"", 1)
        nursery.start_soon(manager.send, "a", FRIEND, b"", 5)
        await stores[0].reached.wait()
        assert await rpc.nonce(manager.address) == 2
        assert await rpc.request("evm_revert", [snapshot]) is True
        with trio.fail_after(60):
            while await rpc.balance(FRIEND) == 0:
                await rpc.request("evm_mine", [])
        assert await rpc.nonce(manager.address) == 2
        await rpc.request("evm_mine", [])
        await rpc.request("evm_mine", [])
    with pytest.raises(InvalidInput, match="sender's own"):
        await manager.send(f"{FILLER}0", FRIEND, b"", 5)


async def test_two_intents_alike_are_two_payments(any_devnet: DevChain, tmp_path: Path) -> None:
    """The first is refused and leaves its nonce to the second, whose bytes must not be the same."""
    wallet = Wallet(any_devnet, os.urandom(32), tmp_path / "w.sqlite")
    async with wallet.open() as (manager, rpc):
        with pytest.raises(TransactionDropped, match="refused"):
            await manager.send("a", FRIEND, b"", 5, gas=30_000)
        await request_funds(any_devnet.url, manager.address)
        first = await manager.send("b", FRIEND, b"", 5, gas=30_000)
        second = await manager.send("a", FRIEND, b"", 5, gas=30_000)
        assert first.hash != second.hash
        assert await rpc.balance(FRIEND) == 10
