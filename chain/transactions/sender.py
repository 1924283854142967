"""The sender: one task that drives every transaction of one key through its state machine.

Theory of operation. The task goes in rounds: it surveys the account once, then takes each live
transaction, in nonce order, as far as the chain allows now. What may be signed is decided in
nonces.py, what follows from what in machine.py; this module only decides the order: state is stored
first, then the network is touched. So the process may die between any two lines, and a new sender
takes up every unfinished transaction where the database says it is, offering again what was sent
before.

`_live` always equals what is stored. Callers hand over keys, not transactions: a copy that was read
before the task finished with it would be executed a second time.

Progress is polled for once per interval, because plain HTTP cannot notify us. When the endpoint
fails, all who wait get the error, and the task tries again at the next interval.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import trio

from chain.errors import (
    ChainError,
    InvalidInput,
    StoreError,
    TransactionPending,
)
from chain.transactions.fees import FeePolicy
from chain.transactions.machine import (
    FINAL,
    Broadcast,
    Bump,
    Command,
    Event,
    Look,
    Refusal,
    Refused,
    Replan,
    Rules,
    Signed,
    State,
    Transaction,
    handle,
)
from chain.transactions.network import Network, Survey
from chain.transactions.nonces import IN_FLIGHT, hole, in_order, nonce_for
from chain.transactions.outcome import TransactionOutcome, dropped
from chain.transactions.store import TransactionStore

T = TypeVar("T")

MAX_COMMANDS = 8
MAX_WAITING = 1024
MAX_SHADES = 64
FILLER = "nonce-filler/"
"""Prefix of the keys under which the sender closes holes by itself."""


@dataclass(frozen=True)
class SenderSettings:
    """How the sender behaves. `poll` in seconds; `in_flight`: how many transactions may wait in the
    pool at once (geth keeps 16 for each account whatever the load)."""

    rules: Rules = field(default_factory=Rules)
    fees: FeePolicy = field(default_factory=FeePolicy)
    poll: float = 1.0
    in_flight: int = 16


@dataclass(frozen=True)
class _Request:
    """A caller's wish for a stored transaction; `again`: also if it ended without success, and then
    with `gas` if that is given."""

    key: str
    again: bool
    gas: int | None


class Sender:
    """One key's transactions. `run` is the task; `ask` may be called from any other."""

    def __init__(self, network: Network, store: TransactionStore, settings: SenderSettings) -> None:
        self._network = network
        self._store = store
        self._settings = settings
        self._live: dict[str, Transaction] = {}
        self._again: set[str] = set()
        self._resumed: set[str] = set()
        self._requests: list[_Request] = []
        self._waiting: dict[str, TransactionOutcome] = {}
        self._wake = trio.Event()

    def ask(self, key: str, *, again: bool = False, gas: int | None = None) -> TransactionOutcome:
        """See the stored transaction under `key` through; raises TransactionPending when full."""
        outcome = self._waiting.get(key)
        if outcome is None:
            if len(self._waiting) >= MAX_WAITING:
                raise TransactionPending(f"{MAX_WAITING} transactions are waiting; try again later")
            outcome = self._waiting[key] = TransactionOutcome()
        self._requests.append(_Request(key, again, gas))
        self._wake.set()
        return outcome

    async def run(self) -> None:
        """Send until cancelled. Raises StoreError."""
        await self.resume()
        while True:
            self._wake = trio.Event()
            await self.round()
            with trio.move_on_after(self._settings.poll if self._live else float("inf")):
                await self._wake.wait()

    async def resume(self) -> None:
        """Take up what an earlier sender left unfinished."""
        for tx in await self.in_store(self._store.unfinished):
            self._live.setdefault(tx.key, tx)
            self._resumed.add(tx.key)

    async def round(self) -> None:
        """Take every live transaction as far as it goes now."""
        while self._requests:
            await self._take_up(self._requests.pop(0))
        if not self._live:
            return
        try:
            survey = await self._network.survey()
        except ChainError as exc:
            for key in list(self._waiting):
                self._tell(key, exc)
            return
        await self._mend(survey)
        for key in in_order(self._live.values()):
            await self._advance(key, survey)

    async def _take_up(self, request: _Request) -> None:
        if request.key in self._live:
            return
        tx = await self.in_store(partial(self._store.get, request.key))
        assert tx is not None, "transactions are stored before they are asked for"
        if tx.state is State.CONFIRMED or (tx.state in FINAL and not request.again):
            self._tell(tx.key, dropped(tx) or tx)
            return
        if tx.state in FINAL:
            self._again.add(tx.key)
            if tx.state is State.REVERTED and request.gas is not None:
                tx = replace(tx, gas=request.gas)
        self._live[tx.key] = tx

    async def _mend(self, survey: Survey) -> None:
        """Take up again what was final and left the chain, and close a hole that nobody fills."""
        for tx in await self.in_store(partial(self._store.executed_from, survey.nonce)):
            self._live.setdefault(tx.key, tx)
        nonce = hole(survey.nonce, survey.head, self._live.values(), self._settings.rules)
        if nonce is not None:
            filler = await self.in_store(partial(self._filler, nonce))
            self._live.setdefault(filler.key, filler)
            self._again.add(filler.key)

    def _filler(self, nonce: int) -> Transaction:
        """A stored transfer of nothing to close the hole at `nonce`: the last one that came to
        nothing, so that a refusal at every round does not fill the database, or a new one."""
        prefix = f"{FILLER}{nonce}/"
        number = self._store.count(prefix)
        last = self._store.get(f"{prefix}{number - 1}")
        if last is not None and last.state in (State.DROPPED, State.REPLACED):
            return last
        return self._store.add(
            Transaction(f"{prefix}{number}", self._network.address, b"", 0, 21_000)
        )

    async def _advance(self, key: str, survey: Survey) -> None:
        """One step of one transaction; tells those who wait how it ended, or why it did not."""
        try:
            tx = await self._step(self._live[key], survey)
        except StoreError:
            raise
        except ChainError as exc:
            self._tell(key, exc)
            if isinstance(exc, InvalidInput):
                self._forget(key)
            return
        if tx is not None and tx.state in FINAL:
            self._forget(key)
            self._tell(key, dropped(tx) or tx)

    def _forget(self, key: str) -> None:
        del self._live[key]
        self._again.discard(key)
        self._resumed.discard(key)

    def _tell(self, key: str, result: Transaction | ChainError) -> None:
        outcome = self._waiting.pop(key, None)
        if outcome is not None:
            outcome.set(result)

    async def _step(self, tx: Transaction, survey: Survey) -> Transaction | None:
        """Advance as far as the chain allows now; None while it must wait for its turn to sign."""
        commands: list[Command] = []
        if tx.nonce is not None and tx.state is not State.REPLACED:
            tx, commands = await self._apply(tx, await self._network.observe(tx, survey))
        if tx.key in self._again and tx.state in (State.REPLACED, State.REVERTED):
            tx, commands = await self._apply(tx, Replan())
        if tx.state is State.PLANNED or (tx.state is State.DROPPED and tx.key in self._again):
            nonce = await self._nonce(tx)
            if nonce is None:
                return None
            signed = await self._own(tx, partial(self._network.sign, tx, nonce))
            assert signed is not None
            tx, commands = await self._apply(tx, signed)
            self._again.discard(tx.key)
        elif tx.key in self._resumed and tx.state is State.SENT and not commands:
            commands = [Broadcast(tx.attempts[-1])]
        self._resumed.discard(tx.key)
        return await self._carry_out(tx, commands, survey)

    async def _nonce(self, tx: Transaction) -> int | None:
        count = await self._network.nonce()
        if await self.in_store(partial(self._store.executed_from, count)):
            return None  # some left the chain since the round began; the next one offers them first
        return nonce_for(tx, count, self._live.values(), self._settings.in_flight)

    async def _own(
        self, tx: Transaction, make: Callable[[int], Awaitable[Signed | None]]
    ) -> Signed | None:
        """What `make` signs, shaded until no other intent has the same bytes.

        Two intents of the same content, one after the other at a nonce that the first was refused
        at, would both count the one execution as theirs.
        """
        for shade in range(MAX_SHADES):
            signed = await make(shade)
            if signed is None:
                return None
            owner = await self.in_store(partial(self._store.owner, signed.attempt.hash))
            if owner in (None, tx.key):
                return signed
        raise TransactionPending(f"{MAX_SHADES} transactions like {tx.key!r} were refused before")

    async def _carry_out(
        self, tx: Transaction, commands: list[Command], survey: Survey
    ) -> Transaction:
        for _ in range(MAX_COMMANDS):
            if not commands:
                break
            event = await self._execute(tx, commands.pop(0), survey)
            if event is not None:
                tx, more = await self._apply(tx, event)
                commands += more
        return tx

    async def _apply(self, tx: Transaction, event: Event) -> tuple[Transaction, list[Command]]:
        after, commands = handle(tx, event, self._settings.rules)
        if after != tx:
            await self.in_store(partial(self._store.save, after))
            self._live[tx.key] = after
        return after, commands

    async def _execute(self, tx: Transaction, command: Command, survey: Survey) -> Event | None:
        match command:
            case Broadcast(attempt=attempt):
                answer = await self._network.broadcast(attempt)
                if isinstance(answer, Refused) and answer.refusal is Refusal.NO_FUNDS:
                    return self._short_of_funds(tx, answer)
                return answer
            case Bump(accepted=accepted):
                raised = await self._own(tx, partial(self._network.bump, tx))
                if raised is None and accepted:
                    return await self._network.broadcast(tx.attempts[-1])
                return raised
            case Look():
                return await self._network.observe(tx, survey)

    def _short_of_funds(self, tx: Transaction, answer: Refused) -> Refused:
        """Pools count what is in flight at its highest fee; once that is mined, it may suffice."""
        assert tx.nonce is not None
        before = (other.nonce for other in self._live.values() if other.state in IN_FLIGHT)
        if any(nonce is not None and nonce < tx.nonce for nonce in before):
            return replace(answer, refusal=Refusal.BUSY)
        return answer

    async def in_store(self, work: Callable[[], T]) -> T:
        """Run blocking `work` on the store's database."""
        return await self._store.database.run(work)
