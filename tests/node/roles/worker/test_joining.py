"""A worker that is invited: by pools that use it, by pools that play with it, and until it dies."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from node.roles.worker.journal_events import PoolJoined
from node.roles.worker.membership import MAX_WEIGHED
from node.roles.worker.policy.engagement import Patience
from node.roles.worker.policy.gas import DAY
from node.roles.worker.pools import JOIN_GAS, LEAVE_GAS
from p2p.errors import Refused
from tests.node.roles.worker.joining import GAS_PRICE, MODEL, FakeChain, Fate, Killed, Seat, seated

NODE = "0x" + "1" * 40


async def refused(seat: Seat, pool_id: int) -> str:
    try:
        await seat.invite(pool_id)
    except Refused as exc:
        return exc.code
    return ""


async def test_a_pool_that_only_pings_keeps_a_worker_for_five_minutes(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with seated(tmp_path) as seat:
        await seat.invite(1)
        refusals = 0
        while refusals < 24 * 60:
            mock_clock.jump(60)
            seat.ping(1)
            if not await refused(seat, 2):
                break
            refusals += 1
        assert refusals == 4
        assert seat.membership.pool is not None
        assert seat.membership.pool.pool_id == 2
        assert await refused(seat, 1) == "taken"


@pytest.mark.parametrize("wait", [0.0, 20.0])
async def test_two_pools_of_one_owner_cannot_make_it_pay_for_ever(
    tmp_path: Path, mock_clock: trio.testing.MockClock, wait: float
) -> None:
    """500 invites used to cost 999 transactions."""
    chain = FakeChain(NODE, owners={2: 1})
    async with seated(tmp_path, chain) as seat:
        for number in range(500):
            mock_clock.jump(wait)
            await refused(seat, 1 + number % 2)
        assert len(seat.chain.sent) <= 25
        assert seat.purse.refuses(0) is None


async def test_another_pool_of_the_same_owner_is_another_pool(tmp_path: Path) -> None:
    async with seated(tmp_path, FakeChain(NODE, owners={2: 1})) as seat:
        await seat.invite(1)
        assert await refused(seat, 2) == "taken"
        assert await refused(seat, 1) == ""
        assert seat.chain.sent == ["join/1"]


async def test_gas_is_spent_up_to_the_days_budget_and_again_tomorrow(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    budget = (JOIN_GAS + LEAVE_GAS) * GAS_PRICE
    hasty = Patience(idle=1.0, silent=1.0, longest=1.0)
    async with seated(tmp_path, patience=hasty, gas_per_day=budget) as seat:
        await seat.invite(1)
        mock_clock.jump(10)
        assert await refused(seat, 2) == "policy_gas"
        assert seat.chain.sent == ["join/1"]
        assert await refused(seat, 1) == ""
        await seat.membership.leave()
        assert "gas" in seat.membership.says()
        assert await refused(seat, 2) == "policy_gas"
        mock_clock.jump(DAY)
        assert await refused(seat, 2) == ""


async def test_what_the_policy_refuses_costs_no_look_at_the_chain(tmp_path: Path) -> None:
    async with seated(tmp_path, refused_pools=[1], min_price=10**15 + 1) as seat:
        assert await refused(seat, 1) == "policy_pool"
        assert seat.chain.reads == 0
        assert await refused(seat, 2) == "policy_price"
        assert seat.chain.sent == []
        said = seat.membership.says()
        assert said.startswith("waiting: pool 2 offered tiny: it pays 1000000000000000 wei")


async def test_a_pool_whose_model_is_not_here_costs_no_join_and_no_look_at_the_chain(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    store: list[bytes] = []
    async with seated(tmp_path, store=store) as seat:
        for _ in range(20):
            assert await refused(seat, 1) == "no_model"
        assert (seat.chain.looks, seat.chain.reads, seat.chain.sent) == (1, 0, [])
        assert "prime-node model get tiny" in seat.membership.says()
        store.append(MODEL)
        mock_clock.jump(10)
        assert await refused(seat, 1) == ""


async def test_a_worker_says_what_it_waits_for(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with seated(tmp_path, hours=["01:00-03:00"], disk=100, used=100) as seat:
        assert await refused(seat, 1) == "policy_hours"
        assert seat.membership.says() == "waiting: this node works again from 01:00"
        mock_clock.jump(2 * 3600)
        assert await refused(seat, 1) == "policy_disk"
        assert "100 bytes are used" in seat.membership.says()


async def test_a_worker_says_whose_work_it_does(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with seated(tmp_path) as seat:
        assert seat.membership.says() == "waiting for an invite"
        await seat.invite(1)
        assert seat.membership.says() == "in pool 1 (tiny)"
        mock_clock.jump(150)
        assert "silent" in seat.membership.says()
        mock_clock.jump(150)
        seat.ping(1)
        assert "without work" in seat.membership.says()


async def test_a_join_goes_on_when_whoever_asked_hangs_up(tmp_path: Path) -> None:
    async with seated(tmp_path) as seat:
        with trio.CancelScope() as scope:
            scope.cancel()
            await seat.invite(1)
        assert scope.cancelled_caught
        assert seat.membership.pool is None
        with trio.fail_after(60):
            while await refused(seat, 1) == "busy":
                await trio.lowlevel.checkpoint()
        assert seat.chain.sent == ["join/1"]


async def test_strangers_whose_invites_take_long_hold_nobody_up(tmp_path: Path) -> None:
    async with seated(tmp_path) as seat, trio.open_nursery() as nursery:
        seat.chain.hangs.add(2)
        for _ in range(MAX_WEIGHED - 1):
            nursery.start_soon(refused, seat, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert await refused(seat, 1) == ""
        nursery.cancel_scope.cancel()


async def test_the_invites_that_are_weighed_are_bounded(tmp_path: Path) -> None:
    async with seated(tmp_path) as seat:
        seat.chain.hangs.add(2)
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_WEIGHED):
                nursery.start_soon(refused, seat, 2)
            await trio.testing.wait_all_tasks_blocked()
            assert await refused(seat, 1) == "busy"
            nursery.cancel_scope.cancel()
        assert await refused(seat, 1) == ""


async def test_of_two_invites_at_once_one_is_followed(tmp_path: Path) -> None:
    async with seated(tmp_path) as seat:
        answers: list[str] = []

        async def ask(pool_id: int) -> None:
            answers.append(await refused(seat, pool_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 1)
            nursery.start_soon(ask, 2)
        assert len(seat.chain.sent) == 1
        assert answers.count("") == 1


async def test_a_pool_that_cannot_be_entered_leaves_the_worker_free(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with seated(tmp_path) as seat:
        seat.chain.fails.add(2)
        await seat.invite(1)
        mock_clock.jump(300)
        assert await refused(seat, 2) == "chain"
        assert seat.membership.pool is None
        assert await refused(seat, 1) == "resting"
        seat.chain.fails.clear()
        assert await refused(seat, 2) == ""


async def test_a_pool_that_the_operator_refuses_since_is_left_at_the_start(tmp_path: Path) -> None:
    chain = FakeChain(NODE, member=1)
    async with seated(tmp_path, chain, pools=[2]) as seat:
        assert chain.sent == ["leave/1"]
        await seat.invite(2)
        assert chain.sent == ["leave/1", "join/2"]


IMPATIENT = Patience(idle=0.0, silent=0.0, longest=0.0)


async def life(folder: Path, chain: FakeChain) -> None:
    """Join a pool, move to another, leave it."""
    async with seated(folder, chain, patience=IMPATIENT) as seat:
        await seat.invite(1)
        await seat.invite(2)
        await seat.membership.leave()


def killed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(killed, error.exceptions))
    return isinstance(error, Killed)


async def test_killed_at_any_step_a_worker_goes_on_and_pays_once(tmp_path: Path) -> None:
    counting = FakeChain(NODE)
    await life(tmp_path / "whole", counting)
    assert counting.sent == ["join/1", "leave/1", "join/2", "leave/2"]
    assert counting.fate.steps >= 4 * 2 * 3
    for at in range(counting.fate.steps):
        folder, chain = tmp_path / str(at), FakeChain(NODE, fate=Fate(at))
        try:
            await life(folder, chain)
            raise AssertionError("it was not killed")
        except BaseException as exc:
            if not killed(exc):
                raise
        sent_before = len(chain.sent)
        async with seated(folder, chain, patience=IMPATIENT) as seat:
            # What was begun of leaving is finished; what was joined is kept.
            assert not [what for what in seat.purse.unfinished if what.startswith("leave")]
            await seat.invite(2)
            known = {event.pool_id for event in await seat.context.journal.replay(PoolJoined)}
            assert {int(what.partition("/")[2]) for what in chain.sent} <= known
            counted = JOIN_GAS * GAS_PRICE * sum(what.startswith("join") for what in chain.sent)
            spent = seat.purse._ledger.spent(seat.context.wall())
            assert spent >= 100_000 * GAS_PRICE * len(chain.sent)
            assert spent <= counted + LEAVE_GAS * GAS_PRICE * (len(chain.sent) + 1)
        assert chain.member == 2
        joins = chain.sent.count("join/1"), chain.sent.count("leave/1")
        assert joins in ((1, 1), (0, 0)), "pool 1 is entered and left once, or never"
        # Killed while it left pool 2 for good, it finishes that, and joins anew when invited anew.
        again = chain.sent.count("leave/2")
        assert chain.sent.count("join/2") == 1 + again
        assert len(chain.sent) - sent_before <= 3
