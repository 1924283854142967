"""Getting the published data of posted epochs, from whoever has them.

Each root has a task of its own, which asks until somebody has its data or the root is gone; it
waits for nobody else. Data count when they rebuild exactly the posted root, whoever sent them. That
they did is noted in the journal, with what they paid for, so that a restart reads only the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from node.context import NodeContext
from node.retry import Backoff, tries
from node.settlement.history import KEPT, PoolHistory, PostedEpoch
from node.settlement.paid import PaidWork, root_hash
from node.wire.blobs import BlobStore
from node.wire.peer_addresses import peers_by_address
from proofs.errors import ProofError
from proofs.settlement.epoch_data import Epoch, rebuild


class LeafFetcher:
    """Fills histories. `filled` is called whenever an epoch's data were added to one."""

    def __init__(
        self,
        context: NodeContext,
        blobs: BlobStore,
        paid: PaidWork,
        backoff: Backoff,
        filled: Callable[[], None],
    ) -> None:
        self._context = context
        self._blobs = blobs
        self._paid = paid
        self._backoff = backoff
        self._filled = filled
        self._under_way: set[tuple[int, int, bytes]] = set()

    @property
    def idle(self) -> bool:
        """Whether nothing is being fetched."""
        return not self._under_way

    def start(
        self, nursery: trio.Nursery, history: PoolHistory, entries: Iterable[PostedEpoch]
    ) -> None:
        """Fetch the data of these entries in tasks of `nursery`, unless that is under way."""
        for entry in entries:
            key = (history.pool_id, entry.number, entry.posted.root.data_hash)
            if key not in self._under_way:
                self._under_way.add(key)
                self._context.supervisor.keep(
                    nursery, "settlement: epoch data", self._fetch, history, entry, key
                )

    async def restore(self, histories: Iterable[PoolHistory], *, newest: bool) -> None:
        """Fill histories with what is here already: epochs that earlier runs have seen by their
        rows, all others from the blob folder; `newest`: only the newest ones of those."""
        known = await self._paid.filled()
        for history in histories:
            for entry in list(history.entries):
                root = known.get((history.pool_id, entry.number))
                if root is not None and root == root_hash(entry.posted.root):
                    history.trust(entry.number)
            for entry in history.missing():
                if newest and entry.number <= history.last - KEPT:
                    continue
                epoch = await self._rebuilt(await self._blobs.get(entry.posted.root.data_hash))
                if epoch is not None and history.fits(entry.number, epoch):
                    await self._paid.note(entry.posted.root, epoch)
                    history.fill(entry.number, epoch)

    async def data_of(self, entry: PostedEpoch) -> Epoch | None:
        """The data of an epoch, however old: from memory, from the disk or from peers; None where
        nobody has them."""
        if entry.epoch is not None:
            return entry.epoch
        peers = self._peers(entry.posted.signers)
        return await self._rebuilt(await self._blobs.fetch(entry.posted.root.data_hash, peers))

    async def _fetch(
        self, history: PoolHistory, entry: PostedEpoch, key: tuple[int, int, bytes]
    ) -> None:
        digest, signers = entry.posted.root.data_hash, entry.posted.signers
        self._under_way.add(key)
        try:
            async for _ in tries(self._backoff):
                known = history.get(entry.number)
                if known is None or known.posted != entry.posted:
                    return
                epoch = await self._rebuilt(await self._blobs.fetch(digest, self._peers(signers)))
                if epoch is not None:
                    await self._take(history, entry, epoch)
                    return
        finally:
            self._under_way.discard(key)

    async def _take(self, history: PoolHistory, entry: PostedEpoch, epoch: Epoch) -> None:
        root = entry.posted.root
        if history.fits(entry.number, epoch):
            await self._paid.note(root, epoch)
        known = history.get(entry.number)
        if known is None or known.posted != entry.posted:
            return  # it went meanwhile; whoever comes in its place replaces its rows
        if not history.fill(entry.number, epoch):
            self._context.log.error(
                "published leaves are not the posted root's", pool=root.pool_id, epoch=root.epoch
            )
            return
        self._filled()
        await self._blobs.announce(root.data_hash)

    async def _rebuilt(self, content: bytes | None) -> Epoch | None:
        if content is None:
            return None
        try:
            return await trio.to_thread.run_sync(rebuild, content, self._context.receipt_domain)
        except ProofError as exc:
            self._context.log.warning("epoch data are malformed", reason=str(exc))
            return None

    def _peers(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Peer ids of signers, as far as their records are here."""
        peers = peers_by_address(self._context.network)
        return tuple(peers[address] for address in addresses if address in peers)
