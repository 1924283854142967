"""What a validator must read from the chain to judge an epoch: owners, the creator, the budget.

The owner of a node never changes once it is set, so it is asked for once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.settlement.history import PoolHistory
from node.settlement.paid import PaidWork
from proofs.encoding.leaves import SignedReceipt
from proofs.settlement.audit import AuditFacts

if TYPE_CHECKING:
    from chain.client import ChainClient


@dataclass(frozen=True)
class Budget:
    """What a pool can pay: `price` wei a unit of work, and `available` wei that no root has
    promised yet."""

    price: int
    available: int


class ChainFacts:
    """Reads facts; raises `ChainError`s. `paid` knows what earlier epochs paid for."""

    def __init__(self, chain: ChainClient, paid: PaidWork) -> None:
        self._chain = chain
        self._paid = paid
        self._owners: dict[str, str] = {}
        self._creators: dict[int, str] = {}

    async def owners(self, receipts: Iterable[SignedReceipt]) -> dict[str, str]:
        """Owners of all workers and counterparties; strangers are left out."""
        nodes = {item.receipt.worker for item in receipts}
        nodes |= {item.receipt.counterparty for item in receipts}
        unknown = sorted(nodes - self._owners.keys())
        if unknown:
            self._owners |= await self._chain.nodes.owners_of(unknown)
        return {node: self._owners[node] for node in nodes if node in self._owners}

    async def budget(self, pool_id: int, committed: int) -> Budget:
        """The budget of a pool whose roots have promised `committed` wei so far."""
        funds = await self._chain.pools.funds(pool_id)
        return Budget(funds.rate, funds.funded - committed)

    async def creator(self, pool_id: int) -> str:
        """The pool's owner."""
        if pool_id not in self._creators:
            self._creators[pool_id] = (await self._chain.pools.info(pool_id)).creator
        return self._creators[pool_id]

    async def settled_until(self, history: PoolHistory) -> bool:
        """Whether the last epoch known here stands on chain and cannot be undone any more. A root
        that is signed earlier might come to follow another root than was meant."""
        newest = history.newest
        if newest is None:
            return True
        chain = self._chain
        standing = await chain.settlement.root_hash(history.pool_id, newest.number)
        if standing != newest.posted.hash(chain.domain("ReceiptSettlement")):
            return False
        return await chain.settlement.is_final(history.pool_id, newest.number)

    async def before(
        self, history: PoolHistory, number: int, receipts: Iterable[SignedReceipt]
    ) -> AuditFacts:
        """The facts by which epoch `number` with these receipts is judged; earlier epochs' data
        must be here."""
        receipts = list(receipts)
        work = [(item.receipt.job_id, item.receipt.stage) for item in receipts]
        return AuditFacts(
            domain=self._chain.domain("ReceiptSettlement"),
            creator=await self.creator(history.pool_id),
            owners=await self.owners(receipts),
            earned=history.earned(number - 1),
            paid=await self._paid.places(history.pool_id, work, number - 1),
        )
