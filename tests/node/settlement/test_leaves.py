"""What a restart reads of epochs' data, and where older ones come from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from node.config.schema import NodeConfig
from node.context import NodeContext
from node.journal import AsyncJournal, open_journal
from node.metrics import NodeMetrics
from node.retry import Backoff
from node.roles.orchestrator.settlement_watch import SettlementWatch
from node.settlement.follower import NothingSettled
from node.settlement.history import KEPT, PoolHistory, PostedEpoch
from node.settlement.leaves import LeafFetcher
from node.settlement.paid import PaidWork
from node.wire.blobs import BlobStore
from proofs.settlement.epoch_data import Epoch
from tests.node.settlement.test_history import epoch_after, posted
from tests.proofs.settlement.epochs import DOMAIN

COUNT = KEPT + 3


class Quiet(BlobStore):
    """Counts what it reads, and knows nobody to ask."""

    def __init__(self, context: NodeContext) -> None:
        super().__init__(context)
        self.read: list[bytes] = []

    async def get(self, digest: bytes) -> bytes | None:
        self.read.append(digest)
        return await super().get(digest)

    def _neighbours(self) -> list[str]:
        return []

    async def _providers(self, digest: bytes) -> list[str]:
        return []


def epochs() -> list[Epoch]:
    made: list[Epoch] = []
    for number in range(1, COUNT + 1):
        made.append(epoch_after(made[-1] if made else None, number))
    return made


def history_of(made: list[Epoch]) -> PoolHistory:
    history = PoolHistory(1)
    for number, epoch in enumerate(made, 1):
        history.post(posted(epoch, number))
    return history


@asynccontextmanager
async def fetcher(folder: Path) -> AsyncIterator[tuple[LeafFetcher, Quiet, AsyncJournal]]:
    """One life of a fetcher that has a journal and a blob folder."""
    nothing: Any = None
    async with open_journal(folder / "journal.sqlite") as journal:
        (folder / "blobs").mkdir(exist_ok=True)
        context = NodeContext(
            config=NodeConfig(data_dir=folder),
            network_name="test",
            key=bytes(32),
            peer_id="test",
            address="",
            provider="",
            network=nothing,
            journal=journal,
            receipt_domain=DOMAIN,
            metrics=NodeMetrics(),
            engine_dir=folder,
            blobs=folder / "blobs",
            log=structlog.get_logger("test"),
        )
        blobs = Quiet(context)
        made = LeafFetcher(context, blobs, PaidWork(journal), Backoff(1.0, 1.0), lambda: None)
        made._peers = lambda _addresses: ()  # type: ignore[method-assign]
        yield made, blobs, journal


async def test_a_restart_reads_the_newest_data_alone_and_knows_what_all_have_paid(
    tmp_path: Path,
) -> None:
    made = epochs()
    async with fetcher(tmp_path) as (leaves, blobs, _):
        for epoch in made:
            await blobs.put(epoch.content)
        history = history_of(made)
        await leaves.restore([history], newest=False)
        assert history.complete(COUNT)
    async with fetcher(tmp_path) as (leaves, blobs, journal):
        history = history_of(made)
        await leaves.restore([history], newest=False)
        assert history.complete(COUNT)
        assert blobs.read == [epoch.root.data_hash for epoch in made[-KEPT:]]
        everything = [unit for epoch in made for unit, _ in epoch.work]
        assert await PaidWork(journal).units(1, everything, COUNT) == set(everything)


async def test_data_that_were_lost_are_missing_again_only_where_they_are_needed(
    tmp_path: Path,
) -> None:
    made = epochs()
    async with fetcher(tmp_path) as (leaves, blobs, _):
        for epoch in made:
            await blobs.put(epoch.content)
        await leaves.restore([history_of(made)], newest=False)
    for epoch in (made[0], made[-1]):
        (tmp_path / "blobs" / f"{epoch.root.data_hash.hex()}.epoch").unlink()
    async with fetcher(tmp_path) as (leaves, _, _):
        history = history_of(made)
        await leaves.restore([history], newest=False)
        assert [entry.number for entry in history.missing()] == [COUNT]
        assert not history.complete(COUNT)
        assert history.complete(COUNT - 1)
        first, second = history.entries[:2]
        assert await leaves.data_of(first) is None
        assert await leaves.data_of(second) == made[1]


class Followed(NothingSettled):
    """A chain on which one pool's epochs are all final."""

    def __init__(self, leaves: LeafFetcher, blobs: BlobStore, history: PoolHistory) -> None:
        super().__init__(blobs, lambda: 0.0)
        self._leaves, self._history = leaves, history

    def history(self, pool_id: int) -> PoolHistory:
        return self._history

    def is_final(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        return True

    async def data(self, entry: PostedEpoch) -> Epoch | None:
        return await self._leaves.data_of(entry)


async def test_an_orchestrator_that_was_away_learns_of_epochs_that_are_not_in_memory(
    tmp_path: Path,
) -> None:
    made = epochs()
    async with fetcher(tmp_path) as (leaves, blobs, journal):
        for epoch in made:
            await blobs.put(epoch.content)
        history = history_of(made)
        await leaves.restore([history], newest=False)
        watch = SettlementWatch(Followed(leaves, blobs, history), journal, 1)
        await watch.restore()
        assert await watch.note_final() == COUNT
        assert await watch.note_final() == 0
        paid = await journal.read(lambda c: c.execute("SELECT COUNT(*) FROM epochs").fetchone())
        assert paid == (COUNT,)
