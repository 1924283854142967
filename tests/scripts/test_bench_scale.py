"""The benchmark of scale still fits the role that it measures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


async def test_a_small_job_goes_all_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import bench_scale

    row = await bench_scale.one(30, 20)
    assert (row.units, row.epochs) == (30, 2)
    assert row.event_ms > 0.0
    assert "worked off" in capsys.readouterr().err
    sys.modules.pop("bench_scale")
