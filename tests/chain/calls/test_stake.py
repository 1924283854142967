"""Stakes, nodes and validators from begin to end, and pools that pay for time."""

from __future__ import annotations

import os

import pytest

from chain.encoding.views import PoolState, Strategy
from chain.errors import InvalidInput, Reverted
from proofs.encoding.signing import address_of
from tests.chain.conftest import World
from tests.chain.epochs import STAKE, TOKEN


@pytest.mark.each_chain
async def test_a_provider_comes_and_goes(world: World) -> None:
    client = await world.client()
    node_key = os.urandom(32)
    node = address_of(node_key)
    assert await client.nodes.owner_of(node) is None
    await client.nodes.register(node_key, STAKE, 4)
    assert await client.providers.nodes_of(client.address) == [node]
    minimum = await client.providers.minimum_stake(4)
    assert minimum == 14 * TOKEN
    for _ in range(2):
        await client.providers.add_stake(5 * TOKEN, purpose="more")
    status = await client.providers.stake_status(client.address)
    assert (status.active, status.unbonding, status.required) == (STAKE + 5 * TOKEN, 0, minimum)
    assert status.slashable == status.active // 2
    assert await client.settlement.conviction_loss(client.address) == status.active // 10
    head = await client.rpc.block("latest")
    assert head is not None
    assert await client.block_hash(head.number) == head.hash
    assert await client.block_hash(head.number + 1) is None
    assert await client.providers.withdraw() is None

    with pytest.raises(Reverted) as needed:
        await client.providers.unstake(STAKE, purpose="all")
    assert needed.value.name == "BelowMinimumStake"
    for _ in range(2):
        await client.providers.unstake(50 * TOKEN, purpose="half")
    status = await client.providers.stake_status(client.address)
    assert (status.active, status.unbonding) == (STAKE - 45 * TOKEN, 50 * TOKEN)
    with pytest.raises(InvalidInput, match=r"unbonding until .* UTC, \d+ s from now"):
        await client.providers.withdraw()

    assert await client.nodes.remove(node) is not None
    assert await client.nodes.remove(node) is None
    assert await client.nodes.find(node) is None
    assert await client.nodes.owner_of(node) == client.address, "it stays this provider's"
    await client.providers.unstake(STAKE - 45 * TOKEN, purpose="rest")
    await client.rpc.request("evm_increaseTime", [61])
    await client.rpc.request("evm_mine", [])
    assert await client.providers.withdraw() is not None
    assert await client.providers.withdraw() is None
    assert await client.token_balance(client.address) == 10_000 * TOKEN


async def test_a_node_key_never_changes_hands(world: World) -> None:
    first, second = await world.client(), await world.client()
    node_key = os.urandom(32)
    await first.nodes.register(node_key, STAKE, 1)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="belongs to provider"):
            await second.nodes.register(node_key, STAKE, 1)
        await first.nodes.remove(address_of(node_key))
    assert await second.providers.stake_of(second.address) == 0, "nothing was staked in vain"
    back = await first.nodes.register(node_key, STAKE, 2)
    assert back.compute_units == 2
    nodes = [back.address, address_of(os.urandom(32)), back.address]
    assert await second.nodes.owners_of(nodes) == {back.address: first.address}
    assert await second.nodes.owners_of([]) == {}


async def test_validators_weigh_what_they_staked(world: World) -> None:
    owner, provider = await world.client(world.owner_key), await world.client()
    early, late = os.urandom(32), os.urandom(32)
    await provider.nodes.register(early, STAKE, 1)
    assert await owner.validators.grant(address_of(early)) is not None
    assert await owner.validators.grant(address_of(early)) is None
    other = await world.client()
    assert await owner.validators.grant(address_of(late)) is not None
    assert await owner.validators.weight_of(address_of(late)) == 0, "it is not registered yet"
    await other.nodes.register(late, 2 * STAKE, 1)
    assert await owner.validators.weight_of(address_of(late)) == 2 * STAKE
    assert await owner.validators.total_weight() == 3 * STAKE
    assert set(await owner.validators.addresses()) == {address_of(early), address_of(late)}
    second = await provider.nodes.register(os.urandom(32), STAKE, 1)
    with pytest.raises(Reverted) as twice:
        await owner.validators.grant(second.address)
    assert twice.value.name == "ProviderValidates"
    assert await owner.validators.revoke(address_of(early)) is not None
    assert await owner.validators.revoke(address_of(early)) is None
    assert not await owner.validators.is_admitted(address_of(early))
    assert await owner.validators.total_weight() == 2 * STAKE


async def test_a_blacklisted_provider_registers_nothing(world: World) -> None:
    owner, provider = await world.client(world.owner_key), await world.client()
    await provider.nodes.register(os.urandom(32), STAKE, 1)
    assert await owner.providers.is_backed(provider.address)
    assert await owner.providers.set_blacklisted(provider.address) is not None
    assert await owner.providers.set_blacklisted(provider.address) is None
    assert await owner.providers.is_blacklisted(provider.address)
    assert not await owner.providers.is_backed(provider.address)
    with pytest.raises(Reverted) as barred:
        await provider.nodes.register(os.urandom(32), STAKE, 1)
    assert barred.value.name == "ProviderBlacklisted"
    assert await owner.providers.set_blacklisted(provider.address, False) is not None
    await provider.nodes.register(os.urandom(32), STAKE, 1)


async def test_hardware_is_vouched_for_by_validators(world: World) -> None:
    owner, provider = await world.client(world.owner_key), await world.client()
    record = await provider.nodes.register(os.urandom(32), STAKE, 1)
    with pytest.raises(Reverted) as refused:
        await provider.nodes.set_validated(record.address)
    assert refused.value.name == "NotValidator"
    await owner.validators.grant(owner.address)
    assert await owner.nodes.set_validated(record.address) is not None
    assert await owner.nodes.set_validated(record.address) is None
    known = await provider.nodes.find(record.address)
    assert known is not None
    assert known.validated


async def test_pools_that_pay_for_time(world: World) -> None:
    owner, provider = await world.client(world.owner_key), await world.client()
    node = (await provider.nodes.register(os.urandom(32), STAKE, 3)).address
    with pytest.raises(Reverted) as rate:
        await owner.pools.create("fixed", strategy=Strategy.FIXED, rate=0)
    assert rate.value.name == "InvalidRate"
    fixed = await owner.pools.create("fixed", strategy=Strategy.FIXED, rate=TOKEN // 100)
    await owner.pools.fund(fixed, 100 * TOKEN)
    await owner.pools.start(fixed)
    funds = await owner.pools.funds(fixed)
    assert (funds.strategy, funds.settlement, funds.rate) == (Strategy.FIXED, None, TOKEN // 100)
    await provider.pools.join(fixed, node=node)
    await owner.rpc.request("evm_increaseTime", [100])
    assert await owner.pools.claim_time(fixed, provider.address) is not None
    seconds = await owner.pools.unit_seconds(fixed, provider.address)
    assert seconds >= 300
    assert (await owner.pools.funds(fixed)).paid == seconds * TOKEN // 100
    await provider.pools.leave(fixed, node=node)

    share = await owner.pools.create("share", strategy=Strategy.SHARE, rate=0)
    await owner.pools.fund(share, 30 * TOKEN)
    await owner.pools.start(share)
    await provider.pools.join(share, node=node)
    await owner.rpc.request("evm_increaseTime", [10])
    with pytest.raises(Reverted) as running:
        await owner.pools.claim_time(share, provider.address)
    assert running.value.name == "WrongStrategy", "shares are known at the end"
    await owner.pools.end(share)
    assert (await owner.pools.info(share)).state is PoolState.COMPLETED
    before = await owner.token_balance(provider.address)
    assert await owner.pools.claim_time(share, provider.address) is not None
    assert await owner.pools.claim_time(share, provider.address) is None
    assert await owner.token_balance(provider.address) == before + 30 * TOKEN
