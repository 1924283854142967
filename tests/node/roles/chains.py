"""A chain of nothing but blocks, and a context on it whose clock is trio's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog
import trio

from chain.encoding.records import Block
from chain.encoding.views import PoolFunds, Strategy
from chain.errors import ChainUnreachable
from node.config.schema import NodeConfig
from node.context import NodeContext
from node.journal import Journal, WriterLimits, open_journal
from node.metrics import NodeMetrics
from node.onchain.receipt_domain import NO_CHAIN
from node.retry import Backoff
from p2p.identity import peer_id_of
from proofs.encoding.signing import address_of
from tests.node.journal.disks import Disk


def block_hash(number: int) -> bytes:
    return sha256(b"block %d" % number).digest()


class Chain:
    """`head` blocks at the start and one more every `interval` seconds (0: no more). `made` is when
    the first head was made. What is slashed and paid is the same for everybody."""

    def __init__(self, head: int = 100, interval: float = 0.0, made: float = 0.0) -> None:
        self._first, self._interval, self._made = head, interval, made
        self.rpc = self.nodes = self.pools = self.settlement = self.providers = self
        self.down = False
        self.loss = 20 * 10**18
        self.rate = 10**14
        self.fleet = 1
        self.asked = 0

    def _head(self) -> int:
        passed = trio.current_time() - self._made
        return self._first + (int(passed / self._interval) if self._interval else 0)

    async def block(self, tag: int | str) -> Block | None:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.down:
            raise ChainUnreachable("http://test", "down")
        head = self._head()
        number = tag if isinstance(tag, int) else head
        if number > head:
            return None
        timestamp = self._made + (number - self._first) * self._interval
        return Block(
            number=number,
            hash=block_hash(number),
            parent_hash=block_hash(number - 1),
            timestamp=max(int(timestamp), 0),
        )

    async def block_hash(self, number: int) -> bytes | None:
        block = await self.block(number)
        return None if block is None else block.hash

    async def owner_of(self, node: str) -> str | None:
        return node

    async def nodes_of(self, provider: str) -> list[str]:
        return [provider] * self.fleet

    async def conviction_loss(self, provider: str) -> int:
        await self.block("latest")
        return self.loss

    async def funds(self, pool_id: int) -> PoolFunds:
        return PoolFunds(
            strategy=Strategy.WORK, settlement=None, rate=self.rate, funded=0, paid=0, committed=0
        )


@dataclass(frozen=True)
class TrioContext(NodeContext):
    """A node's context whose clocks are trio's."""

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return trio.current_time()


@asynccontextmanager
async def open_context(
    folder: Path,
    policy: dict[str, Any] | None = None,
    disk: Disk | None = None,
    network: Any = None,
    **validator: Any,
) -> AsyncIterator[NodeContext]:
    """The context of a node that has a journal, on `disk`, but no peers (or what plays them);
    `policy` and `validator` are settings of those sections."""
    key = sha256(b"a node without peers").digest()
    address = address_of(key)
    store = Journal if disk is None else disk.open
    limits = WriterLimits(retry=Backoff.every(0.01))
    async with open_journal(folder / "journal.db", store=store, limits=limits) as journal:
        yield TrioContext(
            config=NodeConfig.model_validate(
                {"data_dir": folder, "validator": validator, "policy": policy or {}}
            ),
            network_name="test",
            key=key,
            peer_id=peer_id_of(key),
            address=address,
            provider=address,
            network=network,
            journal=journal,
            receipt_domain=NO_CHAIN,
            metrics=NodeMetrics(),
            engine_dir=folder,
            blobs=folder,
            log=structlog.get_logger("test"),
        )
