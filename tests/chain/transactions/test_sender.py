"""The real sender, with several intents on one key, on a chain that does its worst.

Rounds are interrupted by a crash at any request or any write, before or after it; a new sender then
goes on from the database. In the end the network calms down, and everything must come to rest.
"""

from __future__ import annotations

import contextlib
from typing import Any

import trio
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chain.database import Database
from chain.transactions.fees import FeePolicy
from chain.transactions.machine import Rules, State, Transaction
from chain.transactions.network import Network
from chain.transactions.sender import Sender, SenderSettings
from chain.transactions.store import TransactionStore
from tests.chain.hostile_chain import GWEI, Crash, HostileRpc

KEY = b"\x01" * 32
FRIEND = "0x" + "22" * 20
RULES = Rules(confirmations=3, bump_after=2)
SETTINGS = SenderSettings(rules=RULES, fees=FeePolicy(max_fee_cap=5 * GWEI), in_flight=3)
MOODS = [
    "take",
    "take",
    "leak",
    "lost before",
    "lost after",
    "insufficient funds",
    "replacement transaction underpriced",
    "txpool is full",
    "the moon is wrong",
]
INTENTS = [f"pay/{number}" for number in range(5)]


class DyingStore(TransactionStore):
    """Dies at a write: just before it, or just after. Sees to it that no nonce is given out while
    a lower one may yet be refused, nor one that another transaction holds."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.writes_to_live: int | None = None
        self.written = False

    def save(self, tx: Transaction) -> None:
        known = self.get(tx.key)
        if tx.nonce is not None and known is not None and known.nonce is None:
            for other in self.unfinished():
                assert other.nonce != tx.nonce
                assert other.state is not State.SIGNED or (other.nonce or 0) > tx.nonce
        last = self.writes_to_live == 0
        if self.writes_to_live is not None:
            self.writes_to_live -= 1
        if last and not self.written:
            raise Crash
        super().save(tx)
        if last:
            raise Crash


class WatchedRpc(HostileRpc):
    """Sees to it that nothing is offered that is not stored."""

    def __init__(self, store: TransactionStore) -> None:
        super().__init__()
        self._store = store

    async def send_raw(self, raw: bytes) -> None:
        open_ = self._store.unfinished()
        mine = [tx for tx in open_ if raw in {attempt.raw for attempt in tx.attempts}]
        assert len(mine) == 1, "bytes were offered that are not stored"
        await super().send_raw(raw)


class OneKey(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.database = Database(":memory:", chain_id=1, genesis=bytes(32), address="0x")
        self.store = DyingStore(self.database)
        self.rpc = WatchedRpc(self.store)
        self.sender = self.start()

    def start(self) -> Sender:
        rpc: Any = self.rpc
        network = Network(rpc, 1, KEY, RULES, SETTINGS.fees)
        sender = Sender(network, self.store, SETTINGS)
        trio.run(sender.resume)
        return sender

    def teardown(self) -> None:
        try:
            self.calm_down()
        finally:
            self.database.close()

    def calm_down(self) -> None:
        """With a friendly network, everything ends, and in as few blocks as the rules allow."""
        self.rpc.moods, self.rpc.late = [], False
        for _ in range(40):
            if not self.store.unfinished():
                break
            trio.run(self.sender.round)
            self.rpc.seen |= {held.hash: held for held in self.rpc.pool.values()}
            self.rpc.mine([(0, True)] * 16)
        assert self.store.unfinished() == []

    # -- the caller --------------------------------------------------------------------------

    @rule(key=st.sampled_from(INTENTS))
    def intend(self, key: str) -> None:
        self.store.add(Transaction(key, FRIEND, b"", 1, 30_000))
        self.sender.ask(key)

    @rule(key=st.sampled_from(INTENTS))
    def ask_again(self, key: str) -> None:
        if self.store.get(key) is not None:
            self.sender.ask(key, again=True, gas=40_000)

    # -- the sender --------------------------------------------------------------------------

    @rule(moods=st.lists(st.sampled_from(MOODS), max_size=4), late=st.booleans())
    def go_on(self, moods: list[str], late: bool) -> None:
        self.rpc.moods, self.rpc.late = moods, late
        trio.run(self.sender.round)

    @rule(
        moods=st.lists(st.sampled_from(MOODS), max_size=3),
        calls=st.integers(0, 20),
        writes=st.none() | st.integers(0, 4),
        written=st.booleans(),
    )
    def crash(self, moods: list[str], calls: int, writes: int | None, written: bool) -> None:
        self.rpc.moods, self.rpc.late = moods, False
        if writes is None:
            self.rpc.calls_to_live = calls
        self.store.writes_to_live, self.store.written = writes, written
        with contextlib.suppress(Crash):
            trio.run(self.sender.round)
        self.rpc.calls_to_live = self.store.writes_to_live = None
        self.sender = self.start()

    # -- the world ---------------------------------------------------------------------------

    @rule(picks=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=3))
    def mine(self, picks: list[tuple[int, bool]]) -> None:
        self.rpc.mine(picks)

    @rule()
    def mine_well(self) -> None:
        self.rpc.mine([(0, True)] * 3)

    @rule()
    def stranger(self) -> None:
        self.rpc.mine([], strangers=True)

    @rule(key=st.sampled_from(INTENTS))
    def stranger_leaves_a_hole(self, key: str) -> None:
        self.rpc.mine([], strangers=True)
        self.intend(key)
        trio.run(self.sender.round)
        self.rpc.reorganise(1)

    @rule(
        depth=st.integers(1, RULES.confirmations - 1),
        picks=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=2),
    )
    def reorganise(self, depth: int, picks: list[tuple[int, bool]]) -> None:
        self.rpc.reorganise(depth)
        self.rpc.mine(picks)

    @precondition(lambda self: self.rpc.pool)
    @rule()
    def forget(self) -> None:
        self.rpc.pool.clear()

    # -- what must hold ----------------------------------------------------------------------

    @invariant()
    def each_intent_happens_at_most_once(self) -> None:
        with self.database.transaction() as cursor:
            rows = cursor.execute("SELECT key, hash FROM attempt").fetchall()
        happened = [key for key, tx_hash in rows if (self.rpc.where(tx_hash) or (0, False))[1]]
        assert len(happened) == len(set(happened))

    @invariant()
    def no_execution_counts_twice(self) -> None:
        stored = [self.store.get(key) for key in INTENTS]
        hashes = [attempt.hash for tx in stored if tx is not None for attempt in tx.attempts]
        assert len(hashes) == len(set(hashes))

    @invariant()
    def confirmed_means_final_on_the_chain(self) -> None:
        for key in INTENTS:
            tx = self.store.get(key)
            if tx is not None and tx.state is State.CONFIRMED:
                assert tx.mined is not None
                assert self.rpc.where(tx.mined.hash) == (tx.mined.block_number, True)
                assert self.rpc.blocks[tx.mined.block_number].hash == tx.mined.block_hash

    @invariant()
    def what_came_to_nothing_did_not_happen(self) -> None:
        """At least while its bytes are known to this chain only: a leak may happen later."""
        for key in INTENTS:
            tx = self.store.get(key)
            if tx is not None and tx.state is State.REPLACED:
                assert all(self.rpc.where(attempt.hash) is None for attempt in tx.attempts)


TestOneKey = OneKey.TestCase
TestOneKey.settings = hypothesis_settings(max_examples=100, stateful_step_count=40, deadline=None)
