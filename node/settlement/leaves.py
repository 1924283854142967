"""Getting the published data of posted epochs, from whoever has them.

A root is asked about until somebody has its data or it is gone. A few tasks do that for all roots,
pools in turn (`wanted.py`). Data count when they rebuild exactly the posted root, whoever sent
them. That they did is noted in the journal, with what they paid for, so that a restart reads only
the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.retry import Backoff
from node.settlement.history import KEPT, PoolHistory, PostedEpoch
from node.settlement.paid import PaidWork, root_hash
from node.settlement.wanted import Wanted
from node.wire.blobs import BlobStore
from node.wire.peer_addresses import peers_by_address
from proofs.errors import ProofError
from proofs.settlement.epoch_data import Epoch, rebuild


@dataclass(frozen=True)
class FetchLimits:
    """How many epochs' data are fetched at a time, in all and of one pool, and the seconds that one
    try may take, with whomever."""

    fetchers: int = 8
    per_pool: int = 2
    seconds: float = 180.0


class LeafFetcher:
    """Fills histories. `filled` is called whenever an epoch's data were added to one."""

    def __init__(
        self,
        context: NodeContext,
        blobs: BlobStore,
        paid: PaidWork,
        backoff: Backoff,
        filled: Callable[[], None],
        limits: FetchLimits | None = None,
    ) -> None:
        self._context = context
        self._blobs = blobs
        self._paid = paid
        self._filled = filled
        self._limits = limits or FetchLimits()
        self._wanted: Wanted[tuple[PoolHistory, PostedEpoch]] = Wanted(
            backoff.pause, self._limits.per_pool
        )
        self._changed = trio.Event()

    @property
    def idle(self) -> bool:
        """Whether nothing is wanted."""
        return not len(self._wanted)

    def want(self, history: PoolHistory, entries: Iterable[PostedEpoch]) -> None:
        """Have the data of these entries fetched, each in its turn."""
        now = trio.current_time()
        for entry in entries:
            key = (history.pool_id, entry.number, entry.posted.root.data_hash)
            if self._wanted.add(key, (history, entry), now):
                self._wake()

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._limits.fetchers):
                self._context.supervisor.keep(nursery, "settlement: epoch data", self._work)

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

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _work(self) -> None:
        while True:
            changed, taken = self._changed, self._wanted.take(trio.current_time())
            if taken is None:
                with trio.move_on_at(self._wanted.due_at()):
                    await changed.wait()
                continue
            key, (history, entry) = taken
            over = False
            try:
                over = await self._fetch(history, entry)
            finally:
                if over:
                    self._wanted.done(key)
                else:
                    self._wanted.failed(key, trio.current_time())
                self._wake()

    async def _fetch(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        """Try once; whether that was the last try: the data are here, or the root is gone."""
        known = history.get(entry.number)
        if known is None or known.posted != entry.posted:
            return True
        content = None
        with trio.move_on_after(self._limits.seconds):
            peers = self._peers(entry.posted.signers)
            content = await self._blobs.fetch(entry.posted.root.data_hash, peers)
        epoch = await self._rebuilt(content)
        if epoch is None:
            return False
        await self._take(history, entry, epoch)
        return True

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
