"""`ChainClient` on the embedded chain and its stand-in: pools, members, validators, blocks."""

from __future__ import annotations

import os
import time

import pytest

from chain.encoding.views import PoolState
from chain.errors import Reverted
from proofs.encoding.signing import ZERO_ADDRESS, address_of
from tests.chain.epochs import RATE, STAKE, WINDOW
from tests.conformance.conftest import Ground


async def test_a_pool_and_one_that_is_not_there(ground: Ground) -> None:
    owner, pool_id = ground.owner, ground.arena.pool
    pool = await owner.pools.info(pool_id)
    assert (pool.pool_id, pool.creator, pool.inviter) == (pool_id, owner.address, None)
    assert (pool.state, pool.member_count) == (PoolState.ACTIVE, 2)
    settlement = owner.domain("ReceiptSettlement").verifying_contract
    assert pool.settlement == settlement
    nobodys = await owner.pools.info(99)
    assert (nobodys.creator, nobodys.inviter) == (ZERO_ADDRESS, None)
    assert (nobodys.state, nobodys.uri) == (PoolState.NONE, "")
    funds = await owner.pools.funds(pool_id)
    assert (funds.rate, funds.paid, funds.committed) == (RATE, 0, 0)
    assert funds.available == funds.funded > 0
    assert funds.settlement == settlement


async def test_members_come_and_go(ground: Ground) -> None:
    pool_id, worker = ground.arena.pool, ground.arena.workers[0]
    assert await ground.owner.pools.is_member(pool_id, worker.node)
    assert not await ground.owner.pools.is_member(pool_id, ground.arena.validators[0].node)
    assert await worker.client.pools.join(pool_id, node=worker.node) is None
    assert await worker.client.pools.current(node=worker.node) == pool_id
    assert await worker.client.pools.leave(pool_id, node=worker.node) is not None
    assert await worker.client.pools.current(node=worker.node) is None
    assert await worker.client.pools.leave(pool_id, node=worker.node) is None
    assert not await ground.owner.pools.is_member(pool_id, worker.node)
    joined = await worker.client.pools.join(pool_id, node=worker.node)
    assert joined is not None
    assert joined.status
    assert await ground.owner.pools.is_member(pool_id, worker.node)


async def test_only_the_invited_join_and_the_ejected_stay_out(ground: Ground) -> None:
    pool_id, worker = await ground.invited_pool(), ground.arena.workers[0]
    owner, node, now = ground.owner, worker.node, int(time.time())
    assert (await owner.pools.info(pool_id)).inviter == owner.address
    await worker.client.pools.leave(ground.arena.pool, node=node)

    async def refusal(signature: bytes, deadline: int) -> str:
        with pytest.raises(Reverted) as caught:
            await worker.client.pools.join(pool_id, signature, deadline, node=node)
        return caught.value.name

    late, soon = now - 60, now + 600
    digest = await owner.pools.invite_digest(pool_id, node, soon)
    assert digest == await worker.client.pools.invite_digest(pool_id, node, soon)
    assert (
        await refusal(await owner.pools.sign_invite(pool_id, node, late), late) == "InviteExpired"
    )
    own = await worker.client.pools.sign_invite(pool_id, node, soon)
    assert await refusal(own, soon) == "InvalidInvite"
    another = ground.arena.workers[1].node
    theirs = await owner.pools.sign_invite(pool_id, another, soon)
    assert await refusal(theirs, soon) == "InvalidInvite"

    invite = await owner.pools.sign_invite(pool_id, node, soon)
    assert await worker.client.pools.join(pool_id, invite, soon, node=node) is not None
    assert await worker.client.pools.join(pool_id, invite, soon, node=node) is None
    assert await owner.pools.invite_digest(pool_id, node, soon) != digest, "an invite serves once"
    with pytest.raises(Reverted) as stranger:
        await worker.client.pools.eject(pool_id, node)
    assert stranger.value.name == "NotCreator"
    assert await owner.pools.eject(pool_id, node) is not None
    assert await owner.pools.eject(pool_id, node) is None
    assert not await owner.pools.is_member(pool_id, node)
    again = await owner.pools.sign_invite(pool_id, node, soon)
    assert await refusal(again, soon) == "NodeEjected"


async def test_validators_owners_and_terms(ground: Ground) -> None:
    owner, arena = ground.owner, ground.arena
    nodes = {validator.node for validator in arena.validators}
    assert set(await owner.validators.addresses()) == nodes
    stranger = address_of(os.urandom(32))
    for node in nodes:
        assert await owner.validators.is_admitted(node)
        assert await owner.validators.weight_of(node) == STAKE
    for node in (stranger, arena.workers[0].node):
        assert not await owner.validators.is_admitted(node)
        assert await owner.validators.weight_of(node) == 0
    assert await owner.validators.total_weight() == 3 * STAKE
    assert await owner.nodes.owners_of([*arena.owners, stranger]) == arena.owners
    worker = arena.workers[0]
    assert await owner.nodes.owner_of(worker.node) == worker.account
    assert await owner.nodes.owner_of(stranger) is None
    terms = await owner.settlement.terms()
    assert (terms.quorum, terms.challenge_window) == (6_666, WINDOW)
    assert terms.answer_window > 0
    assert terms.bond > 0


async def test_blocks_are_numbered_up_to_a_head(ground: Ground) -> None:
    owner = ground.owner
    head = await owner.rpc.block("latest")
    assert head is not None
    assert abs(head.timestamp - time.time()) < WINDOW
    assert await owner.rpc.block(head.number) == head
    assert await owner.block_hash(head.number) == head.hash
    assert await owner.rpc.block(head.number + 1_000) is None
    assert await owner.block_hash(head.number + 1_000) is None
    assert await owner.rpc.tip() >= 0
    assert await owner.settlement.conviction_loss(ground.arena.workers[0].account) >= 0
