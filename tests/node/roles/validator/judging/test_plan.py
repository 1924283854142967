"""Plans for bundles: made side by side, with few questions to the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.onchain.blocks import Blocks
from node.roles.validator.judging.noise_check import NoiseFault
from node.roles.validator.judging.plan import (
    NOISE_TRIES,
    ChainlessPreparer,
    ChainPreparer,
    JudgingPlan,
)
from node.roles.validator.judging.reputation import WorkerRecords
from node.roles.validator.judging.spotcheck import SequenceChooser
from proofs.evidence.bundle import UnitBundle
from tests.node.roles.chains import Chain, block_hash, open_context
from tests.node.roles.validator.judging.test_noise_check import sampled, unit


def preparer(context: Any, chain: Any) -> ChainPreparer:
    """For a validator that has no records yet."""
    records = WorkerRecords(context.journal, context.metrics, context.log)
    blocks = Blocks(context, chain, 1)
    return ChainPreparer(blocks, SequenceChooser(chain, blocks, records, "auto", context.log))


async def made_plan(folder: Path, chain: Chain, made: UnitBundle, seen_at: int) -> JudgingPlan:
    async with open_context(folder) as context:
        return await preparer(context, chain).plan(made, seen_at)


async def test_a_newcomers_bundle_is_replayed_whole_at_once(tmp_path: Path) -> None:
    chain = Chain(head=100)
    async with open_context(tmp_path) as context:
        prepares = preparer(context, chain)
        seen_at = await prepares.newest_block()
        plan = await prepares.plan(unit(sampled(1, 98), sampled(2, 98)), seen_at)
    assert seen_at == 100
    assert (plan.chosen, plan.noise.reason, plan.noise.unknown) == ((0, 1), "", "")


async def test_false_noise_is_not_replayed(tmp_path: Path) -> None:
    made = unit(sampled(1, 98, beacon=block_hash(97)))
    plan = await made_plan(tmp_path, Chain(head=100), made, 100)
    assert (plan.chosen, plan.noise.fault) == ((), NoiseFault.OTHER_HASH)


async def test_a_block_that_is_late_is_waited_for(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    chain = Chain(head=95, interval=5.0, made=trio.current_time())
    plan = await made_plan(tmp_path, chain, unit(sampled(1, 98)), 95)
    assert (plan.chosen, plan.noise.unknown) == ((0,), "")


async def test_a_block_that_never_comes_sets_the_bundle_aside(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    plan = await made_plan(tmp_path, Chain(head=95), unit(sampled(1, 98)), 95)
    assert plan.chosen == ()
    assert "98" in plan.noise.unknown
    assert NOISE_TRIES.most is not None
    assert trio.current_time() >= (NOISE_TRIES.most - 1) * NOISE_TRIES.first >= 60.0


async def test_without_a_chain_everything_is_replayed() -> None:
    prepares = ChainlessPreparer()
    assert await prepares.newest_block() == 0
    made = unit(*(sampled(n, 0, request_id=b"") for n in range(1, 61)))
    assert (await prepares.plan(made, 0)).chosen == tuple(range(60))
    named = await prepares.plan(unit(sampled(1, 98)), 0)
    assert (named.chosen, named.noise.fault) == ((), NoiseFault.NO_CHAIN)


@pytest.mark.parametrize("waiting", [1, 200])
async def test_many_who_wait_ask_like_one(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, waiting: int
) -> None:
    chain = Chain(head=100, interval=12.0, made=trio.current_time())
    async with open_context(tmp_path) as context, trio.open_nursery() as nursery:
        blocks, found = Blocks(context, chain, 1), []  # type: ignore[arg-type]

        async def wait() -> None:
            found.append(await blocks.wait_for(101))
            if len(found) == waiting:
                nursery.cancel_scope.cancel()

        for _ in range(waiting):
            nursery.start_soon(wait)
    assert set(found) == {block_hash(101)}
    assert chain.asked <= 20 + waiting  # of the head, and each once of its block
