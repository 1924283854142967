"""The event reader: order, restarts, reorganisations."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from chain.errors import BadResponse
from chain.events import DeepReorg, EventReader
from tests.chain.conftest import World

CONTRACTS = ("ComputePool", "PrimeToken")


def _reader(client: object, name: str = "test", confirmations: int = 1) -> EventReader:
    from chain.client import ChainClient

    assert isinstance(client, ChainClient)
    return EventReader(
        client.rpc,
        client.deployment,
        client.database,
        name,
        CONTRACTS,
        confirmations=confirmations,
        poll=0.02,
    )


async def test_events_come_in_order_once_handled_and_again_if_not(world: World) -> None:
    owner = await world.client(world.owner_key)
    pool = await owner.create_pool("a")
    await owner.fund_pool(pool, 5)
    await owner.start_pool(pool)

    batch = await _reader(owner).read()
    assert batch is not None
    names = [event.name for event in batch.events if event.contract == "ComputePool"]
    assert names == ["PoolCreated", "PoolFunded", "PoolStarted"]
    created = next(event for event in batch.events if event.name == "PoolCreated")
    assert created.args["creator"] == owner.address
    again = await _reader(owner).read()
    assert again == batch  # nobody said that it was handled

    seen = 0
    reader = _reader(owner)
    async for one in reader.batches():
        seen += 1
        if seen == 1:
            assert one == batch
            await owner.end_pool(pool)
        else:
            assert [event.name for event in one.events] == ["PoolEnded"]
            break
    # The second batch was never finished: a new reader delivers it again, and not the first.
    unfinished = await _reader(owner).read()
    assert unfinished is not None
    assert [event.name for event in unfinished.events] == ["PoolEnded"]
    assert await _reader(owner, "another").read() is not None


async def test_a_block_counts_only_when_it_is_deep_enough(world: World) -> None:
    owner = await world.client(world.owner_key)
    await owner.create_pool("a")
    shallow = await _reader(owner, confirmations=3).read()
    assert shallow is None or all(e.name != "PoolCreated" for e in shallow.events)
    for _ in range(2):
        await owner.rpc.request("evm_mine", [])
    deep = await _reader(owner, confirmations=3).read()
    assert deep is not None
    assert "PoolCreated" in [event.name for event in deep.events]


async def test_a_reorganisation_below_the_cursor_is_reported(world: World) -> None:
    owner = await world.client(world.owner_key)
    snapshot = await owner.rpc.request("evm_snapshot", [])
    base = await owner.rpc.block_number()
    await owner.rpc.request("evm_mine", [])
    await owner.rpc.request("evm_mine", [])
    reader = _reader(owner)
    async with trio.open_nursery() as nursery:
        batches = reader.batches()
        await anext(batches)
        nursery.start_soon(anext, batches)  # says that the first batch was handled, then waits
        with trio.fail_after(10):
            while await reader.read() is not None:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    await owner.rpc.request("evm_revert", [snapshot])
    with pytest.raises(DeepReorg, match="rewind"):
        await reader.read()
    await reader.rewind(base)
    await owner.rpc.request("evm_mine", [])
    batch = await reader.read()
    assert batch is not None
    assert batch.last.number == base + 1


async def test_logs_of_strangers_are_refused(world: World, tmp_path: Path) -> None:
    """An endpoint that mixes in other contracts' logs is lying about what was asked."""
    owner = await world.client(world.owner_key)
    await owner.create_pool("a")
    head = await owner.rpc.block_number()
    everything = await owner.rpc.logs(0, head, [])
    stranger = next(
        log
        for log in everything
        if log.address not in {owner.deployment.address(name) for name in CONTRACTS}
    )
    with pytest.raises(BadResponse, match="not asked for"):
        _reader(owner, os.urandom(4).hex())._decode(stranger, 0, head)
