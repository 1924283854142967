"""The sender: drives every transaction of one key through its state machine.

Theory of operation. `send` writes the intent under the caller's idempotency key and waits; one task
owns the key and does the rest, so a caller that is cancelled, or a process that dies, changes
nothing: opening the manager again takes up every unfinished transaction where the database says it
is. State is stored before the network is touched (see machine.py).

A new nonce is given out only when no earlier transaction of the key is still unmined. That bounds
the rate to one transaction a block for each key, and in exchange no refused transaction can leave a
gap that blocks those behind it. Reorganised transactions are rebroadcast in nonce order.

Progress is looked for once a poll interval, because plain HTTP has no way to be told. When the
endpoint fails, all who wait get the error, and the task tries again at the next interval.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import trio

from chain.errors import (
    ChainError,
    InvalidInput,
    StoreError,
    TransactionDropped,
    TransactionPending,
)
from chain.rpc import Rpc
from chain.transactions.fees import FeePolicy
from chain.transactions.machine import (
    FINAL,
    Broadcast,
    Bump,
    Command,
    Event,
    Look,
    Replan,
    Rules,
    State,
    Transaction,
    handle,
)
from chain.transactions.network import Network
from chain.transactions.signing import MAX_GAS
from chain.transactions.store import TransactionStore
from proofs.signing import address_of

T = TypeVar("T")

MAX_COMMANDS = 8
MAX_WAITING = 1024
GAS_HEADROOM = 1.2


@dataclass(frozen=True)
class TxResult:
    """A final transaction: 32-byte hash, block number, gas used, and whether it succeeded."""

    hash: bytes
    block: int
    gas_used: int
    status: bool


@dataclass(frozen=True)
class Settings:
    """How the manager behaves; times in seconds."""

    rules: Rules = field(default_factory=Rules)
    fees: FeePolicy = field(default_factory=FeePolicy)
    poll: float = 1.0


@asynccontextmanager
async def open_manager(
    rpc: Rpc, private_key: bytes, store: TransactionStore, settings: Settings | None = None
) -> AsyncIterator[TransactionManager]:
    """Run the sender task of one key for the length of the block.

    Raises ChainError when the endpoint cannot be reached.
    """
    chain_id = await rpc.chain_id()
    manager = TransactionManager(rpc, chain_id, private_key, store, settings or Settings())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager._run)
            yield manager
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # Callers should see a ChainError that left their block as itself.
        if len(group.exceptions) == 1 and isinstance(group.exceptions[0], ChainError):
            raise group.exceptions[0] from None
        raise


class _Outcome:
    """What callers waiting for one key wait on."""

    def __init__(self) -> None:
        self.ready = trio.Event()
        self.result: Transaction | ChainError | None = None

    def set(self, result: Transaction | ChainError) -> None:
        self.result = result
        self.ready.set()


class TransactionManager:
    """Sends transactions from one key. Make it with `open_manager`."""

    def __init__(
        self,
        rpc: Rpc,
        chain_id: int,
        private_key: bytes,
        store: TransactionStore,
        settings: Settings,
    ) -> None:
        self.address = address_of(private_key)
        self._rpc = rpc
        self._network = Network(rpc, chain_id, private_key, settings.rules, settings.fees)
        self._store = store
        self._settings = settings
        self._live: dict[str, Transaction] = {}
        self._waiting: dict[str, _Outcome] = {}
        self._wake = trio.Event()

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
        transaction that was mined but reverted is sent anew. `gas` None estimates it. Raises
        Reverted when the estimate shows that it would revert (nothing is stored then),
        TransactionDropped when the network refused it or its nonce was taken, TransactionPending
        after `timeout` seconds, ChainUnreachable, and InvalidInput for bad arguments or a key that
        was used for something else.
        """
        tx = await self._in_store(partial(self._store.get, key))
        if tx is None:
            gas = await self._estimate(to, data, value) if gas is None else gas
            if not 21_000 <= gas <= MAX_GAS:
                raise InvalidInput(f"gas must be 21000 to {MAX_GAS}, not {gas}")
            tx = Transaction(key, to, data, value, gas)
        # Also when known: the store compares the new arguments with the old.
        tx = await self._in_store(
            partial(self._store.add, Transaction(key, to, data, value, tx.gas))
        )
        if tx.state is State.CONFIRMED or (tx.state is State.REVERTED and not retry_failed):
            return _result(tx)
        if tx.state is State.REVERTED:
            tx = replace(tx, gas=await self._estimate(to, data, value))
        with trio.move_on_after(timeout):
            return _result(await self._finish(tx))
        raise TransactionPending(
            f"transaction {key!r} is not final after {timeout:g} s; ask again with the same key"
        )

    async def send_next(
        self, prefix: str, to: str, data: bytes, *, timeout: float = 120.0
    ) -> TxResult:
        """Send under the next unused key `prefix/<n>`: for steps whose need the chain itself shows.

        The caller calls `settle(prefix)`, looks whether the step is still needed, and then this.
        Raises as `send` does.
        """
        number = await self._in_store(partial(self._store.count, f"{prefix}/"))
        return await self.send(f"{prefix}/{number}", to, data, timeout=timeout)

    async def known(self, key: str) -> bool:
        """Whether a transaction was ever asked for under `key`."""
        return await self._in_store(partial(self._store.get, key)) is not None

    async def settle(self, prefix: str, *, timeout: float = 120.0) -> None:
        """Wait until no transaction under `prefix/` is unfinished, as after a restart.

        Raises ChainUnreachable, and TransactionPending after `timeout` seconds.
        """
        with trio.move_on_after(timeout):
            for tx in await self._in_store(partial(self._store.unfinished, f"{prefix}/")):
                with suppress(TransactionDropped):
                    await self._finish(tx)
            return
        raise TransactionPending(f"transactions under {prefix!r} are not final; ask again later")

    async def _estimate(self, to: str | None, data: bytes, value: int) -> int:
        needed = await self._rpc.estimate_gas(self.address, to, data, value)
        if needed > MAX_GAS:
            raise InvalidInput(f"the call needs {needed} gas, more than {MAX_GAS}; split the work")
        return min(max(int(needed * GAS_HEADROOM), 21_000), MAX_GAS)

    async def _finish(self, tx: Transaction) -> Transaction:
        """Hand a transaction to the sender task and wait until it is final."""
        outcome = self._waiting.get(tx.key)
        if outcome is None:
            if len(self._waiting) >= MAX_WAITING:
                raise TransactionPending(f"{MAX_WAITING} transactions are waiting; try again later")
            outcome = self._waiting[tx.key] = _Outcome()
        self._live.setdefault(tx.key, tx)
        self._wake.set()
        await outcome.ready.wait()
        if isinstance(outcome.result, ChainError):
            raise outcome.result
        assert outcome.result is not None
        return outcome.result

    # -- the sender task ---------------------------------------------------------------------

    async def _run(self) -> None:
        for tx in await self._in_store(self._store.unfinished):
            self._live.setdefault(tx.key, tx)
        while True:
            self._wake = trio.Event()
            finished = [await self._advance(key) for key in self._order()]
            if any(finished) and self._live:
                continue  # one that waited for its turn to sign may have it now
            with trio.move_on_after(self._settings.poll if self._live else float("inf")):
                await self._wake.wait()

    def _order(self) -> list[str]:
        """Live keys by nonce, those without one last, each as old as it was asked for."""
        return sorted(self._live, key=lambda key: _nonce_or_last(self._live[key]))

    def _clear(self) -> bool:
        """Whether a nonce may be signed for: nothing the network may hold is still unmined."""
        return not any(tx.state in (State.SIGNED, State.SENT) for tx in self._live.values())

    async def _advance(self, key: str) -> bool:
        """One step of one transaction; tells those who wait how it ended, or why it did not.

        Returns whether it ended.
        """
        try:
            tx = await self._step(self._live[key])
        except StoreError:
            raise
        except ChainError as exc:
            self._tell(key, exc)
            if isinstance(exc, InvalidInput):
                del self._live[key]
            return False
        if tx is None or tx.state not in FINAL:
            return False
        del self._live[key]
        self._tell(key, _dropped(tx) or tx)
        return True

    def _tell(self, key: str, result: Transaction | ChainError) -> None:
        outcome = self._waiting.pop(key, None)
        if outcome is not None:
            outcome.set(result)

    async def _step(self, tx: Transaction) -> Transaction | None:
        """Advance as far as the chain allows now; None while it must wait for its turn to sign.

        A final transaction is here because its caller asked for it again.
        """
        commands: list[Command] = []
        asked_again = tx.state in FINAL
        if tx.nonce is not None and tx.state is not State.REPLACED:
            tx, commands = await self._apply(tx, await self._network.observe(tx))
        if asked_again and tx.state in (State.REPLACED, State.REVERTED):
            tx, _ = await self._apply(tx, Replan())
        if tx.state is State.PLANNED or (asked_again and tx.state is State.DROPPED):
            if not self._clear():
                return None
            nonce = await self._next_nonce() if tx.nonce is None else tx.nonce
            tx, commands = await self._apply(tx, await self._network.sign(tx, nonce))
        for _ in range(MAX_COMMANDS):
            if not commands:
                break
            event = await self._execute(tx, commands.pop(0))
            if event is not None:
                tx, more = await self._apply(tx, event)
                commands += more
        return tx

    async def _apply(self, tx: Transaction, event: Event) -> tuple[Transaction, list[Command]]:
        after, commands = handle(tx, event, self._settings.rules)
        if after != tx:
            await self._in_store(partial(self._store.save, after))
            self._live[tx.key] = after
        return after, commands

    async def _execute(self, tx: Transaction, command: Command) -> Event | None:
        match command:
            case Broadcast(attempt=attempt):
                return await self._network.broadcast(attempt)
            case Bump():
                return await self._network.bump(tx)
            case Look():
                return await self._network.observe(tx)

    async def _next_nonce(self) -> int:
        """The account's next nonce, counting those we gave out that are not final yet."""
        ours = (tx.nonce + 1 for tx in self._live.values() if tx.nonce is not None)
        return max(await self._network.nonce(), *ours, 0)

    async def _in_store(self, work: Callable[[], T]) -> T:
        return await self._store.database.run(work)


def _nonce_or_last(tx: Transaction) -> float:
    return float("inf") if tx.nonce is None else tx.nonce


def _dropped(tx: Transaction) -> TransactionDropped | None:
    if tx.state is State.REPLACED:
        return TransactionDropped(
            f"nonce {tx.nonce} of {tx.key!r} was used by a transaction that is not ours; is the "
            "key used elsewhere? Sending again takes a new nonce"
        )
    if tx.state is State.DROPPED:
        return TransactionDropped(
            f"{tx.key!r} was refused: {tx.refusal}; put that right (funds?) and send it again"
        )
    return None


def _result(tx: Transaction) -> TxResult:
    assert tx.mined is not None
    mined = tx.mined
    return TxResult(mined.hash, mined.block_number, mined.gas_used, mined.succeeded)
