"""Block hashes as public randomness: wait for one, and know when none will come.

A hash counts once its block lies as deep as the network file asks (`confirmations`, its own block
included). Some chains make a block only when somebody sends a transaction, development chains among
them. Nobody waits for those: a chain whose newest block is older than `BlockTiming.idle` is taken
to make none on its own. Public chains make one every few seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from chain.errors import BadResponse
from node.retry import Backoff, tries

if TYPE_CHECKING:
    from chain.client import ChainClient
    from chain.encoding.records import Block


@dataclass(frozen=True)
class BlockTiming:
    """Seconds: `idle` is how old the newest block of a chain gets that makes none on its own,
    `poll` the pause between looks at the newest one."""

    idle: float = 30.0
    poll: float = 1.0


class Clocks(Protocol):
    """The two clocks of `node.context.NodeContext`."""

    def now(self) -> float:
        """Seconds that never go back."""

    def wall(self) -> float:
        """Unix seconds."""


class Blocks:
    """The blocks of the chain in use. All methods raise `ChainError`s."""

    def __init__(
        self,
        clocks: Clocks,
        chain: ChainClient,
        confirmations: int,
        timing: BlockTiming | None = None,
    ) -> None:
        self._clocks = clocks
        self._chain = chain
        self.confirmations = confirmations
        self._timing = timing or BlockTiming()
        self._asking = trio.Lock()
        self._known: Block | None = None
        self._known_at = 0.0

    async def head(self) -> int:
        """Number of the newest block."""
        return (await self._newest()).number

    async def final(self) -> int:
        """Number of the newest block that is deep enough; below 1 where there is none."""
        return await self.head() - self.confirmations + 1

    async def hash_of(self, number: int) -> bytes | None:
        """The hash of a block; None while it is not deep enough."""
        head = await self._newest(self._timing.poll / 2)
        if number > head.number - self.confirmations + 1:
            return None
        return await self._chain.block_hash(number)

    async def wait_for(self, number: int) -> bytes | None:
        """The hash of a block once it is deep enough; None where no more blocks come."""
        newest, since = -1, self._clocks.now()
        async for _ in tries(Backoff.every(self._timing.poll)):
            head = await self._newest(self._timing.poll / 2)
            if head.number - self.confirmations + 1 >= number:
                return await self._chain.block_hash(number)
            now = self._clocks.now()
            if head.number != newest:
                newest, since = head.number, now
            age = self._clocks.wall() - head.timestamp
            if max(age, now - since) > self._timing.idle:
                break
        return None

    async def _newest(self, age: float = 0.0) -> Block:
        """The newest block, or what was it at most `age` seconds ago, as many may wait for one."""
        async with self._asking:
            if self._known is None or self._clocks.now() - self._known_at >= age:
                self._known = await self._ask()
                self._known_at = self._clocks.now()
            return self._known

    async def _ask(self) -> Block:
        head = await self._chain.rpc.block("latest")
        if head is None:
            raise BadResponse("the chain's endpoint knows no newest block")
        return head
