"""Closing epochs: what was accepted becomes a root on chain, and everybody gets their leaf.

Accepted units wait until there are `MAX_UNITS` of them, or none has come for `QUIET_SECONDS`, or
the oldest has waited `MAX_SECONDS`. Then, for each pool, an epoch is settled (`proofs.epoch`),
journaled with all that must follow, posted, and made known: to each worker its leaf, to the pool's
orchestrator which units were paid. Each notice is repeated until it is acknowledged, across
restarts too; a worker's only until a later epoch's replaces it, since leaves are cumulative.

A pool is settled one epoch after the other. Pools do not wait for one another: one whose root the
chain keeps refusing holds up nobody else's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import trio

from node.context import NodeContext
from node.errors import InputError
from node.journal.store import Event
from node.protocol import SETTLED, ClaimProof, Settled
from node.roles.terms import PoolTerms
from node.rpc import call
from p2p.errors import P2PError
from proofs.bundle import UnitBundle
from proofs.epoch import Epoch, settle
from proofs.errors import ProofError
from proofs.receipts import EpochRoot, Receipt
from proofs.signing import sign_digest

MAX_UNITS = 256
QUIET_SECONDS = 3.0
MAX_SECONDS = 60.0
TICK_SECONDS = 1.0
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0


@dataclass
class PoolLedger:
    """A pool's accepted units that no epoch has paid yet, and what was paid so far (wei)."""

    pool_id: int
    orchestrator: str = ""
    units: dict[bytes, tuple[Receipt, ...]] = field(default_factory=dict)
    peers: dict[str, str] = field(default_factory=dict)
    earned: dict[str, int] = field(default_factory=dict)
    oldest: float = 0.0
    newest: float = 0.0
    retry_at: float = 0.0
    closing: trio.Lock = field(default_factory=trio.Lock)

    def take(
        self, unit_id: bytes, receipts: tuple[Receipt, ...], peers: dict[str, str], now: float
    ) -> None:
        """Add an accepted unit at `now` (monotonic seconds). `peers`: worker address to peer id."""
        self.oldest = self.oldest if self.units else now
        self.newest = now
        self.units[unit_id] = receipts
        self.peers |= peers

    def paid(self, units: Iterable[bytes], earned: dict[str, int], now: float) -> None:
        """An epoch pays these units; what each account earned in total is now `earned`."""
        for unit_id in units:
            self.units.pop(unit_id, None)
        working = {receipt.worker for receipts in self.units.values() for receipt in receipts}
        self.peers = {a: peer for a, peer in self.peers.items() if a in working}
        self.earned = earned
        self.oldest = now

    def due(self, now: float) -> bool:
        """Whether an epoch should be closed at `now` (monotonic seconds)."""
        if not self.units or now < self.retry_at:
            return False
        return (
            len(self.units) >= MAX_UNITS
            or now - self.newest >= QUIET_SECONDS
            or now - self.oldest >= MAX_SECONDS
        )


class Epochs:
    """Keeps the ledgers and settles them. Without a chain, units are accepted and never paid."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._ledgers: dict[int, PoolLedger] = {}
        self._accepted: dict[tuple[str, bytes], bytes] = {}
        self._newest: dict[tuple[int, str], int] = {}
        self._nursery: trio.Nursery | None = None
        self.settled = 0

    def accepted_other(self, sender: str, unit_id: bytes, bundle_id: bytes) -> bool:
        """Whether the sender's unit was accepted in another bundle than this one.

        Senders choose unit ids, so one sender's say nothing about another's.
        """
        return self._accepted.get((sender, unit_id), bundle_id) != bundle_id

    async def accept(self, bundle: UnitBundle, sender: str) -> None:
        """Journal an accepted unit; it is paid with the next epoch."""
        body = {
            "bundle": bundle.content_id,
            "sender": sender,
            "receipts": [c.receipt.to_bytes() for c in bundle.stages if c.receipt is not None],
            "peers": {claim.address: claim.peer_id for claim in bundle.stages},
        }
        key = f"{sender}:{bundle.unit_id.hex()}"
        if await self._context.journal.append("self.accepted", key, body):
            self._take(bundle.unit_id, body)

    async def restore(self) -> None:
        """Ledgers as the journal has them."""
        for event in await self._context.journal.events(["self.accepted"]):
            self._take(bytes.fromhex(event.key.rpartition(":")[2]), event.body)
        for event in await self._context.journal.events(["self.epoch"]):
            earned = {a: int(v) for a, v in event.body["earned"].items()}
            self._ledger(event.body["pool_id"]).paid(
                event.body["units"], earned, self._context.now()
            )

    async def run(self) -> None:
        """Finish what an earlier run of this node began, then close epochs as they fall due."""
        if self._context.chain is None:
            return
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            earlier: dict[int, list[Event]] = {}
            for event in await self._context.journal.events(["self.epoch"]):
                earlier.setdefault(event.body["pool_id"], []).append(event)
            for pool_id, events in earlier.items():
                await nursery.start(self._resume, self._ledger(pool_id), events)
            while True:
                await trio.sleep(TICK_SECONDS)
                for ledger in list(self._ledgers.values()):
                    if ledger.due(self._context.now()) and not ledger.closing.locked():
                        nursery.start_soon(self._close, ledger)

    async def _resume(
        self,
        ledger: PoolLedger,
        events: list[Event],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Post what an earlier run journaled, in order and before anything newer of the pool."""
        async with ledger.closing:
            task_status.started()
            for event in events:
                if await self._context.journal.get("chain.posted", event.key) is None:
                    await self._post(event.key, event.body)
                if self._nursery is not None:
                    self._nursery.start_soon(self._publish, event.key, event.body)

    async def close_now(self) -> None:
        """Settle whatever waits, whether it is due or not."""
        if self._context.chain is None:
            return
        for ledger in list(self._ledgers.values()):
            if ledger.units:
                await self._close(ledger)

    def _take(self, unit_id: bytes, body: dict[str, Any]) -> None:
        self._accepted[body["sender"], unit_id] = body["bundle"]
        receipts = tuple(Receipt.from_bytes(data) for data in body["receipts"])
        if not receipts:
            return
        ledger = self._ledger(receipts[0].pool_id)
        ledger.orchestrator = body["sender"]
        ledger.take(unit_id, receipts, body["peers"], self._context.now())

    def _ledger(self, pool_id: int) -> PoolLedger:
        return self._ledgers.setdefault(pool_id, PoolLedger(pool_id))

    async def _close(self, ledger: PoolLedger) -> None:
        from chain.errors import ChainError

        async with ledger.closing:
            chosen = dict(list(ledger.units.items())[:MAX_UNITS])
            if not chosen:
                return
            try:
                epoch, accounts = await self._settle(ledger, chosen)
            except (ChainError, InputError, ProofError) as exc:
                self._context.log.error("cannot settle", pool=ledger.pool_id, reason=str(exc))
                ledger.retry_at = self._context.now() + LAST_RETRY_SECONDS
                return
            body = _epoch_body(epoch, ledger, chosen, accounts)
            key = f"{ledger.pool_id}:{epoch.root.epoch}"
            await self._context.journal.append("self.epoch", key, body)
            ledger.paid(chosen, epoch.cumulative(), self._context.now())
            await self._post(key, body)
            if self._nursery is not None:
                self._nursery.start_soon(self._publish, key, body)

    async def _settle(
        self, ledger: PoolLedger, units: dict[bytes, tuple[Receipt, ...]]
    ) -> tuple[Epoch, dict[str, str]]:
        chain = self._context.chain
        assert chain is not None
        pool = await chain.pool(ledger.pool_id)
        terms = PoolTerms.from_uri(pool.uri)
        funds = await chain.pool_funds(ledger.pool_id)
        accounts: dict[str, str] = {}
        receipts = [receipt for group in units.values() for receipt in group]
        root = await chain.latest_root(ledger.pool_id)
        if root is not None and root.total_payout > sum(ledger.earned.values()):
            raise InputError(
                f"pool {ledger.pool_id} was settled by another validator",
                "one validator settles a pool; this one does not know what that one has paid",
            )
        for worker in sorted({*(receipt.worker for receipt in receipts), *ledger.peers}):
            node = await chain.node(worker)
            accounts[worker] = node.provider if node is not None else worker
        epoch = settle(
            receipts,
            accounts,
            domain=chain.domain("ReceiptSettlement"),
            pool_id=ledger.pool_id,
            epoch=await chain.next_epoch(ledger.pool_id),
            price=int(terms.price_per_unit),
            budget=funds.funded - funds.committed,
            earned=ledger.earned,
        )
        return epoch, accounts

    async def _post(self, key: str, body: dict[str, Any]) -> None:
        """Put the root on chain; tried until it is there, since later epochs build on it."""
        from chain.errors import ChainError

        chain = self._context.chain
        assert chain is not None
        root = _root_of(body)
        signature = sign_digest(self._context.key, root.digest(chain.domain("ReceiptSettlement")))
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                result = await chain.post_root(root, [(self._context.address, signature)])
                break
            except ChainError as exc:
                self._context.log.warning("root not posted", epoch=root.epoch, reason=str(exc))
            await trio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)
        if result is None:
            return
        posted = {"hash": "0x" + result.hash.hex(), "gas": result.gas_used}
        await self._context.journal.append("chain.posted", key, posted, "chain")
        self.settled += len(body["units"])
        self._context.log.info(
            "epoch settled",
            pool=root.pool_id,
            epoch=root.epoch,
            units=len(body["units"]),
            transaction=posted["hash"],
            gas=result.gas_used,
        )

    async def _publish(self, key: str, body: dict[str, Any]) -> None:
        """Tell the orchestrator and every paid worker, each until it acknowledges."""
        posted = await self._context.journal.get("chain.posted", key)
        transaction = "" if posted is None else posted.body["hash"]
        root = _root_of(body)
        leaves = {leaf["account"]: leaf for leaf in body["leaves"]}
        claims: dict[str, dict[str, Any] | None] = {body["orchestrator"]: None}
        for address, peer_id in body["peers"].items():
            claims[peer_id] = leaves.get(body["accounts"].get(address, ""))
        async with trio.open_nursery() as nursery:
            for peer_id, leaf in claims.items():
                newest = self._newest.get((root.pool_id, peer_id), 0)
                self._newest[root.pool_id, peer_id] = max(root.epoch, newest)
                notice = Settled(
                    pool_id=root.pool_id,
                    epoch=root.epoch,
                    transaction=transaction,
                    payouts_root=root.payouts_root,
                    unit_ids=tuple(body["units"]),
                    claim=None if leaf is None else ClaimProof.model_validate(_tupled(leaf)),
                )
                nursery.start_soon(self._notify, key, peer_id, body["orchestrator"], notice)

    async def _notify(self, key: str, peer_id: str, owner: str, notice: Settled) -> None:
        sent = f"{key}:{peer_id}"
        if await self._context.journal.get("peer.notified", sent) is not None:
            return
        delay = FIRST_RETRY_SECONDS
        while peer_id == owner or notice.epoch >= self._newest[notice.pool_id, peer_id]:
            try:
                await call(self._context, peer_id, SETTLED, notice)
                break
            except P2PError as exc:
                self._context.log.debug("notice not taken", peer=peer_id, reason=str(exc))
            await trio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)
        await self._context.journal.append("peer.notified", sent)


def _epoch_body(
    epoch: Epoch,
    ledger: PoolLedger,
    units: dict[bytes, tuple[Receipt, ...]],
    accounts: dict[str, str],
) -> dict[str, Any]:
    """All that follows from an epoch, for the journal."""
    return {
        "pool_id": ledger.pool_id,
        "root": epoch.root.to_bytes(),
        "units": list(units),
        "earned": {account: str(amount) for account, amount in epoch.cumulative().items()},
        "leaves": [
            {"account": p.account, "cumulative": str(p.cumulative), "proof": list(p.proof)}
            for p in epoch.payouts
        ],
        "accounts": accounts,
        "peers": dict(ledger.peers),
        "orchestrator": ledger.orchestrator,
    }


def _root_of(body: dict[str, Any]) -> EpochRoot:
    return EpochRoot.from_bytes(body["root"])


def _tupled(leaf: dict[str, Any]) -> dict[str, Any]:
    return {**leaf, "proof": tuple(leaf["proof"])}
