"""Durable before visible: whatever is done while the disk is in trouble shows nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
import trio.testing

from tests.node.journal.disks import Disk

HOW = ("fail", "stall")
"""The kinds of trouble."""

T = TypeVar("T")


async def shown_once_on_disk(
    disk: Disk,
    how: str,
    kind: str,
    act: Callable[[], Awaitable[T]],
    seen: Callable[[], Any] = lambda: None,
) -> T:
    """What `act` returns. While the disk takes no events of `kind` (""; nothing at all) it must not
    return, and `seen` stay as it is."""
    before, results = seen(), []

    async def run() -> None:
        results.append(await act())

    getattr(disk, how)(kind=kind)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            with trio.fail_after(60.0):
                await disk.tried()
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert not results, "answered before it was on disk"
            assert seen() == before, "seen before it was on disk"
        finally:
            disk.heal()  # else the journal's thread keeps the nursery from ending
    (result,) = results
    return result
