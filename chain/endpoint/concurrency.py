"""Asking the same question about many things, several at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from chain.errors import ChainError

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 8
"""How many requests of one coroutine may be under way together."""


async def for_each(items: Iterable[T], ask: Callable[[T], Awaitable[R]]) -> dict[T, R]:
    """`ask` of every distinct item, in the order given. Raises the first ChainError as itself."""
    found: dict[T, R] = {}
    failed: list[ChainError] = []
    distinct = list(dict.fromkeys(items))
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def one(item: T) -> None:
        async with limiter:
            try:
                found[item] = await ask(item)
            except ChainError as exc:
                failed.append(exc)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for item in distinct:
            nursery.start_soon(one, item)
    if failed:
        raise failed[0]
    return {item: found[item] for item in distinct}
