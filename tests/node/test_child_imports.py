"""What a node starts is its own code, whatever lies in the folder that somebody works in."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from node.simulation.process import open_children
from pipeline.engine.control.client import open_engine
from pipeline.engine.control.messages import Empty
from pipeline.engine.control.operations import STATUS


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with packages of our names in it."""
    for name in ("node", "pipeline"):
        package = tmp_path / "work" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text('raise SystemExit("the foreign package ran")\n')
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


async def test_the_engine_is_ours(work: Path) -> None:
    async with open_engine(work, "one") as engine:
        status = await engine.request(STATUS, Empty(), timeout=60.0)
        assert status.pid == engine.pid


async def test_a_simulated_node_is_ours(work: Path) -> None:
    async with open_children(work) as children:
        child = await children.start("one", ["--version"])
        with trio.fail_after(60):
            await child.ended.wait()
    assert child.log.read_text(encoding="utf-8").startswith("prime-node ")
