"""A job that the disk stops half-way: refused at once, and nothing of it is left."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from node.journal import open_journal
from node.journal.writer import WriterLimits
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.storage.intake import NoStorage, while_well
from tests.node.journal.disks import Disk
from tests.node.roles.orchestrator.ledger.test_ledger import CUTTER, batches


@pytest.mark.parametrize("how", ["full", "hangs"])
async def test_a_submission_is_refused_as_soon_as_the_disk_takes_nothing(
    tmp_path: Path, how: str
) -> None:
    disk = Disk()
    limits = WriterLimits(stalled=0.2)
    with trio.fail_after(60):
        async with (
            open_journal(tmp_path / "j.sqlite", store=disk.open, limits=limits) as journal,
        ):
            ledger = WorkLedger(journal, CUTTER)
            await ledger.load({})
            disk.fail("the disk is full") if how == "full" else disk.stall()
            async with trio.open_nursery() as role:
                submit = partial(ledger.submit, "job", batches(9))
                with pytest.raises(NoStorage, match="the disk"):
                    await while_well(journal, role, submit)
                assert not ledger.jobs
                disk.heal()
            taken, new = await ledger.submit("job", batches(4))
            assert (taken.accepted, new) == (4, True)
            rows = await ledger.read(queries.after_cursor(0, 100))
            assert sum(row.size for row in rows) == 4


async def test_what_the_call_raises_is_raised(tmp_path: Path) -> None:
    async def fails() -> None:
        raise KeyError("it")

    async with open_journal(tmp_path / "j.sqlite") as journal, trio.open_nursery() as nursery:
        with pytest.raises(KeyError, match="it"):
            await while_well(journal, nursery, fails)
        assert not nursery.child_tasks
