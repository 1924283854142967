"""The sender in single awkward situations of an endpoint, step by step on the model chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chain.database import Database
from chain.errors import ChainUnreachable, Reverted, TransactionDropped
from chain.transactions.fees import FeePolicy
from chain.transactions.machine import Rules, State, Transaction
from chain.transactions.network import Network
from chain.transactions.sender import Sender, SenderSettings
from chain.transactions.store import TransactionStore
from tests.chain.hostile_chain import GWEI, HostileRpc

FRIEND = "0x" + "22" * 20
RULES = Rules(confirmations=2, bump_after=3)


class Bench:
    """A sender, its store, and the endpoint it talks to."""

    def __init__(self, database: Database) -> None:
        self.store = TransactionStore(database)
        self.rpc = HostileRpc()
        self.sender = self.start()

    def start(self, cap: int = 500 * GWEI) -> Sender:
        settings = SenderSettings(rules=RULES, fees=FeePolicy(max_fee_cap=cap))
        rpc: Any = self.rpc
        network = Network(rpc, 1, b"\x01" * 32, RULES, settings.fees)
        self.sender = Sender(network, self.store, settings)
        return self.sender

    def intend(self, key: str) -> None:
        self.store.add(Transaction(key, FRIEND, b"", 1, 30_000))
        self.sender.ask(key)

    def tx(self, key: str) -> Transaction:
        found = self.store.get(key)
        assert found is not None
        return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    database = Database(":memory:", chain_id=1, genesis=bytes(32), address="0x")
    yield Bench(database)
    database.close()


async def test_a_late_receipt_is_not_a_stranger(bench: Bench) -> None:
    bench.intend("a")
    await bench.sender.round()
    bench.rpc.mine([(0, True)])
    for blocks in range(100):  # also when the block that used the nonce is not the newest
        bench.rpc.late = blocks < 50
        await bench.sender.round()
        assert bench.tx("a").state is (State.SENT if blocks < 50 else State.CONFIRMED)
        bench.rpc.mine([])


async def test_a_stranger_is_one_however_long_ago(bench: Bench) -> None:
    bench.intend("a")
    bench.rpc.moods = ["txpool is full"]
    await bench.sender.round()
    bench.rpc.mine([], strangers=True)
    for _ in range(200):
        bench.rpc.mine([])
    outcome = bench.sender.ask("a")
    await bench.sender.round()
    assert bench.tx("a").state is State.REPLACED
    with pytest.raises(TransactionDropped, match="not ours"):
        await outcome.wait()


async def test_what_a_pool_forgot_is_offered_again_when_the_fee_cannot_rise(bench: Bench) -> None:
    bench.start(cap=3 * GWEI)
    bench.intend("a")
    await bench.sender.round()
    held = dict(bench.rpc.pool)
    bench.rpc.pool.clear()
    for _ in range(RULES.bump_after):
        assert not bench.rpc.pool
        bench.rpc.mine([], strangers=False)
    await bench.sender.round()
    assert bench.rpc.pool == held


async def test_fees_do_not_run_away_while_something_else_is_wrong(bench: Bench) -> None:
    bench.intend("a")
    await bench.sender.round()
    bench.rpc.pool.clear()
    for _ in range(30):
        bench.rpc.moods = ["insufficient funds"] * 8
        bench.rpc.mine([])
        await bench.sender.round()
    assert len(bench.tx("a").attempts) <= 2
    bench.rpc.moods = []
    await bench.sender.round()
    assert len(bench.rpc.pool) == 1


async def test_funds_that_are_bound_in_flight_are_waited_for(bench: Bench) -> None:
    bench.intend("a")
    bench.intend("b")
    bench.rpc.moods = ["take", "insufficient funds: overshot"]
    await bench.sender.round()
    assert (bench.tx("a").state, bench.tx("b").state) == (State.SENT, State.SIGNED)
    bench.rpc.mine([(0, True)])
    await bench.sender.round()
    assert (bench.tx("a").state, bench.tx("b").state) == (State.MINED, State.SENT)


async def test_a_restart_offers_again_what_was_sent(bench: Bench) -> None:
    for key in ("a", "b"):
        bench.intend(key)
    await bench.sender.round()
    assert list(bench.rpc.pool) == [0, 1]
    bench.rpc.pool.clear()
    await bench.start().resume()
    await bench.sender.round()
    assert list(bench.rpc.pool) == [0, 1]


async def test_an_endpoint_that_runs_a_transaction_first_may_refuse_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(raw: bytes) -> None:
        raise Reverted("", (), b"")

    monkeypatch.setattr(bench.rpc, "send_raw", refuse)
    bench.intend("a")
    await bench.sender.round()
    assert bench.tx("a").state is State.DROPPED  # and so does not stand in the way of others


async def test_one_retry_for_all_who_ask(bench: Bench) -> None:
    """Callers who read the same failure before the first of them was served retry it once."""
    bench.intend("a")
    await bench.sender.round()
    bench.rpc.mine([(0, False)])
    bench.rpc.mine([])
    await bench.sender.round()
    assert bench.tx("a").state is State.REVERTED
    bench.sender.ask("a", again=True, gas=40_000)
    await bench.sender.round()
    bench.rpc.mine([(0, True)])
    bench.rpc.mine([])
    await bench.sender.round()
    assert bench.tx("a").state is State.CONFIRMED
    late = bench.sender.ask("a", again=True, gas=40_000)
    await bench.sender.round()
    assert (await late.wait()).state is State.CONFIRMED
    assert bench.rpc.count() == 2
    assert bench.tx("a").gas == 40_000


async def test_all_who_wait_are_told_that_the_endpoint_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> int:
        raise ChainUnreachable("http://model", "gone")

    bench.intend("a")
    outcome = bench.sender.ask("a")
    monkeypatch.setattr(bench.rpc, "block_number", fail)
    await bench.sender.round()
    with pytest.raises(ChainUnreachable):
        await outcome.wait()
    monkeypatch.undo()
    await bench.sender.round()
    assert bench.tx("a").state is State.SENT  # the sender goes on all the same
