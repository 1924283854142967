"""Which nonce a transaction may take, decided over all of one key's transactions.

Theory of operation. Several transactions of a key may be in flight, so that they share a block. A
pool executes them in nonce order, so one missing nonce holds up all behind it. Three rules keep
that from lasting:

1. A nonce is signed for only when every transaction of ours below it was accepted by the network. A
   refused transaction therefore never has others behind it, and leaves its nonce to the next.
2. The nonce given is the lowest that is free, counted from the account's transaction count, so new
   transactions fill holes first; for a hole the limit on how many are in flight does not count.
3. A hole that nothing fills (a stranger's transaction, or a final one of ours, left the chain
   again) is closed: by offering ours again, else, once what is behind has waited as long as for a
   raise of fees, by a transfer of nothing to ourselves.

No nonce is signed for while another live transaction holds it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from chain.transactions.machine import Rules, State, Transaction, overdue

HOLDING = frozenset({State.SIGNED, State.SENT, State.MINED, State.CONFIRMED, State.REVERTED})
"""States in which nothing else may be signed at the transaction's nonce."""
IN_FLIGHT = frozenset({State.SIGNED, State.SENT})


def in_order(live: Iterable[Transaction]) -> list[str]:
    """Keys by nonce, those without one last and in the order given."""
    return [tx.key for tx in sorted(live, key=_nonce_or_last)]


def nonce_for(tx: Transaction, count: int, live: Iterable[Transaction], limit: int) -> int | None:
    """The nonce at which `tx` may be signed now; None while it must wait.

    `count` is the account's transaction count at the head, `limit` bounds how many are in flight.
    A DROPPED transaction keeps its nonce, since its bytes may turn up; when that was used, it waits
    for the final depth, at which it is replaced or was mined after all.
    """
    others = [other for other in live if other.key != tx.key and other.state in HOLDING]
    held = {other.nonce for other in others if other.nonce is not None}
    nonce = _lowest_free(count, held) if tx.nonce is None else tx.nonce
    if nonce < count or nonce in held:
        return None
    if any(other.state is State.SIGNED and _nonce_or_last(other) < nonce for other in others):
        return None
    if sum(other.state in IN_FLIGHT for other in others) >= limit and nonce > max(held):
        return None
    return nonce


def hole(count: int, head: int, live: Iterable[Transaction], rules: Rules) -> int | None:
    """The lowest free nonce below transactions of ours that have waited too long because of it.

    None while a planned transaction is there to take it.
    """
    live = list(live)
    holding = [tx for tx in live if tx.state in HOLDING and tx.nonce is not None]
    lowest = _lowest_free(count, {tx.nonce for tx in holding if tx.nonce is not None})
    behind = [tx for tx in holding if tx.state in IN_FLIGHT and _nonce_or_last(tx) > lowest]
    if any(tx.state is State.PLANNED for tx in live):
        return None
    if any(tx.sent_at is None or overdue(tx, head, rules) for tx in behind):
        return lowest
    return None


def _lowest_free(count: int, held: set[int]) -> int:
    while count in held:
        count += 1
    return count


def _nonce_or_last(tx: Transaction) -> float:
    return float("inf") if tx.nonce is None else tx.nonce
