"""Which sequences of a bundle this validator replays (`proofs.thresholds.spotcheck`).

The rate follows from what the chain says about the workers' pay, their providers' stake and how
many nodes share it. It is rounded up to a
power of two, so that validators agree although a stake may just have changed. A block after the
bundle's commitment decides which sequences are chosen. Therefore all validators replay the same
ones. What a validator knows of a worker itself can only make it replay everything, and it does so,
too, whenever the commitment, the block or an answer of the chain is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import trio

from chain.errors import ChainError
from node.onchain.blocks import Blocks
from node.roles.validator.judging.reputation import WorkerRecords
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.spotcheck import (
    DEFAULT_TERMS,
    DRAW_DELAY,
    ONE,
    CheckTerms,
    check_rate,
    chosen,
    may_choose,
    rate_of,
)

if TYPE_CHECKING:
    from chain.client import ChainClient

CheckRate = Literal["auto"] | float
"""`validator.check_rate` of the settings: "auto", or the share (0 to 1) that is replayed."""


class SequenceChooser:
    """Chooses sequences by the chain's word and this validator's own records."""

    def __init__(
        self,
        chain: ChainClient,
        blocks: Blocks,
        records: WorkerRecords,
        setting: CheckRate,
        log: Any,
        terms: CheckTerms = DEFAULT_TERMS,
    ) -> None:
        self._chain = chain
        self._blocks = blocks
        self._records = records
        self._setting = setting
        self._log = log
        self._terms = terms

    async def choose(self, bundle: UnitBundle, seen_at: int) -> tuple[int, ...]:
        """The indices of the sequences to replay, for a bundle that came at block `seen_at` (0:
        unknown).

        Waits for the block that decides, if one is to come.
        """
        count = len(bundle.sequences)
        everything = tuple(range(count))
        if not may_choose(bundle.committed_at, seen_at):
            return everything
        try:
            rate = await self._rate(bundle)
            if rate == ONE:
                return everything
            beacon = await self._blocks.wait_for(bundle.committed_at + DRAW_DELAY)
        except ChainError as exc:
            self._log.warning("all is replayed: no chain", reason=str(exc))
            return everything
        if beacon is None:
            return everything
        draw_id = await trio.to_thread.run_sync(lambda: bundle.draw_id)
        picked = chosen(beacon, draw_id, count, rate)
        self._log.info(
            "sequences chosen",
            unit=bundle.unit_id.hex()[:12],
            share=round(rate / ONE, 4),
            chosen=len(picked),
            of=count,
        )
        return picked

    async def _rate(self, bundle: UnitBundle) -> int:
        """The highest rate that any of the bundle's workers calls for, in 1/`ONE`. What a provider
        gets for several stages of the unit counts together: they may cheat together."""
        pay: dict[str | None, int] = {}
        for claim in bundle.stages:
            record = await self._records.of(claim.address)
            if record.suspect or record.is_newcomer(self._terms) or claim.receipt is None:
                return ONE
            if self._setting == "auto":
                price = (await self._chain.pools.funds(claim.receipt.pool_id)).rate
                provider = await self._chain.nodes.owner_of(claim.address)
                pay[provider] = pay.get(provider, 0) + claim.receipt.units * price
        if self._setting != "auto":
            return rate_of(self._setting)
        rates = [await self._rate_of(p, pay[p], len(bundle.sequences)) for p in pay]
        return max(rates, default=ONE)

    async def _rate_of(self, provider: str | None, pay: int, sequences: int) -> int:
        if provider is None:
            return ONE if pay else 0
        loss = await self._chain.settlement.conviction_loss(provider)
        nodes = max(1, len(await self._chain.providers.nodes_of(provider)))
        established = self._terms.probation
        return coarse(check_rate(pay, loss, sequences, established, nodes, self._terms))


def coarse(rate: int) -> int:
    """The next power of two that is not below a rate: 1/16, 1/8, ... or all."""
    return 0 if rate == 0 else min(ONE, 1 << (rate - 1).bit_length())
