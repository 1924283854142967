"""The noise of jobs: chosen with a seed, chance without one, the same after a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.context import NodeContext
from node.onchain.blocks import Blocks, BlockTiming
from node.roles.orchestrator.bundling.making import bundle_sequence
from node.roles.orchestrator.coordinator.units import WorkSequence
from node.roles.orchestrator.jobs.beacons import Beacons, BeaconSource, BlockBeacons, RandomBeacons
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.timing import OrchestratorTiming
from proofs.evidence.sequence import FinishReason
from proofs.sampling.noise import noise_key
from tests.node.roles.chains import Chain, block_hash, open_context
from tests.node.roles.orchestrator.test_parts import Words, prompt

CUTTER = JobCutter(Words(), b"m" * 32, "tiny", context_length=16, unit_size=2, vocab_size=200)


def key_of(sequence: WorkSequence) -> int:
    return sequence.request.sampling.noise_key


def beacons(context: NodeContext, chain: Any, confirmations: int) -> Beacons:
    """As the orchestrator of a node with this context draws them, on `chain` or without one."""
    source: BeaconSource = RandomBeacons()
    if chain is not None:
        source = BlockBeacons(Blocks(context, chain, confirmations))
    return Beacons(source, context.journal, context.log, OrchestratorTiming().beacon)


def test_a_seed_and_the_prompt_alone_make_the_key() -> None:
    sampled = prompt(temperature=0.7, seed=0, max_tokens=4)
    first, second = (CUTTER.cut(key, 0, (sampled,)).units[0].sequences[0] for key in ("a", "b"))
    assert first.sequence_id != second.sequence_id
    assert key_of(first) == key_of(second) == noise_key(bytes(8), b"", first.request.prompt_ids, 0)
    assert not first.awaiting_beacon


def test_greedy_prompts_have_no_noise_and_wait_for_none() -> None:
    for fields in ({}, {"seed": 3}):
        (unit,) = CUTTER.cut("k", 0, (prompt(max_tokens=4, **fields),)).units
        assert (key_of(unit.sequences[0]), unit.sequences[0].noise) == (0, None)
        assert not unit.awaiting_beacon


def test_a_drawn_unit_makes_a_bundle_whose_noise_has_no_fault() -> None:
    prompts = (prompt(temperature=1.0, max_tokens=4), prompt(temperature=1.0, seed=5, max_tokens=4))
    (unit,) = CUTTER.cut("k", 0, prompts).units
    assert unit.awaiting_beacon
    drawn = unit.drawn(block_hash(7), 7)
    assert drawn.drawn(block_hash(8), 8) == drawn
    for sequence in drawn.sequences:
        whole = bundle_sequence(replace(sequence, output_ids=(9,) * 4, reason=FinishReason.LENGTH))
        assert whole.noise_fault() == ""
    chance, chosen = (sequence.noise for sequence in drawn.sequences)
    assert chance is not None
    assert chosen is not None
    assert (chance.block, chosen.block) == (7, 0)
    assert chance.request_id == drawn.sequences[0].sequence_id


@pytest.mark.parametrize("confirmations", [1, 3])
async def test_the_beacon_is_the_first_block_after_the_job(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, confirmations: int
) -> None:
    chain = Chain(head=100, interval=12.0, made=trio.current_time())
    async with open_context(tmp_path) as context:
        begun = trio.current_time()
        beacon = await beacons(context, chain, confirmations).draw("job")
        assert (beacon.value, beacon.block) == (block_hash(101), 101)
        assert trio.current_time() - begun <= 12.0 * confirmations + 2.0
        await trio.sleep(100.0)
        assert (
            await beacons(context, chain, confirmations).draw("job") == beacon
        )  # as after a restart


async def test_a_chain_that_makes_no_blocks_gives_its_newest(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    chain = Chain(head=100, made=trio.current_time())
    async with open_context(tmp_path) as context:
        begun = trio.current_time()
        beacon = await beacons(context, chain, 1).draw("job")
        assert (beacon.value, beacon.block) == (block_hash(100), 100)
        assert trio.current_time() - begun < BlockTiming().idle + 5.0
        begun = trio.current_time()
        assert (await beacons(context, chain, 3).draw("other")).block == 98
        assert trio.current_time() == begun  # that its newest block is old is known at once


async def test_a_chain_that_does_not_answer_is_asked_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    chain = Chain(head=100, interval=12.0, made=trio.current_time())
    chain.down = True
    async with open_context(tmp_path) as context, trio.open_nursery() as nursery:
        found, done = [], trio.Event()

        async def draw() -> None:
            found.append(await beacons(context, chain, 1).draw("job"))
            done.set()

        nursery.start_soon(draw)
        await trio.sleep(60.0)
        assert found == []
        chain.down = False
        await done.wait()
        assert found[0].block > 105


async def test_without_a_chain_it_is_chance_of_ones_own(tmp_path: Path) -> None:
    async with open_context(tmp_path) as context:
        one, other = (
            await beacons(context, None, 1).draw("a"),
            await beacons(context, None, 1).draw("b"),
        )
        assert one.block == other.block == 0
        assert len(one.value) == 32
        assert one.value != other.value
        assert await beacons(context, None, 1).draw("a") == one
