"""Questions about roots, right answers, wrong roots, and what they cost; on every kind of chain."""

from __future__ import annotations

import os

import pytest

from chain.deployment.parameters import DeploymentParams
from chain.encoding.structs import DisputeKind
from chain.errors import Reverted
from chain.events.reader import EventReader
from chain.events.settlement_events import DisputeClosed, DisputeOpened, DisputeOutcome, read_event
from proofs.encoding.leaves import PostedRoot, ProvenPayout, SignedReceipt
from proofs.encoding.merkle import MerkleTree, payout_leaf
from proofs.encoding.receipts import Conviction
from proofs.settlement.epoch_data import Epoch
from tests.chain.conftest import World
from tests.chain.epochs import (
    LONG_WINDOWS,
    RATE,
    STAKE,
    TOKEN,
    UNITS,
    WINDOW,
    Arena,
    forged,
    open_arena,
)

BOND = TOKEN


@pytest.fixture
def params() -> DeploymentParams:
    return LONG_WINDOWS


async def first_epoch(arena: Arena) -> tuple[Epoch, PostedRoot]:
    """Five receipts, the odd number so that leaves differ in depth, posted."""
    epoch = arena.settle([arena.receipt(worker) for worker in (0, 0, 0, 1, 1)])
    return epoch, await arena.post(epoch.root)


async def answer_receipt(arena: Arena, dispute: int, epoch: Epoch, index: int) -> object:
    before = epoch.leaf(index - 1) if index else None
    posted, signed = arena.posted(epoch.root), epoch.data.receipts[index].signed
    return await arena.validators[0].client.disputes.answer_receipt(
        dispute, posted, epoch.leaf(index), before, signed
    )


async def test_a_right_root_answers_every_question(world: World) -> None:
    arena = await open_arena(world)
    owner, answerer = arena.owner, arena.validators[0].client
    challenger = arena.workers[0].client
    epoch, posted = await first_epoch(arena)
    held, earned = (
        await challenger.token_balance(challenger.address),
        await challenger.token_balance(answerer.address),
    )
    account = arena.workers[1].account
    payout = epoch.payout(account)
    assert payout is not None

    ids = [await challenger.disputes.dispute_receipt(posted, index) for index in (0, 4)]
    ids.append(await challenger.disputes.dispute_payout(posted, account, payout))
    ids.append(await challenger.disputes.dispute_omission(posted, None, account, None))
    assert ids == [1, 2, 3, 4]
    assert await challenger.disputes.dispute_receipt(posted, 0) == 1, "a question is asked once"
    assert await challenger.token_balance(challenger.address) == held - 4 * BOND
    asked = await owner.disputes.find(3)
    assert asked is not None
    assert (asked.kind, asked.account) == (DisputeKind.PAYOUT, account)
    assert asked.amount == 2 * UNITS * RATE
    assert asked.root == posted.hash(arena.domain)
    await arena.pass_time(WINDOW)
    assert (await owner.settlement.epochs_of(arena.pool)).open_disputes == 4
    assert not await owner.settlement.is_final(arena.pool, 1), "open questions hold it up"

    with pytest.raises(Reverted) as wrong:
        await answer_receipt(arena, 1, epoch, 1)
    assert (wrong.value.name, wrong.value.args_) == ("InvalidAnswer", ("index",))
    for dispute, index in ((1, 0), (2, 4)):
        assert await answer_receipt(arena, dispute, epoch, index) is not None
        assert await answer_receipt(arena, dispute, epoch, index) is None
    answer = epoch.answer(account, None)
    assert answer is not None
    for dispute in (3, 4):
        assert await answerer.disputes.answer_payout(dispute, posted, None, answer) is not None
        assert await owner.disputes.find(dispute) is None
    assert await challenger.disputes.uphold(4, posted) is None
    assert await owner.settlement.is_final(arena.pool, 1)
    assert await challenger.token_balance(answerer.address) == earned + 4 * (BOND // 2)

    # The second epoch's payouts stand on the first one's.
    later = arena.settle([arena.receipt(1), arena.receipt(1)], epoch=2, earned=epoch.earned)
    again = await arena.post(later.root)
    idle = arena.workers[0].account
    ground = epoch.payout(idle)
    assert ground is not None
    fifth = await challenger.disputes.dispute_omission(again, posted, idle, ground)
    answer = later.answer(idle, epoch)
    assert answer is not None
    assert await answerer.disputes.answer_payout(fifth, again, posted, answer) is not None


@pytest.mark.each_chain
async def test_a_root_that_nobody_can_answer_for_is_void(world: World) -> None:
    arena = await open_arena(world)
    owner, challenger = arena.owner, arena.workers[0].client
    true = arena.settle([arena.receipt(0), arena.receipt(1)])
    thief = arena.workers[1].account
    taken = MerkleTree.of([payout_leaf(thief, true.root.total_payout)])
    root = forged(true.root, payouts_root=taken.root)
    posted = await arena.post(root)
    first = await challenger.disputes.dispute_payout(
        posted, thief, ProvenPayout(true.root.total_payout, taken.proof(0))
    )
    second = await challenger.disputes.dispute_omission(posted, None, challenger.address, None)
    with pytest.raises(Reverted) as early:
        await challenger.disputes.uphold(first, posted)
    assert early.value.name == "AnswerTooEarly"
    answer = true.answer(thief, None)
    assert answer is not None
    with pytest.raises(Reverted) as unproven:
        await owner.disputes.answer_payout(first, posted, None, answer)
    assert unproven.value.name == "InvalidAnswer"

    await arena.pass_time(3 * WINDOW + 1)
    before = await challenger.token_balance(challenger.address)
    assert await challenger.disputes.uphold(first, posted) is not None
    assert await challenger.disputes.uphold(first, posted) is None
    slashed = len(arena.validators) * STAKE // 2
    bounty = slashed * 2_000 // 10_000
    assert await challenger.token_balance(challenger.address) == before + BOND + bounty
    for validator in arena.validators:
        status = await owner.providers.stake_status(validator.account)
        assert (status.active, status.slashable) == (STAKE // 2, 0)
    assert await owner.validators.total_weight() == len(arena.validators) * STAKE // 2
    # The other question has lost its object: it cannot be answered, and the bond goes back.
    assert await owner.disputes.answer_payout(second, posted, None, answer) is None
    assert await challenger.disputes.uphold(second, posted) is not None
    assert await challenger.token_balance(challenger.address) == before + 2 * BOND + bounty
    assert await owner.settlement.root_hash(arena.pool, 1) == bytes(32)
    assert await owner.settlement.post_root(true.root, arena.sign(true.root)) is not None

    reader = EventReader(
        owner.rpc, world.deployment, owner.database, "settlement", ["ReceiptSettlement"]
    )
    batch = await reader.read()
    assert batch is not None
    found = [read_event(event) for event in batch.events]
    opened = [event for event in found if isinstance(event, DisputeOpened)]
    assert [event.dispute_id for event in opened] == [first, second]
    assert opened[0].dispute.kind is DisputeKind.PAYOUT
    closed = [event for event in found if isinstance(event, DisputeClosed)]
    assert closed == [
        DisputeClosed(first, DisputeOutcome.UPHELD),
        DisputeClosed(second, DisputeOutcome.MOOT),
    ]


async def test_work_counted_again_proves_itself(world: World) -> None:
    arena = await open_arena(world)
    challenger = arena.workers[0].client
    job = os.urandom(32)
    epoch = arena.settle([arena.receipt(0, job=job), arena.receipt(1)])
    posted = await arena.post(epoch.root)
    await arena.pass_time(WINDOW)
    # A new receipt for the same stage of the same unit, in the epoch after.
    later = arena.settle(
        [arena.receipt(0, job=job, epoch=2), arena.receipt(1, epoch=2)],
        epoch=2,
        earned=epoch.earned,
    )
    again = await arena.post(later.root)

    def places(made: Epoch) -> tuple[int, SignedReceipt]:
        index = next(i for i, (unit, _) in enumerate(made.work) if unit == job)
        return index, made.data.receipts[index].signed

    here, signed_here = places(later)
    there, signed_there = places(epoch)
    innocent = 1 - there
    with pytest.raises(Reverted) as unlike:
        await challenger.disputes.prove_double_count(
            again,
            later.leaf(here),
            signed_here.receipt,
            posted,
            epoch.leaf(innocent),
            epoch.data.receipts[innocent].signed.receipt,
        )
    assert unlike.value.name == "NotDoubleCounted"
    proof = (
        again,
        later.leaf(here),
        signed_here.receipt,
        posted,
        epoch.leaf(there),
        signed_there.receipt,
    )
    assert await challenger.disputes.prove_double_count(*proof) is not None
    assert await challenger.disputes.prove_double_count(*proof) is None
    assert (await challenger.settlement.epochs_of(arena.pool)).epoch == 1
    assert await challenger.settlement.is_final(arena.pool, 1)
    assert await challenger.providers.stake_of(arena.validators[0].account) == STAKE // 2


async def test_a_quorum_convicts_once(world: World) -> None:
    arena = await open_arena(world)
    owner, cheat = arena.owner, arena.workers[0]
    conviction = Conviction(
        pool_id=arena.pool, node=cheat.node, job_id=os.urandom(32), evidence=os.urandom(32)
    )
    signatures = [
        (v.node, conviction.sign(v.node_key, arena.domain)) for v in reversed(arena.validators)
    ]
    with pytest.raises(Reverted) as few:
        await owner.settlement.convict(conviction, signatures[:1])
    assert few.value.name == "QuorumNotMet"
    assert await owner.settlement.convict(conviction, signatures) is not None
    assert await owner.settlement.convict(conviction, signatures) is None
    assert await cheat.client.settlement.convict(conviction, signatures) is None
    assert await owner.providers.stake_of(cheat.account) == STAKE * 9 // 10
