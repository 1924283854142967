"""`prune` on a real data folder, with and without a node on it, and `cancel`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from node.config.datadir import DataDir
from node.http.view import JobInfo, PrunedInfo
from node.journal import open_journal
from node.journal.store import Journal
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.roles.orchestrator.ledger.writes import EndJobs, ExportJob
from tests.node.cli.operating.test_submit_and_status import OneJobView, in_thread, running_node
from tests.node.roles.orchestrator.ledger.test_ledger import CUTTER, batches, judged, put

DAY = 86_400.0


async def fill(data: DataDir, now: float) -> None:
    """A job that was exported long ago, and one that waits; a bundle of each that is old."""
    async with open_journal(data.journal, clock=lambda: now) as journal:
        ledger = WorkLedger(journal, CUTTER)
        await ledger.load({})
        await ledger.submit("old", batches(40))
        units = await ledger.next_queued(20)
        await put(journal, ledger, *(judged(unit, UnitState.ACCEPTED) for unit in units))
        await ledger.submit("new", batches(2))
        (unit,) = await ledger.next_queued(1)
        await put(journal, ledger, judged(unit, UnitState.VERIFYING))
        await journal.write(EndJobs(), ExportJob("old"))
    for each in (units[0], unit):
        path = data.blobs / f"{each.unit_id.hex()}.bundle"
        path.write_bytes(bytes(1000))
        os.utime(path, (now, now))


@pytest.fixture
def folder(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path / "orchestrator")
    data.create()
    trio.run(fill, data, 1000.0)
    return data


def jobs(data: DataDir) -> list[str]:
    with Journal(data.journal, lambda: 0.0) as journal:
        return [row.job_id for row in journal.read(queries.jobs)]


def bundles(data: DataDir) -> int:
    return len(list(data.blobs.glob("*.bundle")))


def test_it_shows_what_would_go_and_removes_it_when_told(cli: Any, folder: DataDir) -> None:
    named = ("--data-dir", str(folder.path))
    shown = cli("prune", *named)
    assert shown.code == 0, shown.err
    assert "remove it with --yes" in shown.out
    assert "1 work under way" in shown.out
    assert (jobs(folder), bundles(folder)) == (["old", "new"], 2)
    gone = json.loads(cli("prune", *named, "--yes", "--json").out)
    by_name = {item["what"]: item for item in gone["items"]}
    assert by_name["jobs"]["removed"] == 1
    assert by_name["bundles that were sent"]["removed"] == 1
    assert (jobs(folder), bundles(folder)) == (["new"], 1)
    again = json.loads(cli("prune", *named, "--json").out)
    assert again["dry_run"]
    assert sum(item["removed"] for item in again["items"]) == 0


def test_the_owners_settings_decide(cli: Any, folder: DataDir) -> None:
    folder.config.write_text('[retention]\njobs = "never"\nexported_jobs = "never"\n')
    shown = cli("prune", "--data-dir", str(folder.path), "--yes")
    assert shown.code == 0, shown.err
    assert "1 kept for ever" in shown.out
    assert (jobs(folder), bundles(folder)) == (["old", "new"], 2)
    folder.config.write_text('[retention]\njobs = "1y"\n')
    refused = cli("prune", "--data-dir", str(folder.path))
    assert (refused.code, "an age is like" in refused.err) == (3, True)


def test_a_folder_without_a_node_is_said_so(cli: Any, tmp_path: Path) -> None:
    refused = cli("prune", "--data-dir", str(tmp_path / "none"))
    assert refused.code != 0
    assert "no node has run here" in refused.err
    assert not (tmp_path / "none").exists()


class Kept(OneJobView):
    """A node that has something to remove, and a job that can be cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.pruned: list[bool] = []
        self.cancelled: list[str] = []

    async def prune(self, *, dry: bool) -> Sequence[PrunedInfo]:
        self.pruned.append(dry)
        jobs = PrunedInfo(what="jobs", removed=3, freed=2**20, kept=1, left=0, why="1 not exported")
        return [jobs]

    async def cancel(self, job_id: str) -> bool:
        self.cancelled.append(job_id)
        return job_id == "job-1"

    async def job(self, job_id: str, first: int, limit: int) -> JobInfo | None:
        return JobInfo(job_id=job_id, state="cancelled", prompts=9, completed=4, accepted=3)


async def test_a_running_node_is_asked_to_do_it_itself(cli: Any, tmp_path: Path) -> None:
    view = Kept()
    async with running_node(tmp_path / "n", view) as data:
        with data.lock():
            pid = str(os.getpid())
            assert data.holder() == pid
            named = ("--data-dir", str(data.path))
            shown = await in_thread(cli, "prune", *named)
            assert (shown.code, view.pruned) == (0, [True]), shown.err
            assert "1.0 MiB would be freed" in shown.out
            done = await in_thread(cli, "prune", *named, "--yes", "--json")
            assert json.loads(done.out)["items"][0]["removed"] == 3
            assert view.pruned == [True, False]


async def test_a_job_is_cancelled(cli: Any, tmp_path: Path) -> None:
    view = Kept()
    async with running_node(tmp_path / "n", view) as data:
        named = ("--data-dir", str(data.path))
        shown = await in_thread(cli, "cancel", "job-1", *named)
        assert (shown.code, view.cancelled) == (0, ["job-1"]), shown.err
        assert "job job-1: cancelled; 4 of 9 completed, 3 accepted" in shown.out
        refused = await in_thread(cli, "cancel", "other", *named)
        assert refused.code == 1
        assert "no such job" in refused.err
