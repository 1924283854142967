"""A worker says in time that it can keep no more rows, and never takes a stage it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config.schema import NodeConfig
from node.roles.worker.disk import WorkerDisk
from node.storage.names import rows_folder
from p2p.errors import Refused
from pipeline.engine.evidence.held import HeldRows
from tests.node.roles.worker.test_durable import seat


def disk_of(folder: Path, quota: int) -> WorkerDisk:
    return WorkerDisk(NodeConfig.model_validate({"data_dir": folder, "retention": {"rows": quota}}))


async def test_what_is_under_way_must_fit_beside_what_is_not_judged(tmp_path: Path) -> None:
    disk, held = disk_of(tmp_path, 1000), HeldRows(rows_folder(tmp_path))
    assert await disk.full(600) == ""
    held.hold(b"s" * 16, "a.rows", 500)
    assert await disk.full(500) == ""
    assert await disk.full(0) == ""
    said = await disk.full(501)
    assert "take 500 bytes" in said
    assert len(said) <= 500
    await disk.release([b"s" * 16])
    assert await disk.full(501) == ""


async def test_a_stage_whose_rows_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    async with seat(tmp_path, stage=1) as worker:
        worker.stage._disk = disk_of(tmp_path, 2 * 64 * 32 - 1)  # 64 tokens of 32 bytes, twice
        with pytest.raises(Refused, match=r"room for 4095 \(retention.rows"):
            await worker.load()
        worker.stage._disk = disk_of(tmp_path, 2 * 64 * 32)
        await worker.load(2)
        assert await worker.stage.busy() == ""
        HeldRows(rows_folder(tmp_path)).hold(b"s" * 16, "a.rows", 64 * 32 + 1)
        assert "2049 bytes" in await worker.stage.busy()


async def test_stage_0_keeps_no_rows_and_needs_no_room(tmp_path: Path) -> None:
    async with seat(tmp_path, stage=0) as worker:
        worker.stage._disk = disk_of(tmp_path, 0)
        await worker.load()
        assert await worker.stage.busy() == ""
