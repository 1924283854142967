"""Paying for the worker's transactions, within the operator's budget for a day.

What is about to be sent is on disk before it is sent, so that a node that is killed in between
knows of it again: see `policy.gas`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import trio
from pydantic import TypeAdapter, ValidationError

from node.context import NodeContext
from node.roles.worker.policy.decline import Decline
from node.roles.worker.policy.gas import DAY, MAX_ENTRIES, GasEntry, GasLedger

if TYPE_CHECKING:
    from chain.client import ChainClient
    from chain.transactions.manager import TxResult

STATE = "worker.gas"
_ENTRIES = TypeAdapter(tuple[GasEntry, ...])


class GasPurse:
    """The gas that this worker may still spend. `restore` before anything else."""

    def __init__(self, context: NodeContext, chain: ChainClient) -> None:
        self._context = context
        self._chain = chain
        self._ledger = GasLedger(context.config.policy.gas_per_day)
        self._changing = trio.Lock()

    async def restore(self) -> None:
        """What the journal says was spent. What cannot be read counts as the whole day's budget."""
        kept = await self._context.journal.state(STATE, ())
        try:
            entries = _ENTRIES.validate_python(kept)
        except ValidationError:
            self._context.log.warning("gas spent is unreadable; nothing is sent for a day")
            entries = (GasEntry("unknown", self._context.wall(), self._ledger.budget, open=False),)
        self._ledger = GasLedger(self._ledger.budget, entries[-MAX_ENTRIES:])

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Names of transactions whose outcome this worker has not noted."""
        return tuple(entry.what for entry in self._ledger.entries if entry.open)

    async def price(self) -> int:
        """Wei for a unit of gas now. Raises `ChainError`."""
        head = await self._chain.rpc.block("latest")
        return (head.base_fee if head is not None else 0) + await self._chain.rpc.tip()

    def refuses(self, wei: int) -> Decline | None:
        """Why `wei` cannot be spent now; None where they can."""
        now, budget = self._context.wall(), self._ledger.budget
        if self._ledger.affords(wei, now):
            return None
        said = f"{wei} wei of gas are needed, {self._ledger.spent(now)} of {budget} a day are spent"
        at = self._ledger.affords_at(wei, now)
        if at is not None:
            said += f"; again in {min(max(at - now, 0), DAY) / 3600:.1f} h"
        return Decline("policy_gas", said, waits=True)

    @asynccontextmanager
    async def paying(
        self, what: str, gas: int, price: int
    ) -> AsyncIterator[Callable[[TxResult | None], None]]:
        """Count a transaction of at most `gas` under the name `what`, on disk on entry. The block
        tells each result, None for one that was not needed; without any the entry stays open."""
        await self._change(lambda ledger: ledger.plan(what, gas * price, self._context.wall()))
        told: list[int] = []

        def tell(result: TxResult | None) -> None:
            told.append(0 if result is None else result.gas_used * price)

        yield tell
        if told:
            await self._change(lambda ledger: ledger.finish(what, sum(told)))

    async def finish(self, what: str) -> None:
        """A transaction of an earlier run is known to be done; what it cost stays counted."""
        await self._change(lambda ledger: ledger.finish(what, None))

    async def _change(self, change: Callable[[GasLedger], None]) -> None:
        """Change the ledger, on disk first. One change at a time, since each writes all of it."""
        async with self._changing:
            ledger = GasLedger(self._ledger.budget, self._ledger.entries)
            change(ledger)
            entries: list[dict[str, Any]] = [
                {**asdict(entry), "wei": str(entry.wei)} for entry in ledger.entries
            ]
            await self._context.journal.set_state(STATE, entries)
            self._ledger = ledger
