"""Refusing new work while the disk takes nothing.

Whatever is accepted is on disk before anybody is told, so with a disk in trouble nothing can be
accepted. Whoever takes in new work asks here first and refuses at once, instead of letting the
asker wait for an answer that cannot come. What the disk stops half-way is refused then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from node.errors import ResourceError
from node.journal import AsyncJournal
from p2p.errors import Refused

T = TypeVar("T")

NO_STORAGE = "no_storage"
"""The code of the refusal, for peers and over HTTP."""


class NoStorage(ResourceError):
    """This node's disk takes nothing now."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"nothing can be stored now: {reason}",
            "make room or mend the disk; the node goes on by itself",
        )


def check_storage(journal: AsyncJournal) -> None:
    """Raise `NoStorage` while the disk is in trouble; for orders of the operator."""
    if reason := journal.trouble:
        raise NoStorage(reason)


def require_storage(journal: AsyncJournal) -> None:
    """Raise `Refused` with `NO_STORAGE` while the disk is in trouble; for requests of peers."""
    if reason := journal.trouble:
        raise Refused(NO_STORAGE, f"I can store nothing now: {reason}")


async def while_well(
    journal: AsyncJournal, nursery: trio.Nursery, call: Callable[[], Awaitable[T]]
) -> T:
    """What `call()` returns or raises; `NoStorage` once the disk is in trouble. Whoever waits for
    the disk cannot be cancelled, so the call is a task of `nursery`: it is told to end, and ends
    when the disk lets it."""
    found: list[T | Exception] = []
    trouble: list[str] = []
    over = trio.Event()
    scope = trio.CancelScope()

    async def run() -> None:
        try:
            with scope:
                found.append(await call())
        except Exception as exc:  # noqa: BLE001 - whoever waits for it has it raised
            found.append(exc)
        finally:
            over.set()

    async def watch() -> None:
        trouble.append(await journal.wait_trouble())
        over.set()

    nursery.start_soon(run)
    try:
        async with trio.open_nursery() as watching:
            watching.start_soon(watch)
            await over.wait()
            watching.cancel_scope.cancel()
    finally:
        scope.cancel()
    if not found:
        raise NoStorage(trouble[0] if trouble else "the node ends")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]
