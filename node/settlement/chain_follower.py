"""Following the settlement contract: its events in, verified histories of pools out.

Everything that any role knows of settlement comes from here, and here it comes from the chain: a
root counts when its event is deep enough, its leaves when they rebuild exactly that root, whoever
sent them. What was seen is journaled before it is acted on, so that a restart knows it before it
has read a single block; events that come again change nothing.

Where there is no chain a node has a `node.settlement.follower.NothingSettled` in its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from chain.errors import ChainError
from node.context import NodeContext
from node.retry import Backoff
from node.settlement.events import FACTS, RewindSeen, SettlementFact
from node.settlement.history import PoolHistory, PostedEpoch
from node.settlement.leaves import LeafFetcher
from node.settlement.paid import PaidWork
from node.settlement.reading import read_fact
from node.settlement.state import SettlementState
from node.wire.blobs import BlobStore
from proofs.settlement.epoch_data import Epoch

if TYPE_CHECKING:
    from chain.client import ChainClient
    from chain.events.reader import Batch

CURSOR = "settlement"
CONTRACTS = ("ReceiptSettlement",)
WELL_AFTER = 30.0
"""Seconds without a failed look, after which a chain counts as readable again."""


@dataclass(frozen=True)
class FollowerTiming:
    """Seconds. `poll` between looks at the chain, `unreadable` after those that failed; `leaves`
    between tries to fetch an epoch's data."""

    poll: float = 0.5
    unreadable: Backoff = Backoff(2.0, 30.0)
    leaves: Backoff = Backoff(0.5, 30.0)


class EventSource(Protocol):
    """Where the contract's events come from: `chain.events.reader.EventReader`."""

    def batches(self) -> AsyncIterator[Batch]:
        """Batches in chain order, each marked as handled when the next one is asked for."""


class ChainFollower:
    """Histories of pools. `wants` says whose leaves are fetched; `all_epochs` whether those of
    older epochs are, too, and not the newest alone; `pays_by_work` whether it is kept what each of
    them paid for."""

    def __init__(
        self,
        context: NodeContext,
        chain: ChainClient,
        source: EventSource,
        blobs: BlobStore,
        *,
        all_epochs: bool,
        pays_by_work: bool,
        confirmations: int,
        timing: FollowerTiming | None = None,
    ) -> None:
        self._context = context
        self._chain = chain
        self._source = source
        self.blobs = blobs
        self.wants: Callable[[int], bool] = lambda _pool_id: False
        self._all_epochs = all_epochs
        self.confirmations = confirmations
        self._timing = timing or FollowerTiming()
        self._state = SettlementState()
        paid = PaidWork(context.journal, by_work=pays_by_work)
        self._fetcher = LeafFetcher(context, blobs, paid, self._timing.leaves, self._notify)
        self._running = False
        self._changed = trio.Event()
        self._ahead = 0.0
        self.version = 0

    @property
    def histories(self) -> dict[int, PoolHistory]:
        """Histories by pool id."""
        return self._state.histories

    @property
    def disputes(self) -> dict[int, bytes]:
        """Open disputes' ids and the hash of the root that each is about."""
        return self._state.disputes

    @property
    def fetching(self) -> bool:
        """Whether epochs' data are being fetched."""
        return not self._fetcher.idle

    def history(self, pool_id: int) -> PoolHistory:
        """A pool's history; empty for one that was never settled."""
        return self._state.history(pool_id)

    async def wait_changed(self, version: int) -> int:
        """Wait until something is newer than `version`; returns the new version."""
        while self.version <= version:
            await self._changed.wait()
        return self.version

    def is_final(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        """Whether claims on a root are open, as far as its events tell."""
        domain = self._context.receipt_domain
        return self._state.is_final(history.pool_id, entry, domain, self.now())

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
        await self.restore()
        await self._look_at_clock()
        self.blobs.serve()
        async with trio.open_nursery() as nursery:
            self._running = True
            self._fill_all()
            task_status.started()
            nursery.start_soon(self._fetcher.run)
            self._context.supervisor.keep(nursery, "settlement: chain", self._follow)

    async def restore(self) -> None:
        """What the journal and the blob folder have."""
        for fact in await self._context.journal.replay(*FACTS):
            self._state.apply(fact)
        await self._fetcher.restore(self.histories.values(), newest=not self._all_epochs)

    async def data(self, entry: PostedEpoch) -> Epoch | None:
        """The data of an epoch, however old: from memory, from the disk or from peers; None where
        nobody has them."""
        return await self._fetcher.data_of(entry)

    async def _look_at_clock(self) -> None:
        """Before anybody acts on what was restored; later every batch tells."""
        try:
            head = await self._chain.rpc.block("latest")
        except ChainError as exc:
            self._context.log.warning("chain not readable", reason=str(exc))
            return
        if head is not None:
            self._ahead = max(head.timestamp - self._context.wall(), 0.0)

    async def _follow(self) -> None:
        failed, well_from = 0, float("-inf")
        while True:
            try:
                async for batch in self._source.batches():
                    await self._take_batch(batch)
            except ChainError as exc:
                failed = failed + 1 if trio.current_time() < well_from else 1
                if failed == 1:
                    self._context.log.warning("chain not readable", reason=str(exc))
                pause = self._timing.unreadable.pause(failed)
                well_from = trio.current_time() + pause + WELL_AFTER
                await trio.sleep(pause)

    async def _take_batch(self, batch: Batch) -> None:
        self._ahead = max(batch.last.timestamp - self._context.wall(), 0.0)
        if batch.void_after is not None:
            await self._record(RewindSeen(after_block=batch.void_after, head=batch.last.hash))
        for event in batch.events:
            fact = read_fact(event, self._state.rewinds)
            if fact is not None:
                await self._record(fact)

    async def _record(self, fact: SettlementFact) -> None:
        """Journal what the chain says, then act on it."""
        (fresh,) = await self._context.journal.record(fact)
        if self._state.apply(fact, fresh=fresh):
            self._fill_all()
            self._notify()

    def _fill_all(self) -> None:
        """Start fetching what is wanted and neither here nor being fetched."""
        if not self._running:
            return
        for history in self.histories.values():
            if self.wants(history.pool_id):
                missing = history.missing()
                if not self._all_epochs:
                    missing = [entry for entry in missing if entry.number == history.last]
                self._fetcher.want(history, missing)

    def _notify(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = trio.Event()
