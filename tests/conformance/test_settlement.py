"""`ChainClient` on the embedded chain and its stand-in: roots, claims, disputes, convictions."""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio

from chain.calls.settlement import Claim
from chain.errors import InvalidInput, Reverted
from chain.events.settlement_events import DisputeOpened, RootPosted, read_event
from proofs.encoding.leaves import PostedRoot, SignedReceipt
from proofs.encoding.receipts import Conviction, EpochRoot
from proofs.settlement.epoch_data import Epoch
from tests.chain.epochs import RATE, UNITS, WINDOW, Arena, forged
from tests.conformance.conftest import Ground

NO_HASH = bytes(32)


async def refusal(arena: Arena, root: EpochRoot, signatures: Any = None) -> str:
    """The error that posting this root meets."""
    with pytest.raises(Reverted) as caught:
        await arena.owner.settlement.post_root(root, signatures or arena.sign(root))
    return caught.value.name


async def test_a_root_stands_when_a_quorum_signed_what_follows(ground: Ground) -> None:
    arena, owner, pool = ground.arena, ground.owner, ground.arena.pool
    epoch = arena.settle([arena.receipt(0), arena.receipt(1)])
    root, posted = epoch.root, arena.posted(epoch.root)
    assert await owner.settlement.root_hash(pool, 1) == NO_HASH
    assert not await owner.settlement.is_final(pool, 1)
    assert not await owner.settlement.is_final(pool, 0)
    assert await refusal(arena, root, arena.sign(root, 1)) == "QuorumNotMet"
    stranger = arena.workers[0]
    foreign = (stranger.node, root.sign(stranger.node_key, arena.domain))
    assert await refusal(arena, root, [foreign]) == "NotValidator"
    greedy = forged(root, rate=2 * RATE)
    assert await refusal(arena, greedy) == "WrongRate"
    inflated = forged(root, total_payout=root.total_payout + 1)
    assert await refusal(arena, inflated) == "WrongTotalPayout"
    skipped = forged(root, epoch=3)
    with pytest.raises(InvalidInput, match="the next is 1"):
        await owner.settlement.post_root(skipped, arena.sign(skipped))

    result = await owner.settlement.post_root(root, arena.sign(root))
    assert result is not None
    assert (len(result.hash), result.status) == (32, True)
    assert await owner.settlement.post_root(root, list(reversed(arena.sign(root)))) is None
    assert await owner.settlement.root_hash(pool, 1) == posted.hash(arena.domain)
    epochs = await owner.settlement.epochs_of(pool)
    assert (epochs.epoch, epochs.open_disputes) == (1, 0)
    assert epochs.total_payout == root.total_payout == 2 * UNITS * RATE
    assert (await owner.pools.funds(pool)).committed == root.total_payout
    other = arena.settle([arena.receipt(0), arena.receipt(1)])
    with pytest.raises(InvalidInput, match="another root"):
        await owner.settlement.post_root(other.root, arena.sign(other.root))


async def test_a_root_is_final_when_its_window_is_over_or_another_follows(ground: Ground) -> None:
    arena, owner, pool = ground.arena, ground.owner, ground.arena.pool
    first = arena.settle([arena.receipt(0)])
    await arena.post(first.root)
    second = arena.settle([arena.receipt(1)], epoch=2, earned=first.earned)
    assert not await owner.settlement.is_final(pool, 1)
    assert await refusal(arena, second.root) == "RootNotFinal"
    await arena.pass_time(WINDOW)
    assert await owner.settlement.is_final(pool, 1)
    await arena.post(second.root)
    assert await owner.settlement.is_final(pool, 1)
    assert not await owner.settlement.is_final(pool, 2)
    assert not await owner.settlement.is_final(pool, 3)


async def test_claims_are_paid_once_and_up_to_what_the_root_says(ground: Ground) -> None:
    arena, owner, pool = ground.arena, ground.owner, ground.arena.pool
    epoch = arena.settle([arena.receipt(0), arena.receipt(1)])
    posted = await arena.post(epoch.root)
    first, second = arena.claims(posted, epoch)

    async def refused(claim: Claim) -> str:
        with pytest.raises(Reverted) as caught:
            await owner.settlement.claim_many([claim])
        return caught.value.name

    assert await refused(first) == "RootNotFinal"
    await arena.pass_time(WINDOW)
    more = Claim(posted, first.account, first.cumulative + 1, first.proof)
    assert await refused(more) == "InvalidProof"
    never = PostedRoot(forged(posted.root, data_hash=os.urandom(32)), posted.signers)
    assert (
        await refused(Claim(never, first.account, first.cumulative, first.proof)) == "UnknownRoot"
    )
    assert await owner.settlement.claimed(pool, first.account) == 0
    assert len(await owner.settlement.claim_many([first])) == 1
    assert await owner.settlement.claimed(pool, first.account) == first.cumulative == UNITS * RATE
    assert len(await owner.settlement.claim_many([first, second])) == 1
    assert await owner.settlement.claimed(pool, second.account) == second.cumulative
    assert await owner.settlement.claim_many([first, second]) == []
    assert (await owner.pools.funds(pool)).paid == 2 * UNITS * RATE


async def test_a_question_keeps_a_root_from_being_final(ground: Ground) -> None:
    arena, owner, pool = ground.arena, ground.owner, ground.arena.pool
    challenger = arena.workers[0].client
    epoch = arena.settle([arena.receipt(0), arena.receipt(1)])
    posted = await arena.post(epoch.root)
    assert await owner.disputes.find(1) is None
    number = await challenger.disputes.dispute_receipt(posted, 1)
    assert await challenger.disputes.dispute_receipt(posted, 1) == number, (
        "a question is asked once"
    )
    asked = await owner.disputes.find(number)
    assert asked is not None
    assert (asked.challenger, asked.pool_id, asked.epoch) == (challenger.address, pool, 1)
    assert (asked.root, asked.subject) == (posted.hash(arena.domain), 1)
    with pytest.raises(Reverted) as beyond:
        await challenger.disputes.dispute_receipt(posted, 2)
    assert beyond.value.name == "NoSuchLeaf"
    await arena.pass_time(WINDOW)
    assert (await owner.settlement.epochs_of(pool)).open_disputes == 1
    assert not await owner.settlement.is_final(pool, 1)


async def test_work_counted_twice_voids_a_root_for_good(ground: Ground) -> None:
    arena, owner, pool = ground.arena, ground.owner, ground.arena.pool
    challenger, job = arena.workers[0].client, os.urandom(32)
    epoch = arena.settle([arena.receipt(0, job=job), arena.receipt(1)])
    posted = await arena.post(epoch.root)
    await arena.pass_time(WINDOW)
    later = arena.settle(
        [arena.receipt(0, job=job, epoch=2), arena.receipt(1, epoch=2)],
        epoch=2,
        earned=epoch.earned,
    )
    again = await arena.post(later.root)

    def leaf(made: Epoch) -> tuple[int, SignedReceipt]:
        index = next(i for i, (unit, _) in enumerate(made.work) if unit == job)
        return index, made.data.receipts[index].signed

    here, signed = leaf(later)
    there, other = leaf(epoch)
    shown = (again, later.leaf(here), signed.receipt, posted)
    innocent = epoch.data.receipts[1 - there].signed.receipt
    with pytest.raises(Reverted) as unlike:
        await challenger.disputes.prove_double_count(*shown, epoch.leaf(1 - there), innocent)
    assert unlike.value.name == "NotDoubleCounted"
    proof = (*shown, epoch.leaf(there), other.receipt)
    assert await challenger.disputes.prove_double_count(*proof) is not None
    assert await challenger.disputes.prove_double_count(*proof) is None
    assert await owner.settlement.root_hash(pool, 2) == NO_HASH
    assert (await owner.settlement.epochs_of(pool)).epoch == 1
    assert await owner.settlement.is_final(pool, 1)
    assert await refusal(arena, later.root) == "RootWasVoided"
    with pytest.raises(Reverted) as gone:
        await challenger.disputes.dispute_receipt(again, 0)
    assert gone.value.name == "UnknownRoot"


async def test_events_tell_it_all_in_order(ground: Ground) -> None:
    arena, challenger = ground.arena, ground.arena.workers[0].client
    first = arena.settle([arena.receipt(0)])
    posted = await arena.post(first.root)
    number = await challenger.disputes.dispute_receipt(posted, 0)
    found: list[Any] = []
    last = 0
    with trio.fail_after(60):
        async for batch in ground.reader.batches():
            assert batch.void_after is None
            assert batch.last.number >= last
            last = batch.last.number
            assert all(event.block_number <= last for event in batch.events)
            found += [event for event in map(read_event, batch.events) if event is not None]
            if len(found) >= 2:
                break
    root_posted, opened = found
    assert isinstance(root_posted, RootPosted)
    assert root_posted.posted == posted
    assert (
        root_posted.claimable_at
        == (await arena.owner.settlement.epochs_of(arena.pool)).claimable_at
    )
    assert opened == DisputeOpened(number, await arena.owner.disputes.find(number))


async def test_a_quorum_convicts_once(ground: Ground) -> None:
    arena, owner, cheat = ground.arena, ground.owner, ground.arena.workers[0]
    conviction = Conviction(
        pool_id=arena.pool, node=cheat.node, job_id=os.urandom(32), evidence=os.urandom(32)
    )

    def signed(what: Conviction) -> list[tuple[str, bytes]]:
        return [(v.node, what.sign(v.node_key, arena.domain)) for v in arena.validators]

    with pytest.raises(Reverted) as few:
        await owner.settlement.convict(conviction, signed(conviction)[:1])
    assert few.value.name == "QuorumNotMet"
    assert await owner.settlement.convict(conviction, signed(conviction)) is not None
    assert await owner.settlement.convict(conviction, signed(conviction)) is None
    other = conviction.model_copy(update={"evidence": os.urandom(32)})
    assert await cheat.client.settlement.convict(other, signed(other)) is None, (
        "whatever the evidence"
    )
