"""A journal that stalls at one kind of event: nothing that follows from it is seen before."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from node.journal import Forget, JournalEvent
from node.roles.validator import journal_events
from tests.adversarial.harness import eventually

KINDS = {
    value
    for value in vars(journal_events).values()
    if isinstance(value, type) and issubclass(value, JournalEvent) and value is not JournalEvent
}
ACCEPTING = ("BundleTaken", "BundleTried", "VerdictSigned", "BundleCounted", "UnitAccepted")
"""What an accepted bundle writes, in order."""
NOT_DRIVEN_HERE = {
    "LimitsUsed",
    "RowsAsked",
    "WorkerChecked",
    "WorkerDrifted",
    "ConvictionFound",
    "EpochCosigned",
}
"""The first four are in one transaction with another; the others need a cheat or an epoch. All of
them are in `test_durable.py` of `tests/node/roles/validator`."""


def test_every_kind_is_named() -> None:
    assert {kind.__name__ for kind in KINDS} == set(ACCEPTING) | NOT_DRIVEN_HERE


@pytest.mark.parametrize("kind", ACCEPTING)
async def test_a_stalled_journal_shows_nothing_and_then_goes_on(scenario, kind: str) -> None:
    async with scenario() as c, c.session(), trio.open_nursery() as nursery:
        journal, unit = c.judge.context.journal, c.bundle()
        record, stalled, well = journal.record, trio.Event(), trio.Event()

        async def stall(*events: Any, **options: Any) -> list[bool]:
            if any(type(event).__name__ == kind for event in events):
                stalled.set()
                await well.wait()
            return await record(*events, **options)

        journal.record = stall
        answered = trio.Event()

        async def verify() -> None:
            await c.verify(unit)
            answered.set()

        nursery.start_soon(verify)
        await stalled.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert answered.is_set() == (kind != "BundleTaken")
        assert c.validator.queued == (kind != "BundleTaken")
        assert c.verdicts == []
        assert c.paid() == 0
        assert c.engine.count("replay") == (kind not in ("BundleTaken", "BundleTried"))
        assert c.validator.judged == (kind in ("BundleCounted", "UnitAccepted"))
        assert c.validator.settlement.waiting == 0
        well.set()
        await c.judged(unit)
        await eventually(lambda: c.paid())


async def test_a_bundle_is_owed_until_the_journal_says_that_it_is_not(scenario) -> None:
    async with scenario() as c, c.session(), trio.open_nursery() as nursery:
        journal, unit = c.judge.context.journal, c.bundle()
        record, stalled, well = journal.record, trio.Event(), trio.Event()

        async def stall(*events: Any, **options: Any) -> list[bool]:
            if any(isinstance(event, Forget) for event in events):
                stalled.set()
                await well.wait()
            return await record(*events, **options)

        journal.record = stall
        nursery.start_soon(c.verify, unit)
        await stalled.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert c.validator.queued == 1
        assert len(await journal.replay(journal_events.BundleTaken)) == 1
        well.set()
        await eventually(lambda: c.validator.queued == 0)
        assert await journal.replay(journal_events.BundleTaken) == []
