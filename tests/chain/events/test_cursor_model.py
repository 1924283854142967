"""A consumer that keeps its books by the event reader, on a chain that reorganises at any depth.

Whatever happens (crashes, restarts, endpoints that refuse, blocks that are replaced), once the
reader has caught up the books say exactly what the chain says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chain.database import Database
from chain.deployment.deployment import Deployment
from chain.encoding.artifacts import load_artifact
from chain.encoding.records import Block, Log
from chain.errors import RpcError
from chain.events.cursor import kept
from chain.events.reader import Batch, EventReader

TOKEN = "0x" + "11" * 20
FRIEND = bytes(12) + b"\x22" * 20
TRANSFER = load_artifact("PrimeToken").abi.topic("Transfer")
CONFIRMATIONS = 2


class ModelRpc:
    """Blocks with at most one transfer each, of an amount that no other has."""

    url = "http://model"

    def __init__(self) -> None:
        self.blocks: list[tuple[bytes, int | None]] = [(bytes(32), None)]
        self.widest = 1_000
        self._salt = 0

    def mine(self, pays: bool) -> None:
        self._salt += 1
        self.blocks.append((self._salt.to_bytes(32, "big"), self._salt if pays else None))

    def paid(self, last: int) -> list[int]:
        return [amount for _, amount in self.blocks[: last + 1] if amount is not None]

    async def block_number(self) -> int:
        return len(self.blocks) - 1

    async def block(self, number: int) -> Block | None:
        if number >= len(self.blocks):
            return None
        block_hash = self.blocks[number][0]
        return Block(number=number, hash=block_hash, parent_hash=bytes(32), timestamp=0)

    async def logs(self, first: int, last: int, addresses: Sequence[str]) -> Sequence[Log]:
        if last - first >= self.widest:
            raise RpcError("eth_getLogs", -32005, "too many results")
        return [
            Log(
                address=TOKEN,
                topics=(TRANSFER, FRIEND, FRIEND),
                data=amount.to_bytes(32, "big"),
                block_number=number,
                block_hash=block_hash,
                transaction_hash=block_hash,
                transaction_index=0,
                log_index=0,
            )
            for number, (block_hash, amount) in enumerate(self.blocks)
            if first <= number <= last and amount is not None
        ]


class Books(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.database = Database(":memory:", chain_id=1, genesis=bytes(32), address="0x")
        with self.database.transaction() as cursor:
            cursor.execute("CREATE TABLE book (block INTEGER, amount INTEGER UNIQUE)")
        self.rpc = ModelRpc()
        self.reader = self.start()
        self.deepest = 0

    def start(self) -> EventReader:
        deployment = Deployment(1, {"PrimeToken": TOKEN}, 1, 1)
        rpc: Any = self.rpc
        return EventReader(
            rpc, deployment, self.database, "books", ["PrimeToken"], confirmations=CONFIRMATIONS
        )

    def teardown(self) -> None:
        self.database.close()

    # -- the consumer ------------------------------------------------------------------------

    @staticmethod
    def enter(batch: Batch, cursor: sqlite3.Cursor) -> None:
        if batch.void_after is not None:
            cursor.execute("DELETE FROM book WHERE block > ?", (batch.void_after,))
        rows = [(event.block_number, event.args["value"]) for event in batch.events]
        cursor.executemany("INSERT INTO book VALUES (?, ?)", rows)

    async def handle(self) -> bool:
        batch = await self.reader.read()
        if batch is None:
            return False
        return await self.reader.finish(batch, partial(self.enter, batch))

    @rule(widest=st.sampled_from([1, 2, 5, 1_000]))
    def catch_up(self, widest: int) -> None:
        self.rpc.widest = widest

        async def all_of_it() -> None:
            while await self.handle():
                pass

        trio.run(all_of_it)
        final = len(self.rpc.blocks) - CONFIRMATIONS
        with self.database.transaction() as cursor:
            rows = cursor.execute("SELECT amount FROM book ORDER BY block").fetchall()
            reached = cursor.execute("SELECT block_number FROM event_cursor").fetchone()
        if reached is None or reached[0] <= final:
            assert [row[0] for row in rows] == self.rpc.paid(final)

    @rule()
    def handle_one(self) -> None:
        trio.run(self.handle)

    @rule(finishes=st.booleans(), depth=st.integers(1, 8))
    def reorganise_between(self, finishes: bool, depth: int) -> None:
        """The chain changes, or the process dies, after a batch was read."""

        async def between() -> None:
            batch = await self.reader.read()
            self.reorganise(depth, [True] * depth)
            if batch is not None and finishes:
                await self.reader.finish(batch, partial(self.enter, batch))

        trio.run(between)
        self.reader = self.start()

    # -- the chain ---------------------------------------------------------------------------

    @rule(pays=st.lists(st.booleans(), min_size=1, max_size=6))
    def mine(self, pays: list[bool]) -> None:
        for one in pays:
            self.rpc.mine(one)

    @rule(depth=st.integers(1, 12), pays=st.lists(st.booleans(), max_size=14))
    def reorganise(self, depth: int, pays: list[bool]) -> None:
        del self.rpc.blocks[max(len(self.rpc.blocks) - depth, 1) :]
        self.mine(pays)

    @invariant()
    def checkpoints_are_few(self) -> None:
        with self.database.transaction() as cursor:
            cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'event_checkpoint'")
            if cursor.fetchone() is not None:
                count = cursor.execute("SELECT count(*) FROM event_checkpoint").fetchone()[0]
                assert count <= 2 * (len(self.rpc.blocks) + 20).bit_length() + 2


TestBooks = Books.TestCase
TestBooks.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)


@hypothesis_settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=150))
def test_some_checkpoint_lies_not_much_deeper_than_any_reorganisation(steps: list[int]) -> None:
    checkpoints: set[int] = set()
    newest = 0
    for step in steps:
        newest += step
        checkpoints = kept(checkpoints | {newest}, newest)
        assert newest in checkpoints
        assert len(checkpoints) <= 2 * newest.bit_length() + 2
    every = [sum(steps[: end + 1]) for end in range(len(steps))]
    for reached in every[1:]:  # blocks from `reached` on left the chain
        before = max(number for number in every if number < reached)
        kept_before = [number for number in checkpoints if number < reached]
        if kept_before:
            assert newest - max(kept_before) <= 4 * (newest - before) + 40
        else:
            assert before <= 0 or newest - before >= (newest - every[0]) // 4
