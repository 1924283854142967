"""Hashes of blocks as public chance: wait for one, and know when none will come.

A hash counts once its block lies as deep as the network file asks (`confirmations`, its own block
included). Some chains make a block only when somebody sends a transaction, development chains among
them. Nobody waits for those: a chain whose newest block is older than `IDLE_SECONDS` makes none on
its own. Public chains make one every few seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from node.context import NodeContext
from node.errors import InputError

if TYPE_CHECKING:
    from chain.client import ChainClient
    from chain.encoding.records import Block

IDLE_SECONDS = 30.0
POLL_SECONDS = 1.0


class Blocks:
    """The blocks of the chain in use. All methods raise `ChainError`s."""

    def __init__(self, context: NodeContext, confirmations: int) -> None:
        self._context = context
        self.confirmations = confirmations
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
        head = await self._newest(POLL_SECONDS / 2)
        if number > head.number - self.confirmations + 1:
            return None
        return await self._chain.block_hash(number)

    async def wait_for(self, number: int) -> bytes | None:
        """The hash of a block once it is deep enough; None where no more blocks come."""
        newest, since = -1, self._context.now()
        while True:
            head = await self._newest(POLL_SECONDS / 2)
            if head.number - self.confirmations + 1 >= number:
                return await self._chain.block_hash(number)
            now = self._context.now()
            if head.number != newest:
                newest, since = head.number, now
            age = self._context.wall() - head.timestamp
            if max(age, now - since) > IDLE_SECONDS:
                return None
            await trio.sleep(POLL_SECONDS)

    async def _newest(self, age: float = 0.0) -> Block:
        """The newest block, or what was it at most `age` seconds ago, as many may wait for one."""
        async with self._asking:
            if self._known is None or self._context.now() - self._known_at >= age:
                self._known = await self._ask()
                self._known_at = self._context.now()
            return self._known

    async def _ask(self) -> Block:
        from chain.errors import BadResponse

        head = await self._chain.rpc.block("latest")
        if head is None:
            raise BadResponse("the chain's endpoint knows no newest block")
        return head

    @property
    def _chain(self) -> ChainClient:
        chain = self._context.chain
        if chain is None:
            raise InputError("this network has no chain")
        return chain
