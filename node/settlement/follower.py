"""What roles read of settlement, and what takes its place where there is no chain.

Where there is one, `node.settlement.chain_follower.ChainFollower` is the follower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from node.settlement.history import PoolHistory, PostedEpoch
from node.wire.blobs import BlobStore
from proofs.settlement.epoch_data import Epoch


class SettlementFollower(Protocol):
    """What roles read of settlement.

    `version` rises with every change; `disputes` are the open disputes' ids and the hash of the
    root that each is about. `wants` says whose epochs' data are fetched. A block counts once it is
    `confirmations` deep, its own block included.
    """

    version: int
    blobs: BlobStore
    confirmations: int
    wants: Callable[[int], bool]

    @property
    def histories(self) -> dict[int, PoolHistory]:
        """Histories by pool id."""

    @property
    def disputes(self) -> dict[int, bytes]:
        """Open disputes."""

    def history(self, pool_id: int) -> PoolHistory:
        """A pool's history; empty for one that was never settled."""

    def is_final(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        """Whether claims on a root are open, as far as its events tell."""

    async def data(self, entry: PostedEpoch) -> Epoch | None:
        """The data of an epoch, however old: from memory, from the disk or from peers; None where
        nobody has them."""

    def now(self) -> float:
        """Unix seconds by the clock that decides what is too late."""

    def look_again(self) -> None:
        """`wants` answers differently now."""

    async def wait_changed(self, version: int) -> int:
        """Wait until something is newer than `version`; returns the new version."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once what the journal has is known."""


class NothingSettled:
    """Settlement where there is no chain: no pool has a history, and none ever gets one."""

    def __init__(self, blobs: BlobStore, now: Callable[[], float]) -> None:
        self.blobs = blobs
        self.confirmations = 1
        self._now = now
        self.version = 0
        self.wants: Callable[[int], bool] = lambda _pool_id: False
        self.histories: dict[int, PoolHistory] = {}
        self.disputes: dict[int, bytes] = {}

    def now(self) -> float:
        """Unix seconds by our own clock."""
        return self._now()

    def history(self, pool_id: int) -> PoolHistory:
        """An empty history."""
        return PoolHistory(pool_id)

    def is_final(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        """Never: nothing pays."""
        return False

    async def data(self, entry: PostedEpoch) -> Epoch | None:
        """None: no epoch was ever posted."""
        return None

    def look_again(self) -> None:
        """There is nothing to look at."""

    async def wait_changed(self, version: int) -> int:
        """Wait for ever."""
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Nothing to follow; others serve the blobs."""
        task_status.started()
