"""What a validator must read from the chain to judge an epoch: owners, the creator, the budget.

The owner of a node never changes once it is set, nor does that of a pool, so they are asked for
once. Those of many nodes and pools are kept; new ones push out what was not needed for longest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.recent import Recent
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
    """Reads facts; raises `ChainError`s. `paid` knows what earlier epochs paid for. Owners of the
    newest `nodes` and `pools` are kept."""

    def __init__(
        self, chain: ChainClient, paid: PaidWork, nodes: int = 65_536, pools: int = 4096
    ) -> None:
        self._chain = chain
        self._paid = paid
        self._owners: Recent[str, str] = Recent(nodes)
        self._creators: Recent[int, str] = Recent(pools)

    async def owners(self, receipts: Iterable[SignedReceipt]) -> dict[str, str]:
        """Owners of all workers and counterparties; strangers are left out."""
        nodes = {item.receipt.worker for item in receipts}
        nodes |= {item.receipt.counterparty for item in receipts}
        known = {node: owner for node in nodes if (owner := self._owners.get(node)) is not None}
        if unknown := sorted(nodes - known.keys()):
            found = await self._chain.nodes.owners_of(unknown)
            for node, owner in found.items():
                self._owners.put(node, owner)
            known |= found
        return known

    async def budget(self, pool_id: int, committed: int) -> Budget:
        """The budget of a pool whose roots have promised `committed` wei so far."""
        funds = await self._chain.pools.funds(pool_id)
        return Budget(funds.rate, funds.funded - committed)

    async def creator(self, pool_id: int) -> str:
        """The pool's owner."""
        creator = self._creators.get(pool_id)
        if creator is None:
            creator = (await self._chain.pools.info(pool_id)).creator
            self._creators.put(pool_id, creator)
        return creator

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
