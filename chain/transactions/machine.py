"""The life of one transaction, as a pure state machine.

Theory of operation. A caller's intent is PLANNED; it gets a nonce and signed bytes in one step
(SIGNED), is offered to the network (SENT), is seen in a block (MINED), and is final when that block
is `confirmations` deep: CONFIRMED, or REVERTED when the contract refused. If a reorganisation takes
its block away it is SENT again, even if it was final: if a chain breaks its promise of finality,
what can be repaired is repaired. Raising the fee signs another attempt at the *same nonce*;
whichever is mined, the network executes one. All attempts' receipts count, always.

A transaction that is SENT but whose newest bytes the endpoint does not hold keeps the reason in
`refusal`; they are offered again at every look and no fee is raised meanwhile, since fees were not
what stood in the way.

Two states mean "not executed". DROPPED: the network refused the bytes before it ever took them. The
nonce is kept, so that trying again cannot execute twice even if the refused bytes turn up
somewhere. REPLACED: the nonce went, at final depth, to a transaction that is none of ours (someone
else uses the key); only then may a new nonce be given (`Replan`).

`handle` returns the next state and what to do. The driver must store the state before it acts: a
crash is harmless only because the signed bytes are on disk before the network sees them. Time is
counted in blocks; no clock is read. An illegal event raises `IllegalTransition` and changes
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from chain.transactions.signing import Fees


class State(StrEnum):
    """Where a transaction stands."""

    PLANNED = "planned"
    SIGNED = "signed"
    SENT = "sent"
    MINED = "mined"
    CONFIRMED = "confirmed"
    REVERTED = "reverted"
    REPLACED = "replaced"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Attempt:
    """Signed bytes at the transaction's nonce: 32-byte hash, raw bytes, fees offered."""

    hash: bytes
    raw: bytes
    fees: Fees


@dataclass(frozen=True)
class Mined:
    """Where an attempt was mined, and how it went."""

    hash: bytes
    block_number: int
    block_hash: bytes
    gas_used: int
    succeeded: bool


@dataclass(frozen=True)
class Transaction:
    """An intent (`key`, `to`, `data`, `value`, `gas`) and how far it has come.

    `nonce` is set from SIGNED on; `attempts` are oldest first; `sent_at` is the head block when the
    newest was last accepted; `refusal` is why the network did not take it, "" when it did.
    """

    key: str
    to: str | None
    data: bytes
    value: int
    gas: int
    state: State = State.PLANNED
    nonce: int | None = None
    attempts: tuple[Attempt, ...] = ()
    sent_at: int | None = None
    mined: Mined | None = None
    refusal: str = ""


class Refusal(StrEnum):
    """Why an endpoint did not take signed bytes. BUSY passes by itself; the others do not."""

    NONCE_TOO_LOW = "nonce too low"
    UNDERPRICED = "underpriced"
    NO_FUNDS = "no funds"
    BUSY = "busy"
    OTHER = "other"


@dataclass(frozen=True)
class Signed:
    """The driver signed `attempt` at `nonce`."""

    nonce: int
    attempt: Attempt


@dataclass(frozen=True)
class Accepted:
    """The network took the newest attempt, or already had it, while `head` was the head block."""

    head: int


@dataclass(frozen=True)
class Refused:
    """The network did not take the newest attempt."""

    refusal: Refusal
    message: str


@dataclass(frozen=True)
class Observed:
    """The chain at block `head`.

    `account_nonce` is the account's transaction count at the newest block of final depth, as far as
    it is proven (see network.py); `mined` is the receipt of any attempt whose block is on the
    canonical chain.
    """

    head: int
    account_nonce: int
    mined: Mined | None


@dataclass(frozen=True)
class Replan:
    """The caller asks again for a transaction that was replaced or reverted: use a new nonce."""


Event = Signed | Accepted | Refused | Observed | Replan


@dataclass(frozen=True)
class Broadcast:
    """Offer this attempt to the network; report Accepted or Refused."""

    attempt: Attempt


@dataclass(frozen=True)
class Bump:
    """Sign another attempt at the same nonce with higher fees; report Signed.

    When the cap forbids that and the newest attempt was `accepted` long ago, offer it once more: a
    pool may have forgotten it.
    """

    accepted: bool = False


@dataclass(frozen=True)
class Look:
    """Look at the chain now; report Observed."""


Command = Broadcast | Bump | Look

S = State
LEGAL: dict[tuple[State, type], frozenset[State]] = {
    (S.PLANNED, Signed): frozenset({S.SIGNED}),
    (S.SIGNED, Accepted): frozenset({S.SENT}),
    (S.SIGNED, Refused): frozenset({S.SIGNED, S.DROPPED}),
    (S.SIGNED, Signed): frozenset({S.SIGNED}),
    (S.SIGNED, Observed): frozenset({S.SIGNED, S.MINED, S.CONFIRMED, S.REVERTED, S.REPLACED}),
    (S.SENT, Accepted): frozenset({S.SENT}),
    (S.SENT, Refused): frozenset({S.SENT}),
    (S.SENT, Signed): frozenset({S.SENT}),
    (S.SENT, Observed): frozenset({S.SENT, S.MINED, S.CONFIRMED, S.REVERTED, S.REPLACED}),
    (S.MINED, Observed): frozenset({S.MINED, S.SENT, S.CONFIRMED, S.REVERTED}),
    (S.DROPPED, Observed): frozenset({S.DROPPED, S.MINED, S.CONFIRMED, S.REVERTED, S.REPLACED}),
    (S.DROPPED, Signed): frozenset({S.SIGNED}),
    (S.CONFIRMED, Observed): frozenset({S.CONFIRMED, S.MINED, S.SENT, S.REVERTED}),
    (S.REVERTED, Observed): frozenset({S.REVERTED, S.MINED, S.SENT, S.CONFIRMED}),
    (S.REPLACED, Replan): frozenset({S.PLANNED}),
    (S.REVERTED, Replan): frozenset({S.PLANNED}),
}
FINAL = frozenset({S.CONFIRMED, S.REVERTED, S.REPLACED, S.DROPPED})


class IllegalTransition(Exception):
    """An event that the transaction's state does not allow: a fault in the driver."""


@dataclass(frozen=True)
class Rules:
    """`confirmations`: blocks that make a transaction final, its own included. `bump_after`: blocks
    to wait in the pool before the fee is raised."""

    confirmations: int = 1
    bump_after: int = 5


def handle(tx: Transaction, event: Event, rules: Rules) -> tuple[Transaction, list[Command]]:
    """The transaction after `event`, and the commands to run once it is stored."""
    allowed = LEGAL.get((tx.state, type(event)))
    if allowed is None:
        raise IllegalTransition(f"{type(event).__name__} in state {tx.state}")
    match event:
        case Signed():
            after, commands = _signed(tx, event)
        case Accepted(head=head):
            after, commands = replace(tx, state=S.SENT, sent_at=head, refusal=""), [Look()]
        case Refused():
            after, commands = _refused(tx, event)
        case Observed():
            after, commands = _observed(tx, event, rules)
        case Replan():
            after = replace(
                tx, state=S.PLANNED, nonce=None, attempts=(), sent_at=None, mined=None, refusal=""
            )
            commands = []
    if after.state not in allowed:
        raise IllegalTransition(f"{tx.state} to {after.state} on {type(event).__name__}")
    return after, commands


def _signed(tx: Transaction, event: Signed) -> tuple[Transaction, list[Command]]:
    if tx.nonce not in (None, event.nonce):
        raise IllegalTransition(f"nonce {event.nonce} for a transaction signed at {tx.nonce}")
    state = S.SENT if tx.state is S.SENT else S.SIGNED
    # A retry at unchanged fees makes the same bytes again.
    known = event.attempt.hash in {attempt.hash for attempt in tx.attempts}
    attempts = tx.attempts if known else (*tx.attempts, event.attempt)
    signed = replace(tx, state=state, nonce=event.nonce, attempts=attempts, refusal="")
    return signed, [Broadcast(event.attempt)]


def _refused(tx: Transaction, event: Refused) -> tuple[Transaction, list[Command]]:
    refused = replace(tx, refusal=event.message)
    match event.refusal:
        case Refusal.UNDERPRICED:
            return refused, [Bump()]
        case Refusal.NONCE_TOO_LOW | Refusal.BUSY:
            # The next look tells whether a low nonce went to one of our attempts or to a stranger.
            return refused, []
        case Refusal.NO_FUNDS | Refusal.OTHER:
            # What was once accepted may still be in a pool somewhere; only chain state ends it.
            return replace(refused, state=S.DROPPED if tx.state is S.SIGNED else tx.state), []


def _observed(tx: Transaction, event: Observed, rules: Rules) -> tuple[Transaction, list[Command]]:
    assert tx.nonce is not None
    if event.mined is not None:
        depth = event.head - event.mined.block_number + 1
        if depth < rules.confirmations:
            return replace(tx, state=S.MINED, mined=event.mined), []
        state = S.CONFIRMED if event.mined.succeeded else S.REVERTED
        return replace(tx, state=state, mined=event.mined), []
    if tx.state in (S.MINED, S.CONFIRMED, S.REVERTED):
        back = replace(tx, state=S.SENT, mined=None, sent_at=event.head)
        return back, [Broadcast(attempt) for attempt in tx.attempts[-1:]]
    if event.account_nonce > tx.nonce:
        return replace(tx, state=S.REPLACED), []
    if tx.state is S.SIGNED or (tx.state is S.SENT and tx.refusal):
        return tx, [Broadcast(tx.attempts[-1])]
    if tx.state is S.SENT and overdue(tx, event.head, rules):
        return tx, [Bump(accepted=True)]
    return tx, []


def overdue(tx: Transaction, head: int, rules: Rules) -> bool:
    """Whether the newest attempt was accepted `bump_after` blocks before `head`, or earlier."""
    return tx.sent_at is not None and head - tx.sent_at >= rules.bump_after
