"""Following the settlement contract: its events in, verified histories of pools out.

Everything that any role knows of settlement comes from here, and here it comes from the chain: a
root counts when its event is deep enough, its leaves when they rebuild exactly that root, whoever
sent them. What was seen is journaled before it is acted on, so that a restart knows it before it
has read a single block; events that come again change nothing.

Fetching leaves waits for nobody else: each root has a task of its own, which asks until somebody
has them or the root is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from node.context import NodeContext
from node.settlement.history import PoolHistory, PostedEpoch
from node.wire.blobs import BlobStore
from node.wire.peer_addresses import peers_by_address
from proofs.encoding.leaves import PostedRoot
from proofs.encoding.receipts import EpochRoot
from proofs.errors import ProofError
from proofs.settlement.epoch_data import Epoch, rebuild

if TYPE_CHECKING:
    from chain.client import ChainClient
    from chain.events.reader import Batch
    from chain.events.settlement_events import SettlementEvent

CURSOR = "settlement"
CONTRACTS = ("ReceiptSettlement",)
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 30.0
CHAIN_RETRY_SECONDS = 2.0
KINDS = ("chain.root", "chain.void", "chain.rewind", "chain.dispute", "chain.answered")


class SettlementFollower:
    """Histories of pools. `wants` says whose leaves are fetched; `all_epochs` whether those of
    older epochs are, too, and not the newest alone."""

    def __init__(
        self,
        context: NodeContext,
        blobs: BlobStore,
        *,
        all_epochs: bool,
        poll: float,
        confirmations: int,
    ) -> None:
        self._context = context
        self.blobs = blobs
        self.wants: Callable[[int], bool] = lambda _pool_id: False
        self._all_epochs = all_epochs
        self._poll = poll
        self.confirmations = confirmations
        self._nursery: trio.Nursery | None = None
        self._filling: set[tuple[int, int, bytes]] = set()
        self._changed = trio.Event()
        self._rewinds = 0
        self._ahead = 0.0
        self._dispute_steps: list[tuple[int, int, bytes | None]] = []
        self.version = 0
        self.histories: dict[int, PoolHistory] = {}
        self.disputes: dict[int, bytes] = {}
        """Open disputes' ids and the hash of the root that each is about."""

    def history(self, pool_id: int) -> PoolHistory:
        """A pool's history; empty for one that was never settled."""
        return self.histories.setdefault(pool_id, PoolHistory(pool_id))

    async def wait_changed(self, version: int) -> int:
        """Wait until something is newer than `version`; returns the new version."""
        while self.version <= version:
            await self._changed.wait()
        return self.version

    def is_final(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        """Whether claims on a root are open, as far as its events tell."""
        if entry.number < history.last:
            return True
        standing = entry.posted.hash(self._context.receipt_domain)
        disputed = standing in self.disputes.values()
        return self.now() >= entry.claimable_at and not disputed

    def now(self) -> float:
        """Unix seconds by the chain's clock, which decides what is too late. It stamps blocks when
        they are made, so it is ours unless the newest block is from our future."""
        return self._context.wall() + self._ahead

    def look_again(self) -> None:
        """`wants` answers differently now."""
        self._fill_all()
        self._notify()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled; started once what the journal has is known."""
        chain = self._context.chain
        if chain is None:
            task_status.started()
            return
        await self._restore()
        await self._look_at_clock(chain)
        self.blobs.serve()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._fill_all()
            task_status.started()
            await self._follow(chain)

    async def _look_at_clock(self, chain: ChainClient) -> None:
        """Before anybody acts on what was restored; later every batch tells."""
        from chain.errors import ChainError

        try:
            head = await chain.rpc.block("latest")
        except ChainError as exc:
            self._context.log.warning("chain not readable", reason=str(exc))
            return
        if head is not None:
            self._ahead = max(head.timestamp - self._context.wall(), 0.0)

    async def _follow(self, chain: ChainClient) -> None:
        from chain.errors import ChainError
        from chain.events.reader import EventReader

        reader = EventReader(
            chain.rpc,
            chain.deployment,
            chain.database,
            CURSOR,
            CONTRACTS,
            confirmations=self.confirmations,
            poll=self._poll,
        )
        while True:
            try:
                async for batch in reader.batches():
                    await self._take_batch(batch)
            except ChainError as exc:
                self._context.log.warning("chain not readable", reason=str(exc))
                await trio.sleep(CHAIN_RETRY_SECONDS)

    async def _take_batch(self, batch: Batch) -> None:
        from chain.events.settlement_events import read_event

        self._ahead = max(batch.last.timestamp - self._context.wall(), 0.0)
        if batch.void_after is not None:
            key = f"{batch.void_after}:{batch.last.hash.hex()}"
            await self._record("chain.rewind", key, {"block": batch.void_after})
        for event in batch.events:
            decoded = read_event(event)
            if decoded is not None:
                # A transaction may come back where it was, in the block that replaced its own.
                place = f"{event.block_number}:{event.log_index}:{event.tx_hash.hex()}"
                where = f"{self._rewinds}:{place}"
                await self._take(decoded, where, event.block_number, event.tx_hash)

    async def _take(self, event: SettlementEvent, where: str, block: int, tx: bytes) -> None:
        from chain.events.settlement_events import (
            DisputeClosed,
            DisputeOpened,
            RootPosted,
            RootVoided,
        )

        match event:
            case RootPosted(posted=posted, claimable_at=claimable_at):
                body: dict[str, Any] = {
                    "root": posted.root.to_bytes(),
                    "signers": list(posted.signers),
                    "claimable_at": claimable_at,
                    "block": block,
                    "transaction": "0x" + tx.hex(),
                }
                await self._record("chain.root", where, body)
            case RootVoided(pool_id=pool_id, epoch=epoch):
                body = {"pool_id": pool_id, "epoch": epoch, "block": block}
                await self._record("chain.void", where, body)
            case DisputeOpened(dispute_id=dispute_id, dispute=dispute):
                body = {"id": dispute_id, "root": dispute.root, "block": block}
                await self._record("chain.dispute", where, body)
            case DisputeClosed(dispute_id=dispute_id):
                body = {"id": dispute_id, "block": block}
                await self._record("chain.answered", where, body)

    async def _record(self, kind: str, key: str, body: dict[str, Any]) -> None:
        """Journal what the chain says, then act on it."""
        fresh = await self._context.journal.append(kind, key, body)
        self._rewinds += fresh and kind == "chain.rewind"
        if self._apply(kind, body):
            self._fill_all()
            self._notify()

    async def _restore(self) -> None:
        for event in await self._context.journal.events(list(KINDS)):
            self._apply(event.kind, event.body)
            self._rewinds += event.kind == "chain.rewind"
        for history in self.histories.values():
            for entry in history.missing():
                content = await self.blobs.get(entry.posted.root.data_hash)
                epoch = await self._rebuilt(content)
                if epoch is not None:
                    history.fill(entry.number, epoch)

    def _apply(self, kind: str, body: dict[str, Any]) -> bool:
        """Take one journaled fact in; whether it changed anything."""
        match kind:
            case "chain.root":
                root = EpochRoot.from_bytes(body["root"])
                posted = PostedRoot(root, tuple(body["signers"]))
                entry = PostedEpoch(
                    posted, body["claimable_at"], body["block"], body["transaction"]
                )
                return self.history(root.pool_id).post(entry)
            case "chain.void":
                return self.history(body["pool_id"]).void(body["epoch"], body["block"]) is not None
            case "chain.rewind":
                for history in self.histories.values():
                    history.rewind(body["block"])
                self._rewind_disputes(body["block"])
            case "chain.dispute":
                self._dispute_changed(body["block"], body["id"], body["root"])
            case "chain.answered":
                self._dispute_changed(body["block"], body["id"], None)
        return True

    def _dispute_changed(self, block: int, dispute_id: int, root: bytes | None) -> None:
        """Opened (about a root's hash) or closed."""
        self._dispute_steps.append((block, dispute_id, root))
        if root is None:
            self.disputes.pop(dispute_id, None)
        else:
            self.disputes[dispute_id] = root

    def _rewind_disputes(self, block: int) -> None:
        steps = [step for step in self._dispute_steps if step[0] <= block]
        self._dispute_steps.clear()
        self.disputes.clear()
        for step in steps:
            self._dispute_changed(*step)

    # -- leaves --------------------------------------------------------------------------------

    def _fill_all(self) -> None:
        """Start fetching what is wanted and neither here nor being fetched."""
        for history in self.histories.values():
            if not self.wants(history.pool_id) or self._nursery is None:
                continue
            for entry in history.missing():
                key = (history.pool_id, entry.number, entry.posted.root.data_hash)
                if key in self._filling or not (self._all_epochs or entry.number == history.last):
                    continue
                self._filling.add(key)
                self._nursery.start_soon(self._fill, history, entry)

    async def _fill(self, history: PoolHistory, entry: PostedEpoch) -> None:
        root, delay = entry.posted.root, FIRST_RETRY_SECONDS
        try:
            while True:
                known = history.get(entry.number)
                if known is None or known.posted != entry.posted:
                    return
                content = await self.blobs.fetch(root.data_hash, self._peers(entry.posted.signers))
                epoch = await self._rebuilt(content)
                if epoch is not None:
                    if not history.fill(entry.number, epoch):
                        self._context.log.error(
                            "published leaves are not the posted root's",
                            pool=root.pool_id,
                            epoch=root.epoch,
                        )
                        return
                    self._notify()
                    await self.blobs.announce(root.data_hash)
                    return
                await trio.sleep(delay)
                delay = min(delay * 2, LAST_RETRY_SECONDS)
        finally:
            self._filling.discard((history.pool_id, entry.number, root.data_hash))

    async def _rebuilt(self, content: bytes | None) -> Epoch | None:
        if content is None:
            return None
        domain = self._context.receipt_domain
        try:
            return await trio.to_thread.run_sync(rebuild, content, domain)
        except ProofError as exc:
            self._context.log.warning("epoch data are malformed", reason=str(exc))
            return None

    def _peers(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Peer ids of signers, as far as their records are here."""
        peers = peers_by_address(self._context.network)
        return tuple(peers[address] for address in addresses if address in peers)

    def _notify(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = trio.Event()
