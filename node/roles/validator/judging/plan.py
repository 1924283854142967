"""What is settled before a bundle's turn to be judged comes: its noise, and what is replayed of it.

Both may wait for blocks, so bundles are prepared side by side, and the engine is not held up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from node.context import NodeContext
from node.onchain.blocks import Blocks
from node.roles.validator.judging.noise_check import NoiseCheck, check_beacons
from node.roles.validator.judging.reputation import WorkerRecords
from node.roles.validator.judging.spotcheck import Chooser
from proofs.evidence.bundle import UnitBundle

NOISE_TRIES = 20
NOISE_RETRY_SECONDS = 3.0


@dataclass(frozen=True)
class JudgingPlan:
    """`chosen` are the sequences to replay. A bundle whose `noise` has a fault is rejected without
    a replay; one of whose noise something stayed unknown is set aside."""

    chosen: tuple[int, ...] = ()
    noise: NoiseCheck = field(default_factory=NoiseCheck)


class Preparer:
    """Makes plans. `confirmations`: how deep a block must lie."""

    def __init__(self, context: NodeContext, confirmations: int, records: WorkerRecords) -> None:
        self._blocks = Blocks(context, context.chain, confirmations)  # type: ignore[arg-type]
        self._chain = context.chain
        self._chooser = Chooser(context, self._blocks, records)

    async def arrived(self) -> int:
        """The newest block now that a bundle came, to be journaled with it; 0 where none tells."""
        return await self._chooser.arrived()

    async def plan(self, bundle: UnitBundle, seen_at: int) -> JudgingPlan:
        """The plan for a bundle that came at block `seen_at`."""
        noise = await self._noise(bundle)
        if noise.fault is not None or noise.unknown:
            return JudgingPlan((), noise)
        return JudgingPlan(await self._chooser.choose(bundle, seen_at), noise)

    async def _noise(self, bundle: UnitBundle) -> NoiseCheck:
        blocks = self._blocks if self._chain is not None else None
        noise = await check_beacons(bundle, blocks)
        for _ in range(NOISE_TRIES):
            if not noise.unknown:
                break
            await trio.sleep(NOISE_RETRY_SECONDS)
            noise = await check_beacons(bundle, blocks)
        return noise
