"""Contract events in order, each delivered at least once, across restarts and reorganisations.

Theory of operation. The reader only looks at blocks that are `confirmations` deep, so an ordinary
reorganisation never shows. Behind what was handled stands a cursor in the database: number and hash
of the last finished block. A batch is handed out, and the cursor moves when the consumer comes back
for the next one, so what was half handled at a crash is delivered again. If the cursor's block is
no longer on the chain, the reorganisation went deeper than promised; that is reported
(`DeepReorg`), and the consumer says with `rewind` from where to read anew.

New blocks are noticed by asking for the head once an interval: plain HTTP JSON-RPC cannot notify.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from chain.abi import Abi, AbiError
from chain.artifacts import load_artifact
from chain.database import Database
from chain.deployment import Deployment
from chain.errors import BadResponse, ChainError
from chain.records import Block, Log
from chain.rpc import Rpc

MAX_RANGE = 2_000

_TABLE = (
    "CREATE TABLE IF NOT EXISTS event_cursor"
    " (name TEXT PRIMARY KEY, block_number INTEGER NOT NULL, block_hash BLOB) STRICT"
)


class DeepReorg(ChainError):
    """Blocks that were already handled left the chain; raise `confirmations`, then `rewind`."""


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
    """Events of the blocks after the cursor, in chain order, through `last` (possibly none)."""

    events: tuple[ChainEvent, ...]
    last: Block


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
    ) -> None:
        self._rpc = rpc
        self._database = database
        self._name = name
        self._first = deployment.block
        self._abis: dict[str, Abi] = {
            deployment.address(contract): load_artifact(contract).abi for contract in contracts
        }
        self._confirmations = confirmations
        self._poll = poll

    async def batches(self) -> AsyncIterator[Batch]:
        """Batches for ever; asking for the next one says that the last one was handled.

        Raises ChainUnreachable and DeepReorg; iterate anew to go on.
        """
        while True:
            batch = await self.read()
            if batch is None:
                await trio.sleep(self._poll)
            else:
                yield batch
                await self._move(batch.last.number, batch.last.hash)

    async def read(self) -> Batch | None:
        """The next batch, without moving the cursor; None when no new block is final."""
        number, block_hash = await self._cursor()
        if block_hash is not None:
            known = await self._rpc.block(number)
            if known is None or known.hash != block_hash:
                raise DeepReorg(
                    f"block {number} was handled but left the chain of {self._rpc.url}; rewind"
                )
        final = await self._rpc.block_number() - self._confirmations + 1
        last = min(final, number + MAX_RANGE)
        if last <= number:
            return None
        logs = await self._rpc.logs(number + 1, last, list(self._abis))
        block = await self._rpc.block(last)
        if block is None:
            return None  # the head fell back between two requests
        ordered = sorted(logs, key=lambda log: (log.block_number, log.log_index))
        events = (self._decode(log, number, last) for log in ordered)
        return Batch(tuple(event for event in events if event is not None), block)

    async def rewind(self, block_number: int) -> None:
        """Read anew from the block after `block_number`."""
        await self._move(block_number, None)

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

    async def _cursor(self) -> tuple[int, bytes | None]:
        return await self._database.run(self._load)

    def _load(self) -> tuple[int, bytes | None]:
        with self._database.transaction() as cursor:
            cursor.execute(_TABLE)
            row = cursor.execute(
                "SELECT block_number, block_hash FROM event_cursor WHERE name = ?", (self._name,)
            ).fetchone()
        return (row[0], row[1]) if row is not None else (max(self._first - 1, 0), None)

    async def _move(self, number: int, block_hash: bytes | None) -> None:
        await self._database.run(partial(self._store, number, block_hash))

    def _store(self, number: int, block_hash: bytes | None) -> None:
        with self._database.transaction() as cursor:
            cursor.execute(_TABLE)
            cursor.execute(
                "INSERT INTO event_cursor VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
                " block_number = excluded.block_number, block_hash = excluded.block_hash",
                (self._name, number, block_hash),
            )
