"""The event reader on real chains: order, restarts, reorganisations, limits of endpoints."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from chain.deployment.deployment import Deployment
from chain.encoding.artifacts import load_artifact
from chain.encoding.records import Log
from chain.errors import BadResponse, ChainUnreachable, RpcError
from chain.events.reader import Batch, DeepReorg, EventReader
from chain.transactions.account import Account
from tests.chain.conftest import needs_anvil

FRIEND = "0x" + "22" * 20
MINTED = 10**6


@dataclass
class Token:
    """A token on a chain, and readers of its transfers."""

    account: Account
    deployment: Deployment

    async def pay(self, amount: int) -> None:
        data = load_artifact("PrimeToken").abi.encode("transfer", FRIEND, amount)
        to = self.deployment.address("PrimeToken")
        await self.account.manager.send(f"pay/{amount}", to, data)

    def reader(self, confirmations: int = 1, name: str = "test", heal: bool = True) -> EventReader:
        return EventReader(
            self.account.rpc,
            self.deployment,
            self.account.database,
            name,
            ["PrimeToken"],
            confirmations=confirmations,
            poll=0.02,
            heal=heal,
        )

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.account.rpc.request("evm_mine", [])


@pytest.fixture
async def token(account: Account) -> Token:
    artifact = load_artifact("PrimeToken")
    me = account.manager.address
    creation = artifact.abi.encode_constructor(artifact.bytecode, me, MINTED)
    result = await account.manager.send("token", None, creation)
    receipt = await account.rpc.receipt(result.hash)
    assert receipt is not None
    assert receipt.contract is not None
    return Token(account, Deployment(31337, {"PrimeToken": receipt.contract}, 1, result.block))


def paid(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [event.args["value"] for event in batch.events if event.name == "Transfer"]


async def drain(reader: EventReader) -> list[int]:
    """All there is, finished."""
    amounts: list[int] = []
    while (batch := await reader.read()) is not None:
        amounts += paid(batch)
        assert await reader.finish(batch)
    return amounts


@pytest.mark.each_chain
async def test_events_come_in_order_once_handled_and_again_if_not(token: Token) -> None:
    await token.pay(1)
    await token.pay(2)
    batch = await token.reader().read()
    assert paid(batch) == [MINTED, 1, 2]
    assert batch is not None
    assert batch.void_after is None
    assert await token.reader().read() == batch  # nobody said that it was handled
    seen = 0
    async for one in token.reader().batches():
        seen += 1
        if seen == 1:
            assert one == batch
            await token.pay(3)
        else:
            assert paid(one) == [3]
            break
    # The second batch was never finished: a new reader delivers it again, and not the first.
    assert paid(await token.reader().read()) == [3]
    assert paid(await token.reader(name="another").read()) == [MINTED, 1, 2, 3]


async def test_effects_and_cursor_move_together_or_not_at_all(token: Token) -> None:
    database = token.account.database

    def total() -> int:
        with database.transaction() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS seen (amount INTEGER)")
            return int(cursor.execute("SELECT total(amount) FROM seen").fetchone()[0])

    assert total() == 0
    reader = token.reader()
    batch = await reader.read()
    assert batch is not None

    def count(cursor: sqlite3.Cursor) -> None:
        rows = [(amount,) for amount in paid(batch)]
        cursor.executemany("INSERT INTO seen VALUES (?)", rows)

    def fail(cursor: sqlite3.Cursor) -> None:
        count(cursor)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await reader.finish(batch, fail)
    assert total() == 0
    assert await token.reader().read() == batch
    assert await reader.finish(batch, count)
    assert not await reader.finish(batch, count)
    assert total() == MINTED
    await token.pay(1)
    batch = await reader.read()
    assert batch is not None
    await reader.rewind(batch.base.number)
    assert not await reader.finish(batch, count)  # it would undo the rewind
    assert total() == MINTED


@pytest.mark.each_chain
async def test_a_block_counts_only_when_it_is_deep_enough(token: Token) -> None:
    reader = token.reader(confirmations=3)
    await token.pay(1)
    shallow = await reader.read()
    assert shallow is None or paid(shallow) in ([], [MINTED])
    await token.mine(2)
    assert paid(await reader.read()) == [MINTED, 1]


async def test_a_deep_reorganisation_is_healed_by_reading_again(token: Token) -> None:
    await token.pay(1)
    reader = token.reader()
    assert await drain(reader) == [MINTED, 1]
    base = await token.account.rpc.block_number()
    snapshot = await token.account.rpc.request("evm_snapshot", [])
    await token.pay(2)
    await token.mine()
    assert await drain(reader) == [2]
    assert await token.account.rpc.request("evm_revert", [snapshot]) is True
    assert await reader.read() is None  # the chain is shorter than what was handled: wait
    # The sender offers again what was final and left the chain, before anything new.
    await token.pay(3)
    await token.mine(2)
    with pytest.raises(DeepReorg, match="rewind") as caught:
        await token.reader(heal=False).read()
    assert caught.value.ancestor == base
    batch = await token.reader().read()
    assert batch is not None
    assert batch.void_after == base
    assert paid(batch) == [2, 3]
    assert await token.reader().read() == batch  # also after a crash before it was finished
    assert await token.reader().finish(batch)
    assert await token.reader().read() is None


async def test_rewinding_reads_anew(token: Token) -> None:
    await token.pay(1)
    reader = token.reader()
    assert await drain(reader) == [MINTED, 1]
    await reader.rewind(token.deployment.block)
    assert await drain(reader) == [1]


@needs_anvil
@pytest.mark.parametrize("any_devnet", ["anvil"], indirect=True)
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
async def test_reorganisations_show_only_below_the_confirmations(token: Token, depth: int) -> None:
    reader = token.reader(confirmations=3)
    for amount in (1, 2, 3):
        await token.pay(amount)
        await token.mine()
    handled = await drain(reader)
    assert handled == [MINTED, 1, 2]
    await token.account.rpc.request("anvil_reorg", [depth, []])
    await token.mine(6)
    batch = await token.reader(confirmations=3).read()
    assert batch is not None
    assert (batch.void_after is not None) == (depth >= 3)


async def test_an_endpoint_with_narrow_limits_is_read_in_small_steps(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    await token.pay(1)
    await token.mine(9)
    await token.pay(2)
    rpc = token.account.rpc
    ask = rpc.logs
    asked: list[int] = []

    async def stingy(first: int, last: int, addresses: Sequence[str]) -> Sequence[Log]:
        asked.append(last - first + 1)
        if last - first >= 3:
            raise RpcError("eth_getLogs", -32005, "query returned more than 3 blocks")
        return await ask(first, last, addresses)

    monkeypatch.setattr(rpc, "logs", stingy)
    reader = token.reader()
    assert await drain(reader) == [MINTED, 1, 2]
    assert len(asked) <= 16

    async def broken(first: int, last: int, addresses: Sequence[str]) -> Sequence[Log]:
        raise RpcError("eth_getLogs", -32000, "the disk is gone")

    monkeypatch.setattr(rpc, "logs", broken)
    with pytest.raises(RpcError, match="disk"):
        await token.reader(name="another").read()

    async def slow(first: int, last: int, addresses: Sequence[str]) -> Sequence[Log]:
        asked.append(last - first + 1)
        raise ChainUnreachable(rpc.url, "no answer")

    monkeypatch.setattr(rpc, "logs", slow)
    reader = token.reader(name="another")
    for _ in range(12):
        with pytest.raises(ChainUnreachable):
            await reader.read()
    assert asked[-1] == 1  # an endpoint that is too slow for many blocks is asked for one


async def test_logs_and_cursor_are_of_one_branch(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc = token.account.rpc
    snapshot = await rpc.request("evm_snapshot", [])
    await token.pay(1)
    ask = rpc.logs

    async def changing(first: int, last: int, addresses: Sequence[str]) -> Sequence[Log]:
        logs = await ask(first, last, addresses)
        assert await rpc.request("evm_revert", [snapshot]) is True
        return logs

    monkeypatch.setattr(rpc, "logs", changing)
    assert await token.reader().read() is None


async def test_logs_of_strangers_are_refused(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that mixes in other contracts' logs is lying about what was asked."""
    rpc = token.account.rpc
    ask = rpc.logs

    async def lying(first: int, last: int, addresses: Sequence[str]) -> Sequence[Log]:
        logs = await ask(first, last, addresses)
        return [log.model_copy(update={"address": FRIEND}) for log in logs]

    monkeypatch.setattr(rpc, "logs", lying)
    with pytest.raises(BadResponse, match="not asked for"):
        await token.reader().read()
