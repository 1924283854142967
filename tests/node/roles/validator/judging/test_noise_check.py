"""Beacons of bundles against the chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.onchain.blocks import Blocks
from node.roles.validator.judging.noise_check import (
    NoiseCheck,
    NoiseFault,
    check_beacons,
    check_without_chain,
    refusal,
)
from proofs.evidence.bundle import UnitBundle
from proofs.evidence.sequence import BundleSequence, NoiseSource
from proofs.sampling.noise import noise_key
from proofs.sampling.settings import SamplingSettings
from proofs.verdict.message import StageStatus
from tests.node.roles.chains import Chain, block_hash, open_context
from tests.proofs.units import PROMPT, bundle, sequence

HEAD = 100


def sampled(number: int, block: int, **changes: Any) -> BundleSequence:
    """A sequence whose noise is that of `block`, but for `changes`."""
    fields = {"beacon": block_hash(block), "block": block, "request_id": bytes([number]) * 16}
    source = NoiseSource.model_validate(fields | changes)
    key = noise_key(source.beacon, source.request_id, PROMPT, source.sample_index)
    sampling = SamplingSettings(temperature=0.7, noise_key=key)
    return sequence(number, 4, noise=source, sampling=sampling)


def unit(*sequences: BundleSequence, committed_at: int = HEAD) -> UnitBundle:
    return bundle(2, sequences).model_copy(update={"committed_at": committed_at})


@pytest.fixture
def chain() -> Chain:
    return Chain(head=HEAD)


@pytest.fixture
async def blocks(chain: Chain, tmp_path: Path) -> AsyncIterator[Blocks]:
    async with open_context(tmp_path) as context:
        yield Blocks(context, chain, confirmations=3)  # type: ignore[arg-type]


async def test_a_true_beacon_is_sound(blocks: Blocks, chain: Chain) -> None:
    check = await check_beacons(unit(*(sampled(n, 98) for n in range(1, 30))), blocks)
    assert (check.fault, check.unknown, check.reason) == (None, "", "")
    assert chain.asked == 2  # one head, one block


async def test_greedy_and_seeded_sequences_name_no_block(blocks: Blocks, chain: Chain) -> None:
    greedy = sequence(1, 4, noise=NoiseSource(beacon=b"?", block=5), sampling=SamplingSettings())
    seeded = sampled(2, 0, beacon=bytes(8), request_id=b"")
    assert await check_beacons(unit(greedy, seeded), blocks) == NoiseCheck()
    assert check_without_chain(unit(greedy, seeded)) == NoiseCheck()
    assert chain.asked == 0


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (sampled(2, 98, beacon=block_hash(97)), NoiseFault.OTHER_HASH),
        (sampled(2, 98, beacon=b""), NoiseFault.OTHER_HASH),
        (sampled(2, 98, request_id=bytes(16)), NoiseFault.OTHER_REQUEST),
        (sampled(2, HEAD + 1), NoiseFault.LATER_BLOCK),
    ],
)
async def test_faults_are_named_and_nobody_is_blamed(
    blocks: Blocks, made: BundleSequence, fault: NoiseFault
) -> None:
    spoilt = unit(sampled(1, 98), made)
    check = await check_beacons(spoilt, blocks)
    assert (check.fault, check.index) == (fault, 1)
    verdict = refusal(spoilt, check)
    assert (verdict.accepted, verdict.first_faulty, verdict.replayed) == (False, None, ())
    assert verdict.reason == f"sequence 1: {fault.value}"
    assert {stage.status for stage in verdict.stages} == {StageStatus.UNCHECKED}


def test_without_a_chain_no_block_can_be_named() -> None:
    assert check_without_chain(unit(sampled(1, 98))).fault is NoiseFault.NO_CHAIN


async def test_questions_to_the_chain_are_bounded(blocks: Blocks, chain: Chain) -> None:
    many = unit(*(sampled(n, n) for n in range(1, 90)))
    assert (await check_beacons(many, blocks)).fault is NoiseFault.MANY_BLOCKS
    assert chain.asked <= 40


async def test_what_is_not_known_yet_is_no_fault(blocks: Blocks, chain: Chain) -> None:
    check = await check_beacons(unit(sampled(1, 99)), blocks)  # 99 is two blocks deep, not three
    assert (check.fault, check.unknown) == (None, "block 99 is not deep enough yet")
    chain.down = True
    check = await check_beacons(unit(sampled(1, 98)), blocks)
    assert check.fault is None
    assert "did not answer" in check.unknown
