"""Contract events in order, each delivered at least once, across restarts and reorganisations.

Theory of operation. The reader only looks at blocks that are `confirmations` deep, so a
reorganisation of fewer blocks never shows. What was handled is marked by a cursor in the database
(cursor.py). A batch is handed out; when the consumer is done it calls `finish`, which moves the
cursor and stores the consumer's own effects in one database transaction. Whatever was half handled
at a crash is delivered again, so consumers that act outside that database must be idempotent.

If the cursor's block is no longer on the chain, the reorganisation went deeper than expected. The
next batch then begins after the newest checkpoint that still is, and says so (`void_after`): what
was delivered from later blocks is void, and what the chain holds now is delivered. Nothing is
stored before that batch is finished, so a crash does not hide it. A chain that is merely shorter
than the cursor is waited for: the endpoint may be a node that lags.

The hash of a batch's last block is read before and after its logs. That the two agree fixes all
blocks below it, so logs are never taken from one branch and the cursor from another.

Endpoints limit how many blocks or results one query may ask for, each in words of its own. A query
that is refused is repeated for half as many blocks, down to one; the span then recovers slowly.

New blocks are noticed by asking for the head once per interval: plain HTTP JSON-RPC cannot notify.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from chain.database import Database
from chain.deployment.deployment import Deployment
from chain.encoding.artifacts import load_artifact
from chain.encoding.codec import Abi, AbiError
from chain.encoding.records import Block, Log
from chain.endpoint.rpc import Rpc
from chain.errors import BadResponse, ChainError, ChainUnreachable, RpcError
from chain.events.cursor import CursorStore, Effects, Position

MAX_RANGE = 2_000

T = TypeVar("T")


class DeepReorg(ChainError):
    """Blocks that were already handled left the chain; `ancestor` is the last that did not, as far
    as checkpoints tell. Raise `confirmations`, undo what came later, then `rewind`."""

    def __init__(self, url: str, handled: int, ancestor: int) -> None:
        super().__init__(
            f"block {handled} was handled but left the chain of {url}; rewind to {ancestor}"
        )
        self.ancestor = ancestor


@dataclass(frozen=True)
class ChainEvent:
    """A decoded event of one of the contracts, and where it lies."""

    contract: str
    name: str
    args: dict[str, Any]
    block_number: int
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True)
class Batch:
    """Events of the blocks after `base`, in chain order, through `last` (possibly none).

    `cursor` is where the cursor stood. When it is not `base`, a reorganisation went deeper than
    `confirmations`, and `void_after` is the number of the block after which all that was delivered
    earlier is void; otherwise it is None.
    """

    events: tuple[ChainEvent, ...]
    last: Block
    cursor: Position
    base: Position

    @property
    def void_after(self) -> int | None:
        """Number of the last block whose events still count; None where all of them do."""
        return None if self.base == self.cursor else self.base.number


class EventReader:
    """Reads the events of some contracts under one cursor name."""

    def __init__(
        self,
        rpc: Rpc,
        deployment: Deployment,
        database: Database,
        name: str,
        contracts: Sequence[str],
        *,
        confirmations: int = 1,
        poll: float = 1.0,
        heal: bool = True,
    ) -> None:
        """`confirmations` counts a block itself; `poll` in seconds. With `heal` False a deep
        reorganisation raises DeepReorg instead of beginning a batch further back."""
        self._rpc = rpc
        self._cursor = CursorStore(database, name, max(deployment.block - 1, 0))
        self._abis: dict[str, Abi] = {
            deployment.address(contract): load_artifact(contract).abi for contract in contracts
        }
        self._confirmations = confirmations
        self._poll = poll
        self._heal = heal
        self._span = MAX_RANGE

    async def batches(self) -> AsyncIterator[Batch]:
        """Batches without end; asking for the next one finishes the last, unless `finish` has.

        Raises ChainUnreachable, BadResponse, RpcError and DeepReorg; iterate again to continue.
        """
        while True:
            batch = await self.read()
            if batch is None:
                await trio.sleep(self._poll)
            else:
                yield batch
                await self.finish(batch)

    async def finish(self, batch: Batch, effects: Effects | None = None) -> bool:
        """Move the cursor past `batch` and run `effects`, in one transaction of the database.

        `effects` gets that transaction's cursor, in a worker thread; if it raises, nothing is
        stored. Returns False, without running it, when the batch was finished before or a rewind
        came between.
        """
        last = Position(batch.last.number, batch.last.hash)
        return await self._run(
            partial(self._cursor.advance, batch.cursor, batch.base, last, effects)
        )

    async def read(self) -> Batch | None:
        """The next batch, without moving the cursor; None when no new block is final."""
        cursor = await self._run(self._cursor.load)
        final = await self._rpc.block_number() - self._confirmations + 1
        if final < cursor.number:
            return None
        base = await self._common(cursor)
        if base != cursor and not self._heal:
            raise DeepReorg(self._rpc.url, cursor.number, base.number)
        if base.number >= final:
            return None
        logs, block = await self._logs(base.number + 1, final)
        if block is None:
            return None  # the chain changed between two requests
        ordered = sorted(logs, key=lambda log: (log.block_number, log.log_index))
        events = (self._decode(log, base.number, block.number) for log in ordered)
        return Batch(tuple(event for event in events if event is not None), block, cursor, base)

    async def rewind(self, block_number: int) -> None:
        """Read again from the block after `block_number`."""
        await self._run(partial(self._cursor.rewind, block_number))

    async def _common(self, cursor: Position) -> Position:
        """The newest of the cursor, its checkpoints and the start that is still on the chain."""
        if await self._holds(cursor):
            return cursor
        for checkpoint in await self._run(self._cursor.checkpoints):
            if checkpoint.number < cursor.number and await self._holds(checkpoint):
                return checkpoint
        return self._cursor.start

    async def _holds(self, position: Position) -> bool:
        if position.hash is None:
            return True
        block = await self._rpc.block(position.number)
        return block is not None and block.hash == position.hash

    async def _logs(self, first: int, final: int) -> tuple[Sequence[Log], Block | None]:
        """Logs from block `first` on, and the last block that they reach to; no block when the
        chain changed meanwhile."""
        while True:
            last = min(final, first + self._span - 1)
            before = await self._rpc.block(last)
            try:
                logs = await self._rpc.logs(first, last, list(self._abis))
            except ChainUnreachable:
                self._span = max(1, self._span // 2)  # for the next try: was it too much in time?
                raise
            except (RpcError, BadResponse):
                if last == first:
                    raise
                self._span = max(1, (last - first + 1) // 2)
                continue
            after = await self._rpc.block(last)
            if before is None or after is None or before.hash != after.hash:
                return (), None
            if last == first + self._span - 1:
                self._span = min(MAX_RANGE, self._span + self._span // 4 + 1)
            return logs, after

    def _decode(self, log: Log, after: int, last: int) -> ChainEvent | None:
        abi = self._abis.get(log.address)
        if abi is None or not after < log.block_number <= last:
            raise BadResponse(f"{self._rpc.url} sent logs that were not asked for")
        try:
            name, args = abi.decode_event(log)
        except AbiError:
            return None  # inherited or newer events that our ABI does not list
        return ChainEvent(
            abi.name, name, args, log.block_number, log.transaction_hash, log.log_index
        )

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._cursor.database.run(work)
