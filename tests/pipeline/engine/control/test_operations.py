"""The table of operations, and handlers that must cover it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.engine.control.messages import Empty, EngineStatus
from pipeline.engine.control.operations import OPERATIONS, SHUTDOWN, STATUS, Handlers, Lane
from pipeline.engine.service import EngineService


def test_only_shutdown_ends_the_process() -> None:
    assert [each for each in OPERATIONS.values() if each.lane is Lane.LAST] == [SHUTDOWN]


def test_missing_handlers_are_named() -> None:
    handlers = Handlers()
    handlers.on(STATUS, lambda _: EngineStatus(pid=1, rss=2))
    with pytest.raises(LookupError, match="abort, bench, evidence"):
        handlers.check_complete()
    assert handlers.of(STATUS)(Empty()).rss == 2


def test_an_engine_handles_every_operation(tmp_path: Path) -> None:
    handlers = EngineService(str(tmp_path / "edge.sock"), 1, lambda *_: None).handlers()
    for operation in OPERATIONS.values():
        if operation is not SHUTDOWN:
            assert callable(handlers.of(operation))
