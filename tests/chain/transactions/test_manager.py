"""The sender against real chains: crashes at every write, reorganisations, strangers, fees."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from chain.database import Database
from chain.devnet.server import DevChain
from chain.encoding.artifacts import error_table
from chain.endpoint.faucet import request_funds
from chain.endpoint.rpc import Rpc, open_rpc
from chain.errors import (
    ChainUnreachable,
    InvalidInput,
    StoreError,
    TransactionDropped,
    TransactionPending,
    WrongChain,
)
from chain.transactions.machine import Rules, State, Transaction
from chain.transactions.manager import TransactionManager, open_manager
from chain.transactions.sender import SenderSettings
from chain.transactions.store import TransactionStore
from proofs.encoding.signing import address_of
from tests.chain.conftest import FAST, needs_anvil

FRIEND = "0x" + "22" * 20


class Crash(Exception):
    """The process dies here."""


class CrashingStore(TransactionStore):
    """Dies when a transaction reaches a state: just before it is written, or just after."""

    def __init__(self, database: Database, state: State, written: bool) -> None:
        super().__init__(database)
        self._state = state
        self._written = written

    def save(self, tx: Transaction) -> None:
        if tx.state is self._state and not self._written:
            raise Crash
        super().save(tx)
        if tx.state is self._state:
            raise Crash


class WatchedStore(TransactionStore):
    """Says when a state has been written."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reached: dict[State, trio.Event] = {state: trio.Event() for state in State}

    def save(self, tx: Transaction) -> None:
        super().save(tx)
        trio.from_thread.run_sync(self.reached[tx.state].set)


@dataclass
class Wallet:
    """A funded key and where its database is; `open` starts its sender, any number of times."""

    dev: DevChain
    key: bytes
    path: Path

    @asynccontextmanager
    async def open(
        self,
        make: Callable[[Database], TransactionStore] = TransactionStore,
        settings: SenderSettings = FAST,
        path: Path | str | None = None,
    ) -> AsyncIterator[tuple[TransactionManager, Rpc]]:
        async with open_rpc(self.dev.url, errors=error_table()) as rpc:
            genesis = await rpc.block(0)
            assert genesis is not None
            database = Database(
                path or self.path,
                chain_id=31337,
                genesis=genesis.hash,
                address=address_of(self.key),
            )
            try:
                async with open_manager(rpc, self.key, make(database), settings) as manager:
                    yield manager, rpc
            finally:
                database.close()


@pytest.fixture
async def wallet(any_devnet: DevChain, tmp_path: Path) -> Wallet:
    key = os.urandom(32)
    await request_funds(any_devnet.url, address_of(key))
    return Wallet(any_devnet, key, tmp_path / "w.sqlite")


async def test_one_key_is_one_transaction(wallet: Wallet) -> None:
    async with wallet.open() as (manager, rpc):
        first = await manager.send("a", FRIEND, b"", 5)
        assert await manager.send("a", FRIEND, b"", 5) == first
        results: list[object] = []

        async def again() -> None:
            results.append(await manager.send("b", FRIEND, b"", 5))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(again)
        assert len(set(results)) == 1
        assert await rpc.balance(FRIEND) == 10
        assert await rpc.nonce(manager.address) == 2
        with pytest.raises(InvalidInput, match="another transaction"):
            await manager.send("a", FRIEND, b"", 6)
    async with wallet.open() as (manager, rpc):
        assert await manager.send("a", FRIEND, b"", 5) == first
        assert await rpc.nonce(manager.address) == 2


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("state", [State.SIGNED, State.SENT, State.CONFIRMED])
async def test_a_crash_pays_neither_twice_nor_never(
    wallet: Wallet, state: State, written: bool
) -> None:
    with pytest.RaisesGroup(Crash):
        async with wallet.open(lambda db: CrashingStore(db, state, written)) as (manager, _):
            await manager.send("a", FRIEND, b"", 5)
    async with wallet.open() as (manager, rpc):
        await manager.send("a", FRIEND, b"", 5)
        await manager.send("after", FRIEND, b"", 100)
        assert await rpc.balance(FRIEND) == 105
        assert await rpc.nonce(manager.address) == 2


async def test_what_a_crash_left_is_sent_without_being_asked_again(wallet: Wallet) -> None:
    with pytest.RaisesGroup(Crash):
        async with wallet.open(lambda db: CrashingStore(db, State.SIGNED, True)) as (manager, _):
            await manager.send("a/0", FRIEND, b"", 5)
    async with wallet.open() as (manager, rpc):
        await manager.await_outcomes("a")
        assert await rpc.balance(FRIEND) == 5


async def test_a_reorganised_transaction_is_mined_again(wallet: Wallet) -> None:
    stores: list[WatchedStore] = []

    def make(database: Database) -> WatchedStore:
        stores.append(WatchedStore(database))
        return stores[0]

    settings = SenderSettings(poll=0.05, rules=Rules(confirmations=2))
    async with wallet.open(make, settings) as (manager, rpc), trio.open_nursery() as nursery:
        snapshot = await rpc.request("evm_snapshot", [])
        nursery.start_soon(manager.send, "a", FRIEND, b"", 5)
        await stores[0].reached[State.MINED].wait()
        stores[0].reached[State.MINED] = trio.Event()
        assert await rpc.request("evm_revert", [snapshot]) is True
        await rpc.request("evm_mine", [])
        await stores[0].reached[State.MINED].wait()
        await rpc.request("evm_mine", [])
        result = await manager.send("a", FRIEND, b"", 5)
        assert result.status
        assert await rpc.balance(FRIEND) == 5


async def test_a_stranger_takes_the_nonce(wallet: Wallet) -> None:
    with pytest.RaisesGroup(Crash):
        async with wallet.open(lambda db: CrashingStore(db, State.SIGNED, True)) as (manager, _):
            await manager.send("a", FRIEND, b"", 5)
    async with wallet.open(path=":memory:") as (stranger, _):
        await stranger.send("x", FRIEND, b"", 100)
    async with wallet.open() as (manager, rpc):
        with pytest.raises(TransactionDropped, match="not ours"):
            await manager.send("a", FRIEND, b"", 5)
        await manager.send("a", FRIEND, b"", 5)
        assert await rpc.balance(FRIEND) == 105


@pytest.mark.each_chain
async def test_refused_for_want_of_funds_and_paid_later(any_devnet: DevChain) -> None:
    wallet = Wallet(any_devnet, os.urandom(32), Path(":memory:"))
    async with wallet.open() as (manager, rpc):
        with pytest.raises(TransactionDropped, match="refused"):
            await manager.send("a", FRIEND, b"", 5, gas=30_000)
        await request_funds(any_devnet.url, manager.address)
        assert (await manager.send("b", FRIEND, b"", 100, gas=30_000)).status
        assert (await manager.send("a", FRIEND, b"", 5, gas=30_000)).status
        assert await rpc.balance(FRIEND) == 105


@needs_anvil
@pytest.mark.parametrize("any_devnet", ["anvil"], indirect=True)
async def test_a_stuck_transaction_is_replaced_at_a_higher_fee(wallet: Wallet) -> None:
    stores: list[WatchedStore] = []

    def make(database: Database) -> WatchedStore:
        stores.append(WatchedStore(database))
        return stores[0]

    settings = SenderSettings(poll=0.05, rules=Rules(confirmations=1, bump_after=2))
    async with wallet.open(make, settings) as (manager, rpc), trio.open_nursery() as nursery:
        await rpc.request("evm_setAutomine", [False])
        nursery.start_soon(manager.send, "a", FRIEND, b"", 5)
        await stores[0].reached[State.SENT].wait()
        await rpc.request("anvil_setNextBlockBaseFeePerGas", [hex(100 * 10**9)])
        stores[0].reached[State.SENT] = trio.Event()
        for _ in range(2):
            await rpc.request("evm_mine", [])
        await stores[0].reached[State.SENT].wait()
        assert await rpc.balance(FRIEND) == 0
        await rpc.request("evm_setAutomine", [True])
        await rpc.request("evm_mine", [])
        result = await manager.send("a", FRIEND, b"", 5)
        sent = stores[0].get("a")
        assert sent is not None
        assert len(sent.attempts) == 2
        assert result.hash == sent.attempts[1].hash
        assert sent.attempts[1].fees.max_fee * 8 >= sent.attempts[0].fees.max_fee * 9
        assert await rpc.balance(FRIEND) == 5


@needs_anvil
@pytest.mark.parametrize("any_devnet", ["anvil"], indirect=True)
async def test_a_deadline_leaves_the_transaction_going(wallet: Wallet) -> None:
    async with wallet.open() as (manager, rpc):
        await rpc.request("evm_setAutomine", [False])
        with pytest.raises(TransactionPending):
            await manager.send("a", FRIEND, b"", 5, timeout=0.2)
        await rpc.request("evm_setAutomine", [True])
        await rpc.request("evm_mine", [])
        assert (await manager.send("a", FRIEND, b"", 5)).status


async def test_an_unreachable_endpoint_is_named(tmp_path: Path) -> None:
    async with open_rpc("http://127.0.0.1:9", deadline=2) as rpc:
        with pytest.raises(ChainUnreachable, match=r"http://127\.0\.0\.1:9 .*--rpc-url"):
            await rpc.chain_id()
    with pytest.raises(InvalidInput, match="no RPC URL"):
        async with open_rpc("127.0.0.1:8545"):
            pass


async def test_limits_are_asserted_before_signing(wallet: Wallet) -> None:
    async with wallet.open() as (manager, rpc):
        with pytest.raises(InvalidInput, match="gas"):
            await manager.send("a", FRIEND, b"", gas=16_777_217)
        with pytest.raises(InvalidInput, match="bytes exceeds"):
            await manager.send("b", FRIEND, bytes(131_072), gas=16_000_000)
        assert (await manager.send("c", FRIEND, b"", 1)).status
        assert await rpc.nonce(manager.address) == 1


def test_a_database_belongs_to_one_chain_and_one_process(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite"
    opened = Database(path, chain_id=1, genesis=b"a" * 32, address="0x1")
    with pytest.raises(StoreError, match="another process"):
        Database(path, chain_id=1, genesis=b"a" * 32, address="0x1")
    opened.close()
    with pytest.raises(WrongChain, match="a new data folder"):
        Database(path, chain_id=1, genesis=b"b" * 32, address="0x1")
    Database(path, chain_id=1, genesis=b"a" * 32, address="0x1").close()
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError):
        Database(broken, chain_id=1, genesis=b"a" * 32, address="0x1")
