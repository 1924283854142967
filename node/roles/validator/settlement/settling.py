"""The validator's part in settlement: what it accepted gets paid, and nothing else does.

Keeps the accepted units that no epoch has paid (journaled before anybody is told), follows the
chain, and runs the three duties: proposing epochs in turn, signing those of others, and guarding
what is posted. It needs neither engine nor bundles, only verdicts: `accept` is its only door.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from node.context import NodeContext
from node.roles.validator.settlement.chain_reads import ChainFacts
from node.roles.validator.settlement.cosigner import Accepted, Cosigner
from node.roles.validator.settlement.disputes import Guard
from node.roles.validator.settlement.pending import EpochRules, PendingPool
from node.roles.validator.settlement.proposer import Proposer
from node.settlement.follower import SettlementFollower
from node.wire.messages.settlement import Cosigned, CosignRequest
from node.wire.methods import COSIGN
from node.wire.rpc import serve
from proofs.encoding.leaves import PostedRoot, SignedReceipt
from proofs.encoding.receipts import Receipt

RECHECK_SECONDS = 1.0
"""A root becomes final by time alone; no event tells."""


class ValidatorSettlement:
    """Settles accepted units. Without a chain, units are accepted and never paid."""

    def __init__(
        self, context: NodeContext, follower: SettlementFollower, rules: EpochRules | None = None
    ) -> None:
        self._context = context
        self._follower = follower
        facts = ChainFacts(context)
        self._cosigner = Cosigner(context, follower, facts)
        self._proposer = Proposer(context, follower, facts, rules or EpochRules())
        self.guard = Guard(context, follower, facts)
        self._pools: dict[int, PendingPool] = {}
        self._accepted: dict[tuple[str, bytes], bytes] = {}
        self._arrived = trio.Event()

    def accepted_other(self, sender: str, unit_id: bytes, bundle_id: bytes) -> bool:
        """Whether the sender's unit was accepted in another bundle than this one.

        Senders choose unit ids, so one sender's say nothing about another's.
        """
        return self._accepted.get((sender, unit_id), bundle_id) != bundle_id

    async def accept(
        self, sender: str, unit_id: bytes, bundle_id: bytes, receipts: Sequence[SignedReceipt]
    ) -> None:
        """Journal an accepted unit's receipts; a coming epoch pays them. Repeating is harmless."""
        body = {
            "bundle": bundle_id,
            "sender": sender,
            "receipts": [
                (item.receipt.to_bytes(), item.worker_signature, item.counter_signature)
                for item in receipts
            ],
        }
        key = f"{sender}:{unit_id.hex()}"
        if await self._context.journal.append("self.accepted", key, body):
            if not receipts:
                self._context.log.info("not paid: ordered from itself", unit=unit_id.hex()[:12])
            self._take(unit_id, sender, bundle_id, tuple(receipts))

    async def restore(self) -> None:
        """What the journal holds; the follower says which of it was paid since."""
        for event in await self._context.journal.events(["self.accepted"]):
            receipts = tuple(
                SignedReceipt(Receipt.from_bytes(data), worker, counter)
                for data, worker, counter in event.body["receipts"]
            )
            unit_id = bytes.fromhex(event.key.rpartition(":")[2])
            self._take(unit_id, event.body["sender"], event.body["bundle"], receipts)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Settle until cancelled. The follower must run already."""
        if self._context.chain is None:
            task_status.started()
            return
        self._drop_paid()
        serve(self._context.network, COSIGN, self._on_cosign)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_paid)
            nursery.start_soon(self.guard.run)
            nursery.start_soon(self._propose_all)
            task_status.started()

    @property
    def waiting(self) -> int:
        """Accepted units that no posted epoch has paid."""
        return sum(len(pool.units) for pool in self._pools.values())

    async def settled(self) -> None:
        """Wait until nothing accepted is unpaid; the caller bounds the time."""
        version = -1
        while self.waiting and self._context.chain is not None:
            version = await self._follower.wait_changed(version)
            self._drop_paid()

    def _take(
        self, unit_id: bytes, sender: str, bundle_id: bytes, receipts: tuple[SignedReceipt, ...]
    ) -> None:
        self._accepted[sender, unit_id] = bundle_id
        if not receipts:
            return
        pool_id = receipts[0].receipt.pool_id
        pool = self._pools.setdefault(pool_id, PendingPool(pool_id))
        if not self._follower.history(pool_id).has_paid(unit_id):
            pool.take(unit_id, receipts, self._context.now())
        self._arrived.set()
        self._arrived = trio.Event()

    def _drop_paid(self) -> None:
        """Bring what waits up to what the chain has paid; a voided epoch's units wait again."""
        for pool in self._pools.values():
            history = self._follower.history(pool.pool_id)
            paid = [unit_id for unit_id in pool.units if history.has_paid(unit_id)]
            pool.paid(paid, self._context.now())

    async def _watch_paid(self) -> None:
        version, known = self._follower.version, self._roots()
        while True:
            self._drop_paid()
            version = await self._follower.wait_changed(version)
            roots = self._roots()
            if any(roots[pool_id][: len(before)] != before for pool_id, before in known.items()):
                await self.restore()  # a root is gone: what it paid waits again
            known = roots

    def _roots(self) -> dict[int, list[PostedRoot]]:
        """What stands on chain; two looks tell a root that was replaced, too."""
        histories = self._follower.histories.items()
        return {pool_id: [e.posted for e in history.entries] for pool_id, history in histories}

    async def _propose_all(self) -> None:
        """One proposal of a pool at a time; pools do not wait for one another."""
        busy: set[int] = set()
        async with trio.open_nursery() as nursery:

            async def propose(pool: PendingPool) -> None:
                await self._proposer.propose(pool)
                busy.discard(pool.pool_id)

            while True:
                arrived, wait = self._arrived, float("inf")
                for pool in list(self._pools.values()):
                    if pool.pool_id in busy or not pool.units:
                        continue
                    left = await self._turn(pool)
                    if left <= 0:
                        busy.add(pool.pool_id)
                        nursery.start_soon(propose, pool)
                    wait = min(wait, left)
                recheck = RECHECK_SECONDS if any(p.units for p in self._pools.values()) else wait
                with trio.move_on_after(min(max(wait, 0.05), recheck)):
                    await arrived.wait()

    async def _turn(self, pool: PendingPool) -> float:
        from chain.errors import ChainError

        try:
            return await self._proposer.wait_turn(pool)
        except ChainError as exc:
            self._context.log.warning("cannot settle yet", pool=pool.pool_id, reason=str(exc))
            return RECHECK_SECONDS

    async def _on_cosign(self, peer_id: str, request: CosignRequest) -> Cosigned:
        return await self._cosigner.on_cosign(peer_id, request, self._accepted_in)

    def _accepted_in(self, pool_id: int) -> Accepted:
        """Unit ids are their sender's choice, so one pool's say nothing about another's."""
        pool = self._pools.get(pool_id)
        return {} if pool is None else pool.units
