"""What an operator is shown of tokens never falls, whatever becomes of units and of runs."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.journal import AsyncJournal, open_journal
from node.metrics import NodeMetrics
from node.roles.orchestrator.coordinator.events import (
    Event,
    PeerTokens,
    PeerValidates,
    QueueGrew,
    UnitRefused,
)
from node.roles.orchestrator.reporting import Reporter
from node.roles.orchestrator.snapshot import job_snapshot
from tests.node.roles.orchestrator.lives import Life, one_batch
from tests.node.roles.orchestrator.test_coordinator_fuzz import EVENTS, JUDGES, _event

METRICS = NodeMetrics()


@settings(max_examples=12, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.integers(0, 2**32), st.lists(st.integers(1, 40)))
def test_counts_of_tokens_never_fall(names: list[str], seed: int, ends: list[int]) -> None:
    with TemporaryDirectory() as folder:
        trio.run(lives, Path(folder), names, random.Random(seed), ends)


async def lives(folder: Path, names: list[str], choose: random.Random, ends: list[int]) -> None:
    """Events in several runs, each of which dies after so many of them."""
    shown = (0, 0)
    for run in [*ends, len(names)]:
        async with open_journal(folder / "journal.sqlite") as journal:
            shown = await one_run(journal, names[:run], choose, shown)
        names = names[run:]


async def one_run(
    journal: AsyncJournal, names: list[str], choose: random.Random, shown: tuple[int, int]
) -> tuple[int, int]:
    life = await Life.begin(journal)
    if not life.ledger.jobs:
        await life.ledger.submit("job", one_batch())
    reporter = Reporter(
        life.pool,
        lambda: life.ledger.tokens,
        life.ledger.tokens_shown,
        METRICS,
        structlog.get_logger(),
        window=2,
    )

    def look() -> tuple[int, int]:
        reporter.meter(life.now)
        assert reporter.tokens_per_second >= 0
        job = life.ledger.jobs["job"]
        tokens = life.ledger.tokens_of(job)
        assert job_snapshot(job, life.pool, tokens).tokens == tokens
        return tokens, reporter.tokens

    assert look() == shown  # as the run before ended
    await life.tell(QueueGrew(), *(PeerValidates(judge, 1) for judge in JUDGES))
    works = await life.gather()
    if works:
        await life.ring()
    for name in names:
        life.now += choose.random() * 2
        if not works:
            break
        event: Event = _event(name, life, works, choose)
        await life.tell(event)
        before, shown = shown, look()
        assert shown >= before
        assert all(now >= then for now, then in zip(shown, before, strict=True))
    return look()


async def test_what_is_done_again_stays_counted_in_every_later_run(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        life = await Life.begin(journal)
        await life.ledger.submit("job", one_batch())
        work, other, _ = await life.gather()
        await life.ring()
        current = life.unit(work)
        name = current.sequences[0].sequence_id
        await life.tell(PeerTokens(current.generation, work.unit_id, name, 0, (60, 61, 62)))
        assert counts(life) == (3, 3)
        refused = UnitRefused(work.unit_id, current.generation, "too much")
        await life.tell(refused)
        assert counts(life) == (3, 3)
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        life = await Life.begin(journal)
        assert counts(life) == (3, 3)
        await life.gather()
        await life.ring()
        current = life.unit(other)
        name = current.sequences[0].sequence_id
        await life.tell(PeerTokens(current.generation, other.unit_id, name, 0, (60, 61, 62, 63)))
        assert counts(life) == (4, 4)


def counts(life: Life) -> tuple[int, int]:
    return life.ledger.tokens_of(life.ledger.jobs["job"]), life.ledger.tokens_shown()
