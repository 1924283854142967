"""What epochs paid for, in the journal: it outlives memory, and follows the roots that stand."""

from __future__ import annotations

from pathlib import Path

from node.journal import open_journal
from node.settlement.paid import PaidWork, root_hash
from proofs.settlement.epoch_data import Epoch
from tests.node.settlement.test_history import epoch_after


def job(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def test_work_is_found_where_it_was_first_paid_after_a_restart_too(tmp_path: Path) -> None:
    first = epoch_after(None, 1)
    second = epoch_after(first, 2)
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        paid = PaidWork(journal)
        for epoch in (first, second, first):
            await paid.note(epoch.root, epoch)
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        paid = PaidWork(journal)
        assert await paid.filled() == {
            (1, e.data.epoch): root_hash(e.root) for e in (first, second)
        }
        work = [*first.work, *second.work, (job(9), 0)]
        assert await paid.places(1, work, 1) == {w: (1, n) for n, w in enumerate(first.work)}
        assert set(await paid.places(1, work, 2)) == set(work[:-1])
        assert await paid.units(1, [job(1), job(2), job(9)], 1) == {job(1)}
        assert await paid.units(1, [job(n) for n in range(1200)], 2) == {job(1), job(2)}
        assert await paid.units(2, [job(1)], 2) == set()
        assert await paid.places(1, [], 2) == {}


async def test_another_root_of_a_number_takes_the_place_of_one_that_was_voided(
    tmp_path: Path,
) -> None:
    one, other = epoch_after(None, 1), epoch_after(None, 2)
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        paid = PaidWork(journal)
        for epoch in (one, other):
            await paid.note(epoch.root, epoch)
        assert await paid.units(1, [job(1), job(2)], 1) == {job(2)}
        await paid.note(one.root, one)  # the chain took the voiding back
        assert await paid.units(1, [job(1), job(2)], 1) == {job(1)}


async def test_a_node_that_becomes_a_validator_reads_what_was_paid_again(tmp_path: Path) -> None:
    epoch: Epoch = epoch_after(None, 1)
    async with open_journal(tmp_path / "journal.sqlite") as journal:
        worker, validator = PaidWork(journal, by_work=False), PaidWork(journal)
        await worker.note(epoch.root, epoch)
        assert await worker.filled()
        assert not await validator.filled()
        await validator.note(epoch.root, epoch)
        assert await validator.filled() == await worker.filled()
        assert await validator.units(1, [job(1)], 1) == {job(1)}
