"""Units that a wrong root had paid are unpaid once it is voided, whenever that is noticed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from node.journal import AsyncJournal, open_journal
from node.roles.validator.journal_events import UnitAccepted
from node.roles.validator.settlement.settling import SettlementParts, ValidatorSettlement
from node.settlement.history import PoolHistory, PostedEpoch
from node.settlement.paid import PaidWork
from node.supervisor.supervisor import Supervisor
from proofs.encoding.leaves import PostedRoot
from proofs.settlement.epoch_data import Epoch
from tests.proofs.settlement.epochs import settled, signed

OURS, OTHER = signed(1), signed(2)
WRONG, RIGHT = settled([OURS]), settled([OTHER])
"""The wrong root pays our unit and is voided; the right one pays another, so ours waits."""
UNIT, POOL = OURS.receipt.job_id, OURS.receipt.pool_id


class Follower:
    """One pool, whose roots are final when the test says so."""

    def __init__(self, paid: PaidWork) -> None:
        self.version = 0
        self.pool = PoolHistory(POOL)
        self.histories = {POOL: self.pool}
        self.final = False
        self._paid = paid
        self._changed = trio.Event()

    def history(self, pool_id: int) -> PoolHistory:
        return self.histories[pool_id]

    async def wait_changed(self, version: int) -> int:
        while self.version <= version:
            await self._changed.wait()
        return self.version

    def is_final(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        return self.final

    async def post(self, epoch: Epoch) -> None:
        number = self.pool.last + 1
        self.pool.post(PostedEpoch(PostedRoot(epoch.root, ()), 0, number, "0x"))
        await self._paid.note(epoch.root, epoch)
        self.pool.fill(number, epoch)
        self.tell()

    def tell(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = trio.Event()


def make(journal: AsyncJournal) -> tuple[ValidatorSettlement, Follower]:
    async def never(*_: Any) -> float:
        return float("inf")

    paid = PaidWork(journal)
    follower = Follower(paid)
    context: Any = SimpleNamespace(
        journal=journal,
        log=structlog.get_logger(),
        now=lambda: 0.0,
        wall=lambda: 1000.0,
        supervisor=Supervisor(),
        network=SimpleNamespace(serve=lambda *_, **__: None),
    )
    parts: Any = SettlementParts(
        SimpleNamespace(wait_turn=never),  # type: ignore[arg-type]
        SimpleNamespace(staked=SimpleNamespace(require=None), on_cosign=None),  # type: ignore[arg-type]
        SimpleNamespace(run=trio.sleep_forever),  # type: ignore[arg-type]
    )
    seen: Any = follower
    return ValidatorSettlement(context, seen, paid, parts), follower


@pytest.mark.parametrize("noticed", ["while it runs", "between restoring and running"])
async def test_a_root_that_goes_takes_nobodys_pay_along(tmp_path: Path, noticed: str) -> None:
    async with open_journal(tmp_path / "j") as journal, trio.open_nursery() as nursery:
        before, _ = make(journal)
        await before.accept("peer", UNIT, b"b" * 32, [OURS])
        settlement, follower = make(journal)  # after a restart
        await follower.post(WRONG)
        await settlement.restore()
        assert settlement.waiting == 0
        if noticed == "while it runs":
            await nursery.start(settlement.run)
            await trio.testing.wait_all_tasks_blocked()
        # Gone, and another in its place, before anybody can look in between.
        follower.pool.void(1, 2)
        await follower.post(RIGHT)
        follower.final = True
        if noticed != "while it runs":
            await nursery.start(settlement.run)
        with trio.fail_after(60):
            while not settlement.waiting:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert [event.unit_id for event in await journal.replay(UnitAccepted)] == [UNIT]
        nursery.cancel_scope.cancel()
