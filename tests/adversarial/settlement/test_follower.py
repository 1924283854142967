"""The follower on a chain that repeats itself and takes things back, across restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.encoding.structs import DisputeKind
from chain.events.cursor import Position
from chain.events.reader import Batch, ChainEvent
from node.settlement.follower import SettlementFollower
from proofs.encoding.leaves import PostedRoot
from tests.adversarial.harness import eventually, open_node
from tests.adversarial.ledger import Ledger, root_fields
from tests.adversarial.standins import DOMAIN, POOL
from tests.proofs.settlement.epochs import settled, signed

SIGNER = "0x" + "11" * 20
FIRST = settled([signed(1, pool_id=POOL)], pool_id=POOL).root
OTHER = settled([signed(2, pool_id=POOL)], pool_id=POOL).root


def event(name: str, block: int, **args: Any) -> ChainEvent:
    """Of the same transaction wherever it lies."""
    return ChainEvent("ReceiptSettlement", name, args, block, name.encode() * 2, 0)


def posted(root: Any, block: int) -> ChainEvent:
    fields = root_fields(root)
    return event("RootPosted", block, root=fields, signers=[SIGNER], claimableAt=0)


def voided(block: int) -> ChainEvent:
    return event("RootVoided", block, poolId=POOL, epoch=1)


def disputed(block: int) -> ChainEvent:
    dispute = {
        "kind": DisputeKind.RECEIPT,
        "challenger": SIGNER,
        "epoch": 1,
        "answerBy": 2**40,
        "poolId": POOL,
        "root": PostedRoot(FIRST, (SIGNER,)).hash(DOMAIN),
        "subject": 0,
        "amount": 0,
    }
    return event("DisputeOpened", block, disputeId=5, dispute=dispute)


def answered(block: int) -> ChainEvent:
    return event("DisputeAnswered", block, disputeId=5)


def batch(last: int, *events: ChainEvent, after: int | None = None) -> Batch:
    """Up to block `last`; `after` is the block after which all that came before is void."""
    base = Position(last - 1 if after is None else after, None)
    cursor = base if after is None else Position(last, b"o" * 32)
    return Batch(events, Ledger().block(last), cursor, base)


class Script:
    """Reads the batches of a test, then no more."""

    def __init__(self, batches: tuple[Batch, ...]) -> None:
        self._batches = batches
        self.done = 0

    async def batches(self) -> AsyncIterator[Batch]:
        for item in self._batches:
            yield item
            self.done += 1
        await trio.sleep_forever()


@pytest.fixture
def life(tmp_path: Path) -> Callable[..., Any]:
    """One run of a follower over these batches; the next one finds its journal."""

    @asynccontextmanager
    async def run(*batches: Batch) -> AsyncIterator[SettlementFollower]:
        script = Script(batches)
        async with (
            open_node(70, tmp_path, ledger=Ledger(), source=script) as node,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(node.follower.run)
            await eventually(lambda: script.done == len(batches))
            yield node.follower
            nursery.cancel_scope.cancel()

    return run


def roots(follower: SettlementFollower) -> list[Any]:
    return [entry.posted.root for entry in follower.history(POOL).entries]


CASES: dict[str, tuple[tuple[Batch, ...], list[Any], bool]] = {
    "posted": ((batch(10, posted(FIRST, 10)),), [FIRST], False),
    "delivered twice": ((batch(10, posted(FIRST, 10)),) * 2, [FIRST], False),
    "voided": ((batch(12, posted(FIRST, 10), voided(12)),), [], False),
    "voided, and delivered again": ((batch(12, posted(FIRST, 10), voided(12)),) * 2, [], False),
    "replaced": (
        (batch(13, posted(FIRST, 10), voided(12), posted(OTHER, 13)),) * 2,
        [OTHER],
        False,
    ),
    "taken back": ((batch(10, posted(FIRST, 10)), batch(11, after=9)), [], False),
    "taken back and in the same place again": (
        (batch(10, posted(FIRST, 10)), batch(11, posted(FIRST, 10), after=9)),
        [FIRST],
        False,
    ),
    "taken back twice": (
        (
            batch(10, posted(FIRST, 10)),
            batch(11, posted(FIRST, 10), after=9),
            batch(12, posted(FIRST, 10), after=9),
        ),
        [FIRST],
        False,
    ),
    "its voiding taken back": (
        (batch(12, posted(FIRST, 10), voided(12)), batch(13, after=11)),
        [FIRST],
        False,
    ),
    "disputed": ((batch(12, posted(FIRST, 10), disputed(11)),), [FIRST], True),
    "answered": ((batch(12, posted(FIRST, 10), disputed(11), answered(12)),), [FIRST], False),
    "its dispute taken back": (
        (batch(12, posted(FIRST, 10), disputed(11)), batch(13, after=10)),
        [FIRST],
        False,
    ),
    "its answer taken back": (
        (batch(12, posted(FIRST, 10), disputed(11), answered(12)), batch(13, after=11)),
        [FIRST],
        True,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_the_history_is_what_the_chain_says_now_and_a_restart_knows_it(
    life: Callable[..., Any], name: str
) -> None:
    batches, standing, open_dispute = CASES[name]
    async with life(*batches) as follower:
        assert (roots(follower), bool(follower.disputes)) == (standing, open_dispute)
    async with life() as follower:  # it has not read a block yet
        assert (roots(follower), bool(follower.disputes)) == (standing, open_dispute)
        if standing:
            history = follower.history(POOL)
            assert follower.is_final(history, history.entries[0]) == (not open_dispute)
    async with life(batches[-1]) as follower:  # as if it had died before the cursor moved
        assert (roots(follower), bool(follower.disputes)) == (standing, open_dispute)
    async with life() as follower:
        assert (roots(follower), bool(follower.disputes)) == (standing, open_dispute)
