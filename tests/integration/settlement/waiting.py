"""Waiting for something to become true. How long at most is the business of a scope around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

POLL_SECONDS = 0.2


async def until(holds: Callable[[], Awaitable[bool]], pause: float = POLL_SECONDS) -> None:
    """Ask again and again until it holds."""
    while True:
        if await holds():
            return
        await trio.sleep(pause)
