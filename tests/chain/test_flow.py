"""The whole way of a token: deploy, register, pool, join, settle, claim, on every kind of chain."""

from __future__ import annotations

import os
import time

import pytest

from chain.deployment import DeploymentParams
from chain.errors import InvalidInput, Reverted
from chain.views import PoolState
from proofs.merkle import MerkleTree, payout_leaf
from proofs.receipts import EpochRoot
from proofs.signing import address_of
from tests.chain.conftest import World

TOKEN = 10**18
STAKE = 100 * TOKEN


def _root(pool: int, epoch: int, payouts: dict[str, int]) -> tuple[EpochRoot, MerkleTree]:
    tree = MerkleTree.of([payout_leaf(account, amount) for account, amount in payouts.items()])
    root = EpochRoot(
        pool_id=pool,
        epoch=epoch,
        receipts_root=os.urandom(32),
        payouts_root=tree.root,
        total_payout=sum(payouts.values()),
        data_hash=os.urandom(32),
    )
    return root, tree


async def test_work_is_paid(world: World) -> None:
    owner = await world.client(world.owner_key)
    provider_key, node_key, validator_key = os.urandom(32), os.urandom(32), os.urandom(32)
    provider = await world.client(provider_key)
    node = await world.client(node_key)

    record = await provider.ensure_registered(provider_key, node_key, STAKE, 4, "tcp://here")
    assert (record.provider, record.compute_units) == (provider.address, 4)
    assert await node.stake_of(provider.address) == STAKE
    assert await provider.ensure_registered(provider_key, node_key, STAKE, 4) == record
    assert await node.token_balance(provider.address) == 10_000 * TOKEN - STAKE
    await provider.ensure_registered(provider_key, node_key, 2 * STAKE, 4)
    assert await node.stake_of(provider.address) == 2 * STAKE

    pool = await owner.create_pool("smol", inviter=owner.address)
    assert await owner.create_pool("smol", inviter=owner.address) == pool
    for _ in range(2):
        await owner.fund_pool(pool, 1_000 * TOKEN)
    assert (await owner.pool_funds(pool)).funded == 1_000 * TOKEN
    assert await owner.start_pool(pool) is not None
    assert await owner.start_pool(pool) is None
    assert (await owner.pool(pool)).state is PoolState.ACTIVE

    deadline = int(time.time()) + 600
    with pytest.raises(Reverted) as refused:
        await node.join_pool(pool, b"\x01" * 65, deadline)
    assert refused.value.name == "InvalidInvite"
    invite = await owner.sign_invite(pool, node.address, deadline)
    await node.join_pool(pool, invite, deadline)
    assert await node.join_pool(pool, invite, deadline) is None
    assert await owner.is_member(pool, node.address)

    assert await owner.grant_validator(address_of(validator_key)) is not None
    assert await owner.grant_validator(address_of(validator_key)) is None
    payouts = {node.address: 30 * TOKEN, provider.address: 12 * TOKEN}
    root, tree = _root(pool, 1, payouts)
    domain = owner.domain("ReceiptSettlement")
    signatures = [(address_of(validator_key), root.sign(validator_key, domain))]
    assert await owner.post_root(root, signatures) is not None
    assert await owner.post_root(root, signatures) is None
    posted = await node.latest_root(pool)
    assert posted is not None
    assert posted.payouts_root == tree.root

    before = await node.token_balance(node.address)
    await node.claim(pool, node.address, 30 * TOKEN, tree.proof(0))
    assert await node.claim(pool, node.address, 30 * TOKEN, tree.proof(0)) is None
    assert await node.token_balance(node.address) == before + 30 * TOKEN
    assert await node.claimed(pool, node.address) == 30 * TOKEN
    with pytest.raises(Reverted) as unproven:
        await node.claim(pool, node.address, 31 * TOKEN, tree.proof(0))
    assert unproven.value.name == "InvalidProof"

    # Payouts are cumulative: the second epoch pays the difference only.
    root, tree = _root(pool, 2, {node.address: 50 * TOKEN, provider.address: 12 * TOKEN})
    await owner.post_root(root, [(address_of(validator_key), root.sign(validator_key, domain))])
    await owner.claim(pool, node.address, 50 * TOKEN, tree.proof(0))
    assert await node.token_balance(node.address) == before + 50 * TOKEN

    assert await node.leave_pool(pool) is not None
    assert await node.leave_pool(pool) is None
    record_after = await node.node(node.address)
    assert record_after is not None
    assert record_after.pool_id is None


async def test_a_different_root_for_a_settled_epoch_is_noticed(world: World) -> None:
    owner = await world.client(world.owner_key)
    validator = os.urandom(32)
    await owner.grant_validator(address_of(validator))
    pool = await owner.create_pool("p")
    await owner.fund_pool(pool, 100)
    await owner.start_pool(pool)
    domain = owner.domain("ReceiptSettlement")
    first, _ = _root(pool, 1, {owner.address: 1, address_of(validator): 2})
    await owner.post_root(first, [(address_of(validator), first.sign(validator, domain))])
    other, _ = _root(pool, 1, {owner.address: 2, address_of(validator): 1})
    with pytest.raises(InvalidInput, match="another root"):
        await owner.post_root(other, [(address_of(validator), other.sign(validator, domain))])


async def test_a_node_of_another_provider_is_refused(world: World) -> None:
    first, second, node = os.urandom(32), os.urandom(32), os.urandom(32)
    await (await world.client(first)).ensure_registered(first, node, STAKE, 1)
    client = await world.client(second)
    with pytest.raises(InvalidInput, match="belongs to provider"):
        await client.ensure_registered(second, node, STAKE, 1)


async def test_a_node_may_register_itself_through_its_provider_key(world: World) -> None:
    node_key, provider_key = os.urandom(32), os.urandom(32)
    await world.client(provider_key)  # only to fund it
    node = await world.client(node_key)
    await node.ensure_registered(node_key, node_key, STAKE, 1)
    record = await node.node(node.address)
    assert record is not None
    assert record.provider == node.address


async def test_too_little_money_is_said_before_anything_is_sent(world: World) -> None:
    key = os.urandom(32)
    client = await world.client(key)
    with pytest.raises(InvalidInput, match="fund it first"):
        await client.ensure_registered(key, os.urandom(32), 20_000 * TOKEN, 1)
    with pytest.raises(Reverted) as refused:
        await client.create_pool("x" * 65)
    assert refused.value.name == "TextTooLong"
    assert DeploymentParams().base_stake < STAKE
