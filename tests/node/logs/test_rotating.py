"""A log file within its quota."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from node.console.rotating import LEAST, RotatingFile
from node.errors import InputError
from node.logs import configure_logging


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def test_the_newest_lines_are_there_whole_and_no_more_than_the_quota(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    path.write_text("from an earlier run\n")
    out = RotatingFile(path, LEAST)
    lines = [f"line {number} {'x' * 60}\n" for number in range(2000)]
    for line in lines:
        out.write(line)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["node.log", "node.log.1"]
    assert all(file.stat().st_size <= LEAST // 2 for file in files)
    kept = (files[1].read_text() + files[0].read_text()).splitlines(keepends=True)
    assert kept == lines[-len(kept) :]
    assert len(kept) > 300
    assert files[0].stat().st_mode & 0o77 == 0


def test_a_log_that_fails_for_a_while_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "node.log"
    path.parent.mkdir()
    configure_logging("json", stream=RotatingFile(path, LEAST))
    log = structlog.get_logger("node")
    log.info("x" * (LEAST // 2 - 200))
    path.parent.rename(tmp_path / "away")
    log.info("lost " * 200)
    path.parent.mkdir()
    log.info("back")
    assert "back" in path.read_text()


def test_what_cannot_be_opened_or_is_too_small_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot open the log file"):
        RotatingFile(tmp_path / "none" / "node.log", LEAST)
    with pytest.raises(InputError, match=r"retention\.logs"):
        RotatingFile(tmp_path / "node.log", LEAST - 1)
