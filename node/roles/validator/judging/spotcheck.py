"""Which sequences of a bundle this validator replays (`proofs.thresholds.spotcheck`).

The rate follows from what the chain says of the workers' pay and stake, rounded up to a power of
two so that a stake that just changed makes no difference between validators; the choice, from the
block after the bundle's commitment. So validators replay the same sequences. Their own records of a
worker can only make them replay everything; and so does whatever is missing: the chain, the
commitment, the block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.context import NodeContext
from node.onchain.blocks import Blocks
from node.roles.validator.judging.reputation import WorkerRecords
from proofs.evidence.bundle import StageClaim, UnitBundle
from proofs.thresholds.spotcheck import (
    DEFAULT_TERMS,
    ONE,
    CheckTerms,
    check_rate,
    chosen,
    may_choose,
    rate_of,
)

if TYPE_CHECKING:
    from chain.client import ChainClient


class Chooser:
    """Chooses by `validator.check_rate` of the settings: "auto", or a share of 0 to 1."""

    def __init__(
        self,
        context: NodeContext,
        blocks: Blocks,
        records: WorkerRecords,
        terms: CheckTerms = DEFAULT_TERMS,
    ) -> None:
        self._context = context
        self._blocks = blocks
        self._records = records
        self._terms = terms

    async def arrived(self) -> int:
        """The newest block now that a bundle came, to be journaled with it; 0 where none tells."""
        from chain.errors import ChainError

        if self._context.chain is None:
            return 0
        try:
            return await self._blocks.head()
        except ChainError:
            return 0

    async def choose(self, bundle: UnitBundle, seen_at: int) -> tuple[int, ...]:
        """The numbers of the sequences to replay, for a bundle that came at block `seen_at`.

        Waits for the block that decides, where one is to come.
        """
        from chain.errors import ChainError

        count, chain = len(bundle.sequences), self._context.chain
        everything = tuple(range(count))
        if chain is None or not may_choose(bundle.committed_at, seen_at):
            return everything
        try:
            rate = await self._rate(chain, bundle)
            if rate == ONE:
                return everything
            beacon = await self._blocks.wait_for(bundle.committed_at + 1)
        except ChainError as exc:
            self._context.log.warning("all is replayed: no chain", reason=str(exc))
            return everything
        if beacon is None:
            return everything
        picked = chosen(beacon, bundle.content_id, count, rate)
        self._context.log.info(
            "sequences chosen",
            unit=bundle.unit_id.hex()[:12],
            share=round(rate / ONE, 4),
            chosen=len(picked),
            of=count,
        )
        return picked

    async def _rate(self, chain: ChainClient, bundle: UnitBundle) -> int:
        """The highest of what the bundle's workers are to be checked at."""
        highest = 0
        for claim in {claim.address: claim for claim in bundle.stages}.values():
            highest = max(highest, await self._rate_of(chain, claim, len(bundle.sequences)))
            if highest == ONE:
                break
        return highest

    async def _rate_of(self, chain: ChainClient, claim: StageClaim, sequences: int) -> int:
        record = await self._records.of(claim.address)
        if record.suspect or record.verified < self._terms.probation or claim.receipt is None:
            return ONE
        setting = self._context.config.validator.check_rate
        if setting != "auto":
            return rate_of(setting)
        provider = await chain.nodes.owner_of(claim.address)
        loss = 0 if provider is None else await chain.settlement.conviction_loss(provider)
        pay = claim.receipt.units * (await chain.pools.funds(claim.receipt.pool_id)).rate
        return coarse(check_rate(pay, loss, sequences, record.verified, self._terms))


def coarse(rate: int) -> int:
    """The next power of two that is not below a rate: 1/16, 1/8, ... or all."""
    return 0 if rate == 0 else min(ONE, 1 << (rate - 1).bit_length())
