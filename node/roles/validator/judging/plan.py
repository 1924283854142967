"""What is settled before a bundle's turn on the engine: whether its noise is sound, and which of
its sequences are replayed.

Both may wait for blocks, so bundles are prepared side by side and do not hold up the engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from chain.errors import ChainError
from node.onchain.blocks import Blocks
from node.retry import Backoff, tries
from node.roles.validator.judging.noise_check import NoiseCheck, check_beacons, check_without_chain
from node.roles.validator.judging.spotcheck import SequenceChooser
from proofs.evidence.bundle import UnitBundle

NOISE_TRIES = Backoff.every(3.0, most=21)
"""How often a block is looked for that the chain does not have yet."""


@dataclass(frozen=True)
class JudgingPlan:
    """`chosen` are the indices of the sequences to replay. A bundle whose `noise` has a fault is
    rejected without a replay; one whose noise could not be checked in time is set aside."""

    chosen: tuple[int, ...] = ()
    noise: NoiseCheck = field(default_factory=NoiseCheck)


class Preparer(Protocol):
    """Makes plans."""

    async def newest_block(self) -> int:
        """The number of the chain's newest block, to be journaled with a bundle that comes now;
        0 where that is unknown."""
        ...

    async def plan(self, bundle: UnitBundle, seen_at: int) -> JudgingPlan:
        """The plan for a bundle that came at block `seen_at`; may wait for blocks."""
        ...


class ChainPreparer:
    """Plans by the chain's blocks: they prove the noise, and they choose what is replayed."""

    def __init__(
        self, blocks: Blocks, chooser: SequenceChooser, noise_tries: Backoff = NOISE_TRIES
    ) -> None:
        self._blocks = blocks
        self._chooser = chooser
        self._noise_tries = noise_tries

    async def newest_block(self) -> int:
        """0 while the chain does not answer."""
        try:
            return await self._blocks.head()
        except ChainError:
            return 0

    async def plan(self, bundle: UnitBundle, seen_at: int) -> JudgingPlan:
        """Waits for blocks that the bundle's noise names, then for the one that chooses."""
        noise = NoiseCheck()
        async for _ in tries(self._noise_tries):
            noise = await check_beacons(bundle, self._blocks)
            if not noise.unknown:
                break
        if noise.fault is not None or noise.unknown:
            return JudgingPlan((), noise)
        return JudgingPlan(await self._chooser.choose(bundle, seen_at), noise)


class ChainlessPreparer:
    """Plans where there are no blocks: nothing can be chosen by chance, so all is replayed."""

    async def newest_block(self) -> int:
        """Always 0."""
        return 0

    async def plan(self, bundle: UnitBundle, seen_at: int) -> JudgingPlan:
        """All sequences, unless the bundle names a block that cannot be."""
        noise = check_without_chain(bundle)
        if noise.fault is not None:
            return JudgingPlan((), noise)
        return JudgingPlan(tuple(range(len(bundle.sequences))), noise)
