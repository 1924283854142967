"""The transaction machine against a hostile chain.

The model chain takes blocks and gives them back (never below final depth), the network refuses at
whim and may yet mine what it refused, a stranger uses the same key, and the process dies between
any two steps and starts again from the database.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chain.database import Database
from chain.transactions.machine import (
    FINAL,
    LEGAL,
    Accepted,
    Attempt,
    Broadcast,
    Bump,
    Command,
    Event,
    IllegalTransition,
    Mined,
    Observed,
    Refusal,
    Refused,
    Replan,
    Rules,
    Signed,
    State,
    Transaction,
    handle,
)
from chain.transactions.signing import Fees
from chain.transactions.store import TransactionStore

ANSWERS = ["take", "take", "take", "refuse", "poor", "busy", "underpriced", "lost"]
RULES = Rules(confirmations=3, bump_after=2)
KEY = "pay"
BLANK = Transaction(KEY, None, b"", 0, 21_000)


@dataclass(frozen=True)
class Block:
    """A block with at most one transaction of the account; `attempt` None is a stranger's."""

    number: int
    salt: int
    taken: bool = False
    attempt: bytes | None = None
    succeeded: bool = True

    @property
    def hash(self) -> bytes:
        return bytes([self.number % 256, self.salt % 256]) * 16


class HostileChain(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.database = Database(":memory:", chain_id=1, genesis=bytes(32), address="0x")
        self.store = TransactionStore(self.database)
        self.tx = self.store.add(BLANK)
        self.commands: list[Command] = []
        self.blocks = [Block(0, 0)]
        self.salt = 0
        self.nonces: dict[bytes, int] = {}  # every attempt ever signed
        self.seen: set[bytes] = set()  # every attempt the network ever saw

    def teardown(self) -> None:
        self.database.close()

    # -- the driver, as the manager does it --------------------------------------------------

    def apply(self, event: Event) -> None:
        after, commands = handle(self.tx, event, RULES)
        self.store.save(after)
        self.tx, self.commands = after, self.commands + commands

    def sign(self, nonce: int) -> None:
        tx_hash = len(self.nonces).to_bytes(32, "big")
        self.nonces[tx_hash] = nonce
        self.apply(Signed(nonce, Attempt(tx_hash, b"raw" + tx_hash, Fees(10, 1))))

    def observe(self) -> None:
        head = self.blocks[-1].number
        final = max(head - RULES.confirmations + 1, 0)
        mined = None
        for block in self.blocks:
            if block.attempt in {attempt.hash for attempt in self.tx.attempts}:
                assert block.attempt is not None
                mined = Mined(block.attempt, block.number, block.hash, 1, block.succeeded)
        self.apply(Observed(head, self.nonce(final), mined))

    def nonce(self, at: int | None = None) -> int:
        return sum(block.taken for block in self.blocks if at is None or block.number <= at)

    @precondition(lambda self: self.tx.state is State.PLANNED)
    @rule()
    def plan(self) -> None:
        self.sign(self.nonce())

    @precondition(lambda self: self.tx.state not in FINAL | {State.PLANNED})
    @rule()
    def look(self) -> None:
        self.commands = []
        self.observe()

    @precondition(lambda self: self.tx.state is State.CONFIRMED)
    @rule()
    def look_again(self) -> None:
        self.commands = []
        self.observe()
        assert self.tx.state is State.CONFIRMED  # within the promised depth nothing changes

    @precondition(lambda self: self.commands)
    @rule(answer=st.sampled_from(ANSWERS), leaks=st.booleans())
    def act(self, answer: str, leaks: bool) -> None:
        command = self.commands.pop(0)
        if isinstance(command, Bump):
            assert self.tx.nonce is not None
            self.sign(self.tx.nonce)
        elif isinstance(command, Broadcast):
            self.broadcast(command.attempt, answer, leaks)
        else:
            self.observe()

    def broadcast(self, attempt: Attempt, answer: str, leaks: bool) -> None:
        if leaks or answer == "take":
            self.seen.add(attempt.hash)
        if self.nonces[attempt.hash] < self.nonce():
            self.apply(Refused(Refusal.NONCE_TOO_LOW, "nonce too low"))
        elif answer == "take":
            self.apply(Accepted(self.blocks[-1].number))
        elif answer == "refuse":
            self.apply(Refused(Refusal.OTHER, "no"))
        elif answer == "poor":
            self.apply(Refused(Refusal.NO_FUNDS, "insufficient funds"))
        elif answer == "busy":
            self.apply(Refused(Refusal.BUSY, "txpool is full"))
        elif answer == "underpriced":
            self.apply(Refused(Refusal.UNDERPRICED, "more"))

    @rule()
    def crash(self) -> None:
        self.commands = []
        loaded = self.store.get(KEY)
        assert loaded is not None
        self.tx = loaded

    @precondition(lambda self: self.tx.state in FINAL - {State.CONFIRMED})
    @rule()
    def ask_again(self) -> None:
        self.commands = []
        if self.tx.state is not State.REPLACED:
            self.observe()
        if self.tx.state in (State.REPLACED, State.REVERTED):
            self.apply(Replan())
        elif self.tx.state is State.DROPPED:
            assert self.tx.nonce is not None
            self.sign(self.tx.nonce)

    # -- the world ---------------------------------------------------------------------------

    def grow(self, taken: bool, attempt: bytes | None = None, succeeded: bool = True) -> None:
        self.salt += 1
        number = self.blocks[-1].number + 1
        self.blocks.append(Block(number, self.salt, taken, attempt, succeeded))

    @rule(pick=st.integers(0, 20), succeeded=st.booleans())
    def mine(self, pick: int, succeeded: bool) -> None:
        ready = sorted(h for h in self.seen if self.nonces[h] == self.nonce())
        if ready:
            self.grow(True, ready[pick % len(ready)], succeeded)
        else:
            self.grow(False)

    @rule(strangers=st.sampled_from([False, False, False, True]))
    def others_mine(self, strangers: bool) -> None:
        self.grow(strangers)

    @precondition(lambda self: self.seen)
    @rule(depth=st.integers(1, RULES.confirmations - 1))
    def reorganise(self, depth: int) -> None:
        kept = max(len(self.blocks) - depth, 1)
        replaced = len(self.blocks) - kept
        del self.blocks[kept:]
        for _ in range(replaced):  # the winning branch is at least as long
            self.grow(False)

    # -- what must hold ----------------------------------------------------------------------

    @invariant()
    def executed_at_most_once(self) -> None:
        done = [b for b in self.blocks if b.attempt is not None and b.succeeded]
        assert len(done) <= 1

    @invariant()
    def confirmed_means_executed(self) -> None:
        if self.tx.state is State.CONFIRMED:
            assert self.tx.mined is not None
            assert self.tx.mined.hash in {b.attempt for b in self.blocks if b.succeeded}

    @invariant()
    def the_database_knows_all(self) -> None:
        assert self.store.get(KEY) == self.tx
        assert {a.hash for a in self.tx.attempts} <= self.nonces.keys()


TestHostileChain = HostileChain.TestCase
TestHostileChain.settings = hypothesis_settings(
    max_examples=250, stateful_step_count=50, deadline=None
)


@pytest.mark.parametrize("state", list(State))
def test_an_illegal_event_raises_and_changes_nothing(state: State) -> None:
    mined = Mined(bytes(32), 1, bytes(32), 1, True)
    attempt = Attempt(bytes(32), b"raw", Fees(1, 1))
    tx = replace(BLANK, state=state, nonce=0, attempts=(attempt,), mined=mined)
    events: list[Event] = [
        Signed(0, attempt),
        Accepted(1),
        Refused(Refusal.OTHER, "no"),
        Observed(1, 0, None),
        Replan(),
    ]
    for event in events:
        if (state, type(event)) in LEGAL:
            continue
        with pytest.raises(IllegalTransition):
            handle(tx, event, RULES)


def test_a_second_nonce_is_never_signed() -> None:
    attempt = Attempt(bytes(32), b"raw", Fees(1, 1))
    signed, _ = handle(BLANK, Signed(4, attempt), RULES)
    with pytest.raises(IllegalTransition, match="nonce"):
        handle(signed, Signed(5, attempt), RULES)
