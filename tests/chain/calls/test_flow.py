"""Pools and their members, on every kind of chain. Settlement is in test_settlement.py."""

from __future__ import annotations

import os
import time

import pytest

from chain.deployment.parameters import DeploymentParams
from chain.encoding.views import PoolState, Strategy
from chain.errors import InvalidInput, Reverted
from tests.chain.conftest import World
from tests.chain.epochs import RATE, STAKE, TOKEN


@pytest.mark.each_chain
async def test_a_node_joins_and_leaves_a_pool(world: World) -> None:
    owner = await world.client(world.owner_key)
    provider_key, node_key = os.urandom(32), os.urandom(32)
    provider = await world.client(provider_key)
    node = await world.client(node_key)

    record = await provider.ensure_registered(provider_key, node_key, STAKE, 4, "tcp://here")
    assert (record.provider, record.compute_units) == (provider.address, 4)
    assert await node.providers.stake_of(provider.address) == STAKE
    assert await provider.ensure_registered(provider_key, node_key, STAKE, 4) == record
    assert await node.token_balance(provider.address) == 10_000 * TOKEN - STAKE
    await provider.ensure_registered(provider_key, node_key, 2 * STAKE, 4)
    assert await node.providers.stake_of(provider.address) == 2 * STAKE

    pool = await owner.pools.create("smol", rate=RATE, inviter=owner.address)
    assert await owner.pools.create("smol", rate=RATE, inviter=owner.address) == pool
    with pytest.raises(InvalidInput, match="another transaction"):
        await owner.pools.create("smol", rate=RATE + 1, inviter=owner.address)
    for _ in range(2):
        await owner.pools.fund(pool, 1_000 * TOKEN)
    funds = await owner.pools.funds(pool)
    assert (funds.strategy, funds.rate, funds.funded) == (Strategy.WORK, RATE, 1_000 * TOKEN)
    assert funds.settlement == world.deployment.address("ReceiptSettlement")
    assert await owner.pools.start(pool) is not None
    assert await owner.pools.start(pool) is None
    record_of_pool = await owner.pools.info(pool)
    assert record_of_pool.state is PoolState.ACTIVE
    assert record_of_pool.settlement == funds.settlement

    deadline = int(time.time()) + 600
    with pytest.raises(Reverted) as refused:
        await node.pools.join(pool, b"\x01" * 65, deadline)
    assert refused.value.name == "InvalidInvite"
    invite = await owner.pools.sign_invite(pool, node.address, deadline)
    await node.pools.join(pool, invite, deadline)
    assert await node.pools.join(pool, invite, deadline) is None
    assert await owner.pools.is_member(pool, node.address)
    assert await node.pools.leave(pool) is not None
    assert await node.pools.leave(pool) is None
    left = await node.nodes.find(node.address)
    assert left is not None
    assert left.pool_id is None


async def test_a_node_may_register_itself_through_its_provider_key(world: World) -> None:
    node_key, provider_key = os.urandom(32), os.urandom(32)
    await world.client(provider_key)  # only to fund it
    node = await world.client(node_key)
    await node.ensure_registered(node_key, node_key, STAKE, 1)
    record = await node.nodes.find(node.address)
    assert record is not None
    assert record.provider == node.address


@pytest.mark.each_chain
async def test_too_little_money_is_said_before_anything_is_sent(world: World) -> None:
    key = os.urandom(32)
    client = await world.client(key)
    with pytest.raises(InvalidInput, match="fund it first"):
        await client.ensure_registered(key, os.urandom(32), 20_000 * TOKEN, 1)
    with pytest.raises(Reverted) as refused:
        await client.pools.create("x" * 65, rate=1)
    assert refused.value.name == "TextTooLong"
    with pytest.raises(InvalidInput, match="inviter"):
        await client.pools.create("odd", rate=1, inviter="0x12")
    assert DeploymentParams().base_stake < STAKE
