"""How a transaction ended, for those who wait for it."""

from __future__ import annotations

import trio

from chain.errors import ChainError, TransactionDropped
from chain.transactions.machine import State, Transaction


class TransactionOutcome:
    """What callers waiting for one key wait on."""

    def __init__(self) -> None:
        self._ready = trio.Event()
        self._result: Transaction | ChainError | None = None

    def set(self, result: Transaction | ChainError) -> None:
        """Wake everybody who waits, with the final transaction or the error to raise."""
        self._result = result
        self._ready.set()

    async def wait(self) -> Transaction:
        """The final transaction; raises the ChainError that ended or interrupted it."""
        await self._ready.wait()
        if isinstance(self._result, ChainError):
            raise self._result
        assert self._result is not None
        return self._result


def dropped(tx: Transaction) -> TransactionDropped | None:
    """The error for a final transaction that was not executed; None for one that was."""
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
