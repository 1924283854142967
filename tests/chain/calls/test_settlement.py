"""Posting roots, knowing when they are final, and claiming, on every kind of chain."""

from __future__ import annotations

import time

import pytest
import trio

from chain.deployment.parameters import DeploymentParams
from chain.encoding.structs import NO_HASH
from chain.errors import InvalidInput, Reverted
from chain.events.reader import EventReader
from chain.events.settlement_events import RootPosted, RootVoided, read_event
from tests.chain.conftest import World
from tests.chain.epochs import BUDGET, LONG_WINDOWS, RATE, UNITS, WINDOW, forged, open_arena


@pytest.fixture
def params() -> DeploymentParams:
    return LONG_WINDOWS


@pytest.mark.each_chain
async def test_from_root_to_tokens(world: World) -> None:
    arena = await open_arena(world)
    owner, pool = arena.owner, arena.pool
    terms = await owner.settlement.terms()
    assert (terms.quorum, terms.challenge_window, terms.answer_window) == (
        6_666,
        WINDOW,
        3 * WINDOW,
    )

    epoch = arena.settle([arena.receipt(0), arena.receipt(0), arena.receipt(1), arena.receipt(1)])
    posted = arena.posted(epoch.root)
    assert await owner.settlement.root_hash(pool, 1) == NO_HASH
    assert await owner.settlement.find_posted(pool, 1) is None
    assert not await owner.settlement.is_final(pool, 1)
    with pytest.raises(Reverted) as refused:
        await owner.settlement.post_root(epoch.root, arena.sign(epoch.root, 1))
    assert refused.value.name == "QuorumNotMet"
    await arena.post(epoch.root)
    assert (
        await owner.settlement.post_root(epoch.root, list(reversed(arena.sign(epoch.root)))) is None
    )
    assert await owner.settlement.root_hash(pool, 1) == posted.hash(arena.domain)
    assert await owner.settlement.find_posted(pool, 1) == posted
    epochs = await owner.settlement.epochs_of(pool)
    assert (epochs.epoch, epochs.open_disputes) == (1, 0)
    assert epochs.total_payout == epoch.root.total_payout == 4 * UNITS * RATE
    assert (await owner.pools.funds(pool)).committed == epochs.total_payout

    await arena.pass_time(WINDOW)
    assert await owner.settlement.is_final(pool, 1)
    first, second = arena.claims(posted, epoch)
    account = arena.workers[0].client
    before = {w.account: await owner.token_balance(w.account) for w in arena.workers}
    paid = await account.settlement.claim(posted, first.account, first.cumulative, first.proof)
    assert paid is not None
    assert (
        await account.settlement.claim(posted, first.account, first.cumulative, first.proof) is None
    )
    with pytest.raises(Reverted) as unproven:
        await account.settlement.claim(posted, first.account, first.cumulative + 1, first.proof)
    assert unproven.value.name == "InvalidProof"
    assert len(await owner.settlement.claim_many([first, second])) == 1
    assert await owner.settlement.claim_many([first, second]) == []
    for worker in arena.workers:
        earned = await owner.token_balance(worker.account) - before[worker.account]
        assert earned == await owner.settlement.claimed(pool, worker.account) == 2 * UNITS * RATE

    # Payouts are cumulative: the second epoch pays the difference only.
    later = arena.settle([arena.receipt(1), arena.receipt(1)], epoch=2, earned=epoch.earned)
    again = await arena.post(later.root)
    assert await owner.settlement.is_final(pool, 1)
    assert not await owner.settlement.is_final(pool, 2)
    await arena.pass_time(WINDOW)
    assert len(await owner.settlement.claim_many(arena.claims(again, later))) == 1
    funds = await owner.pools.funds(pool)
    assert funds.paid == funds.committed == 6 * UNITS * RATE
    assert funds.available == BUDGET - funds.paid

    await owner.pools.end(pool)
    with pytest.raises(Reverted) as early:
        await owner.pools.reclaim(pool)
    assert early.value.name == "ReclaimTooEarly"
    await arena.pass_time(61)
    assert await owner.pools.reclaim(pool) is not None
    assert await owner.pools.reclaim(pool) is None
    funds = await owner.pools.funds(pool)
    assert (funds.funded, funds.available) == (funds.paid, 0)


async def test_a_root_that_was_voided_makes_room_for_another(world: World) -> None:
    arena = await open_arena(world, workers=2)
    owner, pool = arena.owner, arena.pool
    relayer = arena.workers[0].client
    epoch = arena.settle([arena.receipt(0), arena.receipt(1)])
    posted = await arena.post(epoch.root)
    # Another relayer, which collected the same signatures in another order, has nothing to do; with
    # another root it is told.
    assert await relayer.settlement.post_root(epoch.root, arena.sign(epoch.root)) is None
    other = arena.settle([arena.receipt(0), arena.receipt(1)])
    with pytest.raises(InvalidInput, match="another root"):
        await relayer.settlement.post_root(other.root, arena.sign(other.root))
    skipped = forged(other.root, epoch=3)
    with pytest.raises(InvalidInput, match="the next is 2"):
        await relayer.settlement.post_root(skipped, arena.sign(skipped))

    with pytest.raises(Reverted) as stranger:
        await relayer.disputes.cancel_root(posted)
    assert stranger.value.name == "AccessManagedUnauthorized"
    assert await owner.disputes.cancel_root(posted) is not None
    assert await owner.disputes.cancel_root(posted) is None
    assert (await owner.settlement.epochs_of(pool)).epoch == 0
    assert not await owner.settlement.is_final(pool, 1)
    with pytest.raises(Reverted) as voided:
        await owner.settlement.post_root(epoch.root, arena.sign(epoch.root))
    assert voided.value.name == "RootWasVoided"
    assert await owner.settlement.post_root(other.root, arena.sign(other.root)) is not None
    assert await owner.settlement.find_posted(pool, 1) == arena.posted(other.root)

    reader = EventReader(
        owner.rpc, world.deployment, owner.database, "settlement", ["ReceiptSettlement"]
    )
    batch = await reader.read()
    assert batch is not None
    found = [event for event in map(read_event, batch.events) if event is not None]
    assert [type(event) for event in found] == [RootPosted, RootVoided, RootPosted]
    assert isinstance(found[0], RootPosted)
    assert found[0].posted == posted
    assert found[1] == RootVoided(pool, 1)


async def test_one_claim_made_meanwhile_does_not_spoil_the_batch(world: World) -> None:
    arena = await open_arena(world)
    epoch = arena.settle([arena.receipt(0), arena.receipt(1)])
    posted = await arena.post(epoch.root)
    await arena.pass_time(WINDOW)
    first, second = arena.claims(posted, epoch)
    owner, rival = arena.owner, arena.workers[0].client

    class Late:
        """Answers as the chain did before `rival` claimed, once."""

        def __init__(self) -> None:
            self._read = owner.caller.read
            self._left = 1

        async def __call__(self, contract: str, function: str, *args: object) -> object:
            answer = await self._read(contract, function, *args)
            if function == "claimed" and args[1] == first.account and self._left:
                self._left = 0
                await rival.settlement.claim(posted, first.account, first.cumulative, first.proof)
            return answer

    owner.caller.read = Late()  # type: ignore[method-assign]
    results = await owner.settlement.claim_many([first, second])
    assert len(results) == 1
    assert await owner.settlement.claimed(arena.pool, second.account) == second.cumulative


async def test_more_claims_than_fit_one_transaction(world: World) -> None:
    arena = await open_arena(world, validators=1, workers=3)
    epoch = arena.settle([arena.receipt(0), arena.receipt(1), arena.receipt(2)])
    posted = await arena.post(epoch.root)
    await arena.pass_time(WINDOW)
    claims = arena.claims(posted, epoch)
    assert len(await arena.owner.settlement.claim_many(claims, gas_each=6_000_000)) == 2
    assert await arena.owner.settlement.claim_many(claims) == []
    for claim in claims:
        assert await arena.owner.settlement.claimed(arena.pool, claim.account) == claim.cumulative


class TestAtDevelopmentSpeed:
    """With the windows that a development chain has."""

    @pytest.fixture
    def params(self) -> DeploymentParams:
        return DeploymentParams()

    @pytest.mark.each_chain
    async def test_the_window_ends_though_nobody_makes_a_block(self, world: World) -> None:
        arena = await open_arena(world, validators=1, workers=1)
        receipt = arena.receipt(0, countersigned_by=world.owner_key)
        epoch = arena.settle([receipt])
        posted = await arena.post(epoch.root)
        blocks = await arena.owner.rpc.block_number()
        claimable_at = (await arena.owner.settlement.epochs_of(arena.pool)).claimable_at
        await trio.sleep(max(0, claimable_at - time.time()) + 0.05)
        assert await arena.owner.rpc.block_number() == blocks
        assert await arena.owner.settlement.is_final(arena.pool, 1)
        assert len(await arena.owner.settlement.claim_many(arena.claims(posted, epoch))) == 1
