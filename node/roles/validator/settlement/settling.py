"""The validator's part in settlement: what it accepted gets paid, and nothing else does.

Keeps the accepted units that no epoch has paid (journaled before anybody is told), follows the
chain, and runs the three duties: proposing epochs in turn, signing those of others, and guarding
what is posted. It needs neither engine nor bundles, only verdicts: `accept` is its only door. A
unit is forgotten, in memory and in the journal, once the root that paid it is final, or once nobody
has paid it for so long that nobody will.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import trio

from chain.errors import ChainError
from node.context import NodeContext
from node.roles.validator.settlement.accepted import AcceptedUnits
from node.roles.validator.settlement.cosigner import Accepted, Cosigner
from node.roles.validator.settlement.disputes import RootGuard
from node.roles.validator.settlement.pending import PendingPool
from node.roles.validator.settlement.proposer import Proposer
from node.settlement.follower import SettlementFollower
from node.settlement.paid import PaidWork
from node.wire.messages.settlement import Cosigned, CosignRequest
from node.wire.methods import COSIGN
from node.wire.rpc import serve
from proofs.encoding.leaves import SignedReceipt

RECHECK_SECONDS = 1.0
"""Pools are looked at again this often: a root becomes final by time alone, and no event tells."""
LEAST_WAIT_SECONDS = 0.05
MOST_WAITING = 16_384
"""Accepted units of a pool that nobody has paid; more bundles of it are not taken until it pays."""
UNPAID_SECONDS = 30 * 86_400.0
"""A unit that no epoch has paid by then is never paid: its pool is broke, or given up."""
SWEEP_SECONDS = 3600.0
MOST_FREE = 4096
"""Accepted units that nobody will pay (ordered from oneself) which are remembered."""


@dataclass(frozen=True)
class SettlementParts:
    """The three duties: `proposer` makes epochs, `cosigner` signs those of other validators,
    `guard` disputes wrong ones."""

    proposer: Proposer
    cosigner: Cosigner
    guard: RootGuard


class ValidatorSettlement:
    """Settles accepted units on chain."""

    def __init__(
        self,
        context: NodeContext,
        follower: SettlementFollower,
        paid: PaidWork,
        parts: SettlementParts,
        recheck_seconds: float = RECHECK_SECONDS,
        unpaid: float = UNPAID_SECONDS,
    ) -> None:
        self._context = context
        self._follower = follower
        self._paid = paid
        self._parts = parts
        self._recheck = recheck_seconds
        self._unpaid = unpaid
        self._accepted = AcceptedUnits(context.journal, context.log, context.wall)
        self._pools: dict[int, PendingPool] = {}
        self._senders: dict[tuple[int, bytes], str] = {}
        """Who sent each unit that is to be paid, or is paid and not for good yet."""
        self._paid_by: dict[tuple[int, bytes], int] = {}
        """The pool's newest epoch when the unit was seen to be paid: by that one or an older."""
        self._free: deque[tuple[str, bytes]] = deque()
        self._arrived = trio.Event()
        self._undone: dict[int, int] = {}
        """How many roots of each pool were gone when it was last read which units are unpaid."""

    async def accepted_other(
        self, sender: str, pool_id: int, unit_id: bytes, bundle_id: bytes
    ) -> bool:
        """Whether the sender's unit was accepted in another bundle than this one, or paid so long
        ago that it was forgotten."""
        if self._accepted.knows(sender, unit_id):
            return self._accepted.accepted_other(sender, unit_id, bundle_id)
        return bool(await self._paid_of(pool_id, [unit_id]))

    def has_room(self, pool_id: int) -> bool:
        """Whether the pool's accepted units that nobody has paid are few enough for another."""
        pool = self._pools.get(pool_id)
        return pool is None or len(pool.units) < MOST_WAITING

    async def accept(
        self, sender: str, unit_id: bytes, bundle_id: bytes, receipts: Sequence[SignedReceipt]
    ) -> None:
        """Journal an accepted unit's receipts; a coming epoch pays them. Repeating is harmless."""
        if await self._accepted.accept(sender, unit_id, bundle_id, receipts):
            await self._take(sender, unit_id, tuple(receipts))
            if not receipts:
                over = [self._free.popleft() for _ in range(len(self._free) - MOST_FREE)]
                await self._accepted.settle(over)

    async def restore(self) -> None:
        """What the journal holds; the follower says which of it was paid since. A root that goes
        meanwhile is noticed by `run`, since it was there when this began."""
        self._undone = self._taken_back()
        self._free.clear()
        for sender, unit_id, receipts in await self._accepted.restore():
            await self._take(sender, unit_id, receipts)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Settle until cancelled. The follower must run already."""
        await self._drop_paid()
        cosigner = self._parts.cosigner
        serve(self._context.network, COSIGN, self._on_cosign, cosigner.staked.require)
        async with trio.open_nursery() as nursery:
            keep = self._context.supervisor.keep
            keep(nursery, "settlement: paid", self._watch_paid)
            keep(nursery, "settlement: unpaid", self._sweep)
            keep(nursery, "settlement: audits", self._parts.guard.run)
            keep(nursery, "settlement: proposals", self._propose_all)
            task_status.started()

    @property
    def waiting(self) -> int:
        """Accepted units that no posted epoch has paid."""
        return sum(len(pool.units) for pool in self._pools.values())

    async def settled(self) -> None:
        """Wait until nothing accepted is unpaid; the caller bounds the time."""
        version = -1
        while self.waiting:
            version = await self._follower.wait_changed(version)
            await self._drop_paid()

    async def _paid_of(self, pool_id: int, unit_ids: Collection[bytes]) -> set[bytes]:
        """Which of a pool's units epochs have paid, as of the moment of the return."""
        history, filled = self._follower.history(pool_id), -1
        paid: set[bytes] = set()
        while filled != history.filled_to:
            filled = history.filled_to
            paid = await self._paid.units(pool_id, unit_ids, filled)
        return paid

    async def _take(self, sender: str, unit_id: bytes, receipts: tuple[SignedReceipt, ...]) -> None:
        if not receipts:
            self._free.append((sender, unit_id))
            return
        pool_id = receipts[0].receipt.pool_id
        pool = self._pools.setdefault(pool_id, PendingPool(pool_id))
        self._senders[pool_id, unit_id] = sender
        if await self._paid_of(pool_id, [unit_id]):
            self._paid_by[pool_id, unit_id] = self._follower.history(pool_id).last
        else:
            self._paid_by.pop((pool_id, unit_id), None)
            pool.take(unit_id, receipts, self._context.now())
        self._arrived.set()
        self._arrived = trio.Event()

    async def _drop_paid(self) -> None:
        """Forget what the chain has paid by now."""
        for pool in list(self._pools.values()):
            paid = await self._paid_of(pool.pool_id, list(pool.units))
            pool.paid(paid, self._context.now())
            last = self._follower.history(pool.pool_id).last
            self._paid_by |= {(pool.pool_id, unit_id): last for unit_id in paid}

    async def _forget_final(self) -> None:
        """Forget units that a root has paid which can no longer be taken away."""
        if self._taken_back() != self._undone:
            return  # which root paid what is being read again
        final = [key for key, epoch in self._paid_by.items() if self._is_final(key[0], epoch)]
        await self._accepted.settle([(self._senders[key], key[1]) for key in final])
        for key in final:
            del self._paid_by[key], self._senders[key]

    async def _sweep(self) -> None:
        while True:
            await self.forget_unpaid()
            await trio.sleep(SWEEP_SECONDS)

    async def forget_unpaid(self) -> None:
        """Forget units that waited for too long, in memory and in the journal."""
        old = self._accepted.older(self._context.wall() - self._unpaid)
        gone = [
            (pool_id, unit_id)
            for (pool_id, unit_id), sender in self._senders.items()
            if (sender, unit_id) in old and unit_id in self._pools[pool_id].units
        ]
        free = [item for item in self._free if item in old]
        await self._accepted.settle([*((self._senders[key], key[1]) for key in gone), *free])
        for pool_id, unit_id in gone:
            self._pools[pool_id].paid([unit_id], self._context.now())
            self._senders.pop((pool_id, unit_id), None)
            self._paid_by.pop((pool_id, unit_id), None)
        self._free = deque(item for item in self._free if item not in old)
        if gone:
            pools = sorted({pool_id for pool_id, _ in gone})
            self._context.log.warning("units were never paid", units=len(gone), pools=pools[:16])

    def _is_final(self, pool_id: int, epoch: int) -> bool:
        history = self._follower.history(pool_id)
        entry = history.get(epoch)
        return entry is not None and self._follower.is_final(history, entry)

    async def _watch_paid(self) -> None:
        version = self._follower.version
        while True:
            if self._taken_back() != self._undone:
                await self.restore()  # what a root had paid that is gone waits again
            await self._drop_paid()
            await self._forget_final()
            version = await self._follower.wait_changed(version)

    def _taken_back(self) -> dict[int, int]:
        """How many roots of each pool are gone, voided or undone. Comparing what stands would not
        do: a root can come and go, or be replaced, between two looks."""
        histories = self._follower.histories.items()
        return {pool_id: h.taken_back for pool_id, h in histories if h.taken_back}

    async def _propose_all(self) -> None:
        """One proposal of a pool at a time; pools do not wait for one another."""
        busy: set[int] = set()
        async with trio.open_nursery() as nursery:

            async def propose(pool: PendingPool) -> None:
                await self._parts.proposer.propose(pool)
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
                recheck = self._recheck if any(p.units for p in self._pools.values()) else wait
                with trio.move_on_after(min(max(wait, LEAST_WAIT_SECONDS), recheck)):
                    await arrived.wait()

    async def _turn(self, pool: PendingPool) -> float:
        """Seconds until this node should propose an epoch of the pool."""
        try:
            return await self._parts.proposer.wait_turn(pool)
        except ChainError as exc:
            self._context.log.warning("cannot settle yet", pool=pool.pool_id, reason=str(exc))
            return self._recheck

    async def _on_cosign(self, peer_id: str, request: CosignRequest) -> Cosigned:
        return await self._parts.cosigner.on_cosign(peer_id, request, self._accepted_in)

    def _accepted_in(self, pool_id: int) -> Accepted:
        """What waits in one pool: unit ids are their sender's choice, so one pool's say nothing
        about another's."""
        pool = self._pools.get(pool_id)
        return {} if pool is None else pool.units
