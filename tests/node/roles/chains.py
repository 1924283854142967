"""A chain of nothing but blocks, and a context on it whose clock is trio's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog
import trio

from chain.errors import ChainUnreachable
from node.journal import open_journal
from node.metrics import NodeMetrics


def block_hash(number: int) -> bytes:
    return sha256(b"block %d" % number).digest()


class Chain:
    """`head` blocks at the start and one more every `interval` seconds (0: no more). `made` is when
    the first head was made. What is slashed and paid is the same for everybody."""

    def __init__(self, head: int = 100, interval: float = 0.0, made: float = 0.0) -> None:
        self._first, self._interval, self._made = head, interval, made
        self.rpc = self.nodes = self.pools = self.settlement = self
        self.down = False
        self.loss = 20 * 10**18
        self.rate = 10**14
        self.asked = 0

    def _head(self) -> int:
        passed = trio.current_time() - self._made
        return self._first + (int(passed / self._interval) if self._interval else 0)

    async def block(self, tag: object) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.down:
            raise ChainUnreachable("http://test", "down")
        head = self._head()
        number = tag if isinstance(tag, int) else head
        if number > head:
            return None
        timestamp = self._made + (number - self._first) * self._interval
        return SimpleNamespace(number=number, hash=block_hash(number), timestamp=int(timestamp))

    async def block_hash(self, number: int) -> bytes | None:
        block = await self.block(number)
        return None if block is None else block.hash

    async def owner_of(self, node: str) -> str | None:
        return node

    async def conviction_loss(self, provider: str) -> int:
        await self.block("latest")
        return self.loss

    async def funds(self, pool_id: int) -> Any:
        return SimpleNamespace(rate=self.rate)


@asynccontextmanager
async def open_context(folder: Path, chain: Chain | None, **validator: Any) -> AsyncIterator[Any]:
    settings = SimpleNamespace(check_rate=validator.get("check_rate", "auto"))
    async with open_journal(folder / "journal.db") as journal:
        yield SimpleNamespace(
            chain=chain,
            journal=journal,
            log=structlog.get_logger("test"),
            metrics=NodeMetrics(),
            config=SimpleNamespace(validator=settings),
            now=trio.current_time,
            wall=trio.current_time,
        )
