"""A unit is proposed once, however late its payment is noticed where it waits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import structlog

from node.roles.validator.settlement.chain_reads import Budget
from node.roles.validator.settlement.pending import EpochRules, PendingPool
from node.roles.validator.settlement.proposer import Proposer
from node.settlement.history import PoolHistory, PostedEpoch
from proofs.encoding.leaves import PostedRoot, SignedReceipt
from proofs.settlement.audit import AuditFacts
from tests.proofs.settlement.epochs import PRICE, facts, settled, signed

FIRST = settled([signed(1)])


class Facts:
    """The chain says that epoch 1 is final; what it paid is in the journal."""

    async def settled_until(self, history: PoolHistory) -> bool:
        return True

    async def before(
        self, history: PoolHistory, number: int, receipts: list[SignedReceipt]
    ) -> AuditFacts:
        work = [(item.receipt.job_id, item.receipt.stage) for item in receipts]
        paid = {place: (1, 0) for place in work if place in FIRST.work}
        return facts(FIRST.earned, paid)

    async def budget(self, pool_id: int, committed: int) -> Budget:
        return Budget(PRICE, 10**30)


def bench() -> tuple[Proposer, PoolHistory, PendingPool]:
    history, pool = PoolHistory(1), PendingPool(1)
    history.post(PostedEpoch(PostedRoot(FIRST.root, ()), 0, 1, "0x"))

    async def put(content: bytes) -> None:
        pass

    follower: Any = SimpleNamespace(history=lambda pool_id: history, blobs=SimpleNamespace(put=put))
    context: Any = SimpleNamespace(now=lambda: 0.0, log=structlog.get_logger("test"))
    nobody: Any = None
    known: Any = Facts()
    for job in (1, 2):
        pool.take(job.to_bytes(32, "big"), (signed(job),), 0.0)
    return Proposer(context, nobody, follower, known, EpochRules(quiet=0.0)), history, pool


async def test_what_the_newest_epoch_paid_is_not_proposed_again() -> None:
    proposer, history, pool = bench()
    history.fill(1, FIRST)
    epoch = await proposer._make(pool)
    assert epoch is not None
    assert epoch.work == settled([signed(2)]).work
    assert epoch.root.epoch == 2
    del pool.units[(2).to_bytes(32, "big")]
    assert await proposer._make(pool) is None


async def test_nothing_is_proposed_while_the_newest_epochs_data_are_not_here() -> None:
    proposer, _, pool = bench()
    assert await proposer._make(pool) is None
