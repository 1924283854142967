"""Jobs on disk go after they were read, or at their owner's limit; never with work left."""

from __future__ import annotations

from pathlib import Path

from node.journal import AsyncJournal, open_journal
from node.roles.orchestrator.bundling.keeping import SentBundles
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.orchestrator.journal_events import JobBeacon
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.keeping import JobKeeper
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.roles.orchestrator.ledger.writes import ExportJob
from node.storage.files import stored
from node.storage.retention import FileLimits, JobLimits
from tests.node.roles.orchestrator.ledger.test_ledger import CUTTER, batches, judged, opened, put

DAY = 86_400.0
LIMITS = JobLimits(ended=90 * DAY, exported=7 * DAY)


class Shop:
    """A ledger with jobs in every state, and a keeper of them with a clock."""

    def __init__(self, journal: AsyncJournal, ledger: WorkLedger, now: float = 0.0) -> None:
        self.journal, self.ledger, self.now = journal, ledger, now
        self.keeper = JobKeeper(journal, LIMITS, lambda: self.now, ledger.forget)

    async def job(self, name: str, state: UnitState, cancelled: bool = False) -> None:
        """A job of two units, of which one is in this state and the other accepted."""
        await self.ledger.submit(name, batches(4))
        units = await self.ledger.next_queued(2)
        assert {unit.job_id for unit in units} == {name}
        done = [judged(units[0], UnitState.ACCEPTED)]
        if state is not UnitState.QUEUED:
            done.append(judged(units[1], state))
        await put(self.journal, self.ledger, *done)
        if cancelled:
            await self.ledger.cancel(name)


async def test_only_jobs_whose_time_is_over_go_and_nothing_of_them_is_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, ledger):
        shop = Shop(journal, ledger)
        await shop.job("read", UnitState.ACCEPTED)
        await shop.job("unread", UnitState.EXPIRED)
        await shop.job("stopped", UnitState.QUEUED, cancelled=True)
        await shop.job("judging", UnitState.VERIFYING, cancelled=True)
        await shop.job("waiting", UnitState.QUEUED)
        await journal.record(JobBeacon(job_id="read", beacon=b"b" * 32, block=1))
        await journal.write(ExportJob("read"))
        await shop.keeper.prune(dry=False)  # notes who has ended, by the journal's own clock
        query = "SELECT MAX(ended, exported) FROM jobs WHERE job_id = 'read'"
        (began,) = await journal.read(lambda c: c.execute(query).fetchone())
        shop.now = began + 8 * DAY
        shown = await shop.keeper.prune(dry=True)
        assert (shown.removed, shown.kept) == (1, 4)
        assert shown.why == "2 not exported, 2 work under way"
        assert len(ledger.jobs) == 5
        assert (await shop.keeper.prune(dry=False)).removed == 1
        assert list(ledger.jobs) == ["unread", "stopped", "judging", "waiting"]
        shop.now = began + 91 * DAY
        assert (await shop.keeper.prune(dry=False)).removed == 2
        left = await ledger.rows(queries.after_cursor(0, 100))
        assert {ledger.job_of(row).job_id for row in left} == {"judging", "waiting"}
        assert await journal.replay(JobBeacon) == []
    async with opened(tmp_path) as (journal, ledger):
        assert list(ledger.jobs) == ["judging", "waiting"]
        assert await ledger.submit("read", batches(4))  # the same key may come again


async def test_a_job_that_was_to_go_when_the_node_died_is_none_at_the_next_start(
    tmp_path: Path,
) -> None:
    from node.roles.orchestrator.ledger.writes import DropUnits, EndJobs, UnsealJob

    async with opened(tmp_path) as (journal, ledger):
        await Shop(journal, ledger).job("job", UnitState.ACCEPTED)
        await journal.write(EndJobs(), UnsealJob("job"), DropUnits("job", limit=1))
    async with opened(tmp_path) as (_, ledger):
        assert not ledger.jobs
        assert await ledger.read(queries.after_cursor(0, 10)) == []


async def test_bundles_go_beyond_their_quota_unless_they_are_being_judged(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        ledger = WorkLedger(journal, CUTTER)
        await ledger.load({})
        await Shop(journal, ledger).job("job", UnitState.VERIFYING)
        done, judging = await ledger.units(await ledger.rows(queries.after_cursor(0, 2)))
        for unit in (done, judging):
            (tmp_path / f"{unit.bundle_id.hex()}.bundle").write_bytes(bytes(100))
        keeper = SentBundles(tmp_path, journal, FileLimits(50, young=0.0), lambda: 2e9)
        shown = await keeper.prune(dry=True)
        assert (shown.removed, shown.freed, shown.kept, shown.left) == (1, 100, 1, 100)
        assert "1 being judged" in shown.why
        assert await keeper.prune(dry=False) == shown
        (left,) = stored(tmp_path, ".bundle")
        assert left.name == f"{judging.bundle_id.hex()}.bundle"
