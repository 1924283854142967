"""One key's sender on one chain: endpoint, database and transaction manager, opened together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chain.database import Database
from chain.encoding.artifacts import error_table
from chain.endpoint.rpc import Rpc, open_rpc
from chain.errors import BadResponse
from chain.transactions.manager import TransactionManager, open_manager
from chain.transactions.sender import SenderSettings
from chain.transactions.store import TransactionStore
from proofs.encoding.signing import address_of


@dataclass(frozen=True)
class Account:
    """A key's running sender on one chain, and its database."""

    rpc: Rpc
    manager: TransactionManager
    database: Database


@asynccontextmanager
async def open_account(
    rpc_url: str, key: bytes, database_path: Path | str, *, settings: SenderSettings | None = None
) -> AsyncIterator[Account]:
    """Connect, open the key's database and run its sender. Raises ChainError."""
    async with open_rpc(rpc_url, errors=error_table()) as rpc:
        genesis = await rpc.block(0)
        if genesis is None:
            raise BadResponse(f"{rpc_url} does not have block 0; use a node that serves headers")
        database = Database(
            database_path,
            chain_id=await rpc.chain_id(),
            genesis=genesis.hash,
            address=address_of(key),
        )
        try:
            store = TransactionStore(database)
            async with open_manager(rpc, key, store, settings) as manager:
                yield Account(rpc, manager, database)
        finally:
            database.close()
