"""However many roots' data are missing, a few tasks fetch them, and every pool has its turn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import structlog
import trio
import trio.testing

from node.retry import Backoff
from node.settlement.history import PoolHistory, PostedEpoch
from node.settlement.leaves import FetchLimits, LeafFetcher
from node.supervisor.supervisor import Supervisor
from proofs.encoding.leaves import PostedRoot
from proofs.encoding.receipts import EpochRoot
from proofs.settlement.epoch_data import Epoch
from tests.proofs.settlement.epochs import settled, signed
from tests.proofs.units import DOMAIN

GOOD = settled([signed(1), signed(1, 1)])
LIMITS = FetchLimits(fetchers=3, per_pool=2, seconds=100.0)


class Paid:
    """Notes nothing."""

    async def note(self, root: EpochRoot, epoch: Epoch) -> None:
        await trio.lowlevel.checkpoint()


class Blobs:
    """Has the data of one epoch; whoever asks for others waits for ever."""

    def __init__(self) -> None:
        self.asking = 0
        self.most = 0
        self.asked = 0

    async def fetch(self, digest: bytes, first: tuple[str, ...] = ()) -> bytes | None:
        self.asked += 1
        self.asking += 1
        self.most = max(self.most, self.asking)
        try:
            if digest != GOOD.root.data_hash:
                await trio.sleep_forever()
            await trio.lowlevel.checkpoint()
            return GOOD.content
        finally:
            self.asking -= 1

    async def announce(self, digest: bytes) -> None:
        """Nobody listens."""


def hostile(pool_id: int, epochs: int) -> PoolHistory:
    """Roots whose data nobody gives."""
    history = PoolHistory(pool_id)
    for epoch in range(1, epochs + 1):
        changes = {"pool_id": pool_id, "epoch": epoch, "data_hash": bytes([epoch]) * 32}
        root = GOOD.root.model_copy(update=changes)
        history.post(PostedEpoch(PostedRoot(root, ()), 100, epoch, "0x"))
    return history


async def test_roots_that_nobody_has_keep_no_other_waiting_for_long(
    mock_clock: trio.testing.MockClock,
) -> None:
    blobs: Any = Blobs()
    paid: Any = Paid()
    filled = trio.Event()
    context: Any = SimpleNamespace(
        network=SimpleNamespace(records=SimpleNamespace(all=list)),
        receipt_domain=DOMAIN,
        supervisor=Supervisor(),
        log=structlog.get_logger(),
    )
    fetcher = LeafFetcher(context, blobs, paid, Backoff(0.5, 30.0), filled.set, LIMITS)
    for pool in (2, 3):
        history = hostile(pool, 50)
        fetcher.want(history, history.missing())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        await trio.testing.wait_all_tasks_blocked()
        assert blobs.asking == LIMITS.fetchers
        mine = PoolHistory(1)
        mine.post(PostedEpoch(PostedRoot(GOOD.root, ()), 100, 5, "0x"))
        for _ in range(3):  # whatever changes elsewhere
            fetcher.want(mine, mine.missing())
        mock_clock.jump(LIMITS.seconds)
        await filled.wait()
        assert mine.complete(1)
        assert blobs.most == LIMITS.fetchers
        assert not fetcher.idle
        nursery.cancel_scope.cancel()


async def test_a_root_that_is_gone_is_wanted_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    blobs: Any = Blobs()
    paid: Any = Paid()
    context: Any = SimpleNamespace(supervisor=Supervisor())
    fetcher = LeafFetcher(context, blobs, paid, Backoff(0.5, 30.0), lambda: None, LIMITS)
    history = hostile(1, 2)
    fetcher.want(history, history.missing())
    history.void(2, 9)
    history.void(1, 9)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        await trio.testing.wait_all_tasks_blocked()
        assert fetcher.idle
        assert blobs.asked == 0
        nursery.cancel_scope.cancel()
