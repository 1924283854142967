"""Sending transactions from one key, each exactly once.

`send` writes the intent under the caller's idempotency key and waits; one task (sender.py) owns the
key and does the rest, so a caller that is cancelled, or a process that dies, changes nothing:
opening the manager again takes up every unfinished transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import trio

from chain.endpoint.rpc import Rpc
from chain.errors import (
    ChainError,
    InvalidInput,
    TransactionDropped,
    TransactionPending,
)
from chain.transactions.machine import FINAL, State, Transaction
from chain.transactions.network import Network
from chain.transactions.sender import FILLER, Sender, SenderSettings
from chain.transactions.signing import MAX_GAS, check_limits
from chain.transactions.store import TransactionStore
from proofs.encoding.signing import address_of

GAS_HEADROOM = 1.2


@dataclass(frozen=True)
class TxResult:
    """A final transaction: 32-byte hash, block number, gas used, and whether it succeeded."""

    hash: bytes
    block: int
    gas_used: int
    status: bool


@asynccontextmanager
async def open_manager(
    rpc: Rpc, private_key: bytes, store: TransactionStore, settings: SenderSettings | None = None
) -> AsyncIterator[TransactionManager]:
    """Run the sender task of one key for the length of the block.

    Raises ChainError when the endpoint cannot be reached.
    """
    chain_id = await rpc.chain_id()
    manager = TransactionManager(rpc, chain_id, private_key, store, settings or SenderSettings())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager._sender.run)
            yield manager
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # Callers should see a ChainError that left their block as itself.
        if len(group.exceptions) == 1 and isinstance(group.exceptions[0], ChainError):
            raise group.exceptions[0] from None
        raise


class TransactionManager:
    """Sends transactions from one key. Create it with `open_manager`."""

    def __init__(
        self,
        rpc: Rpc,
        chain_id: int,
        private_key: bytes,
        store: TransactionStore,
        settings: SenderSettings,
    ) -> None:
        self.address = address_of(private_key)
        self._rpc = rpc
        self._store = store
        network = Network(rpc, chain_id, private_key, settings.rules, settings.fees)
        self._sender = Sender(network, store, settings)

    def __repr__(self) -> str:
        return f"<TransactionManager {self.address} on {self._rpc.url}>"

    async def send(
        self,
        key: str,
        to: str | None,
        data: bytes,
        value: int = 0,
        gas: int | None = None,
        *,
        retry_failed: bool = False,
        timeout: float = 120.0,
    ) -> TxResult:
        """Send one transaction (`to` None creates a contract) and wait until it is final.

        The same `key` gives the same result and never a second transaction. With `retry_failed` a
        transaction that was mined but reverted is sent again. `gas` None estimates it. Raises
        Reverted when the estimate shows that it would revert (nothing is stored then),
        TransactionDropped when the network refused it or its nonce was taken, TransactionPending
        after `timeout` seconds, ChainUnreachable, and InvalidInput for bad arguments or a key that
        was used for something else.
        """
        if key.startswith(FILLER):
            raise InvalidInput(f"keys that begin with {FILLER!r} are the sender's own")
        tx = await self._get(key)
        if tx is None:
            gas = await self._estimate(to, data, value) if gas is None else gas
            check_limits(data, value, gas)
            tx = Transaction(key, to, data, value, gas)
        # Also when known: the store compares the new arguments with the old.
        planned = Transaction(key, to, data, value, tx.gas)
        tx = await self._sender.in_store(partial(self._store.add, planned))
        if tx.state is State.CONFIRMED or (tx.state is State.REVERTED and not retry_failed):
            return _result(tx)
        again = tx.state in FINAL
        gas = await self._estimate(to, data, value) if tx.state is State.REVERTED else None
        with trio.move_on_after(timeout):
            return _result(await self._sender.ask(key, again=again, gas=gas).wait())
        raise TransactionPending(await self._why_pending(key, timeout))

    async def send_next(
        self, prefix: str, to: str, data: bytes, *, timeout: float = 120.0
    ) -> TxResult:
        """Send under the next unused key `prefix/<n>`: for steps whose need the chain itself shows.

        The caller calls `await_outcomes(prefix)`, looks whether the step is still needed, and then
        this. Raises as `send` does."""
        number = await self._sender.in_store(partial(self._store.count, f"{prefix}/"))
        return await self.send(f"{prefix}/{number}", to, data, timeout=timeout)

    async def has_key(self, key: str) -> bool:
        """Whether a transaction was ever asked for under `key`."""
        return await self._get(key) is not None

    async def await_outcomes(self, prefix: str, *, timeout: float = 120.0) -> None:
        """Wait until no transaction under `prefix/` is unfinished, as after a restart.

        Raises ChainUnreachable, and TransactionPending after `timeout` seconds.
        """
        with trio.move_on_after(timeout):
            unfinished = partial(self._store.unfinished, f"{prefix}/")
            for tx in await self._sender.in_store(unfinished):
                with suppress(TransactionDropped):
                    await self._sender.ask(tx.key).wait()
            return
        raise TransactionPending(f"transactions under {prefix!r} are not final; ask again later")

    async def _estimate(self, to: str | None, data: bytes, value: int) -> int:
        needed = await self._rpc.estimate_gas(self.address, to, data, value)
        if needed > MAX_GAS:
            raise InvalidInput(f"the call needs {needed} gas, more than {MAX_GAS}; split the work")
        return min(max(int(needed * GAS_HEADROOM), 21_000), MAX_GAS)

    async def _get(self, key: str) -> Transaction | None:
        return await self._sender.in_store(partial(self._store.get, key))

    async def _why_pending(self, key: str, timeout: float) -> str:
        tx = await self._get(key)
        reason = f" (the endpoint says: {tx.refusal})" if tx is not None and tx.refusal else ""
        return (
            f"transaction {key!r} is not final after {timeout:g} s{reason}; "
            "ask again with the same key"
        )


def _result(tx: Transaction) -> TxResult:
    assert tx.mined is not None
    mined = tx.mined
    return TxResult(mined.hash, mined.block_number, mined.gas_used, mined.succeeded)
