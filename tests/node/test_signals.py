"""What ends a node in good order."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import structlog
import trio
import trio.testing

from node.runtime import _watch_signals


@pytest.fixture
def terminal() -> Iterator[None]:
    """As where SIGHUP counts: under nohup it is ignored, by this process and by a node."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_first_signal_drains_and_the_second_ends(
    number: signal.Signals, terminal: None
) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            asked = trio.Event()
            log = structlog.get_logger()
            await nursery.start(_watch_signals, asked, nursery.cancel_scope, log)
            signal.raise_signal(number)
            await asked.wait()
            assert not nursery.cancel_scope.cancel_called
            signal.raise_signal(number)
            if number == signal.SIGHUP:  # a closed terminal and its shell both send one
                await trio.testing.wait_all_tasks_blocked()
                assert not nursery.cancel_scope.cancel_called
                signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()
