"""Decoding what peers send without holding up everybody else, and at its sender's cost.

Small bodies are decoded where they are: that takes less time than handing them to a thread. Large
ones are decoded in a thread, one of a node at a time, which lets the event loop run between the
steps of decoding; a step in C still holds the interpreter, so limits on sizes are what bounds the
wait (`MAX_REPORT`). The event loop's time is charged to a peer by the network; a thread's is here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from p2p.network import Network

T = TypeVar("T")
SMALL = 32 * 1024
"""Bytes that take a few milliseconds at most, whatever is in them."""
_AT_ONCE: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("decoding")


async def decode_for(
    network: Network, peer_id: str, data: bytes, decode: Callable[[bytes], T]
) -> T:
    """`decode(data)`, with its CPU time on the account of the peer that sent the data. Raises what
    `decode` raises."""
    if len(data) <= SMALL:
        return decode(data)
    spent = 0.0

    def work() -> T:
        nonlocal spent
        started = time.thread_time()
        try:
            return decode(data)
        finally:
            spent = time.thread_time() - started

    try:
        return await trio.to_thread.run_sync(work, limiter=_limiter())
    finally:
        network.charge(peer_id, spent)


def _limiter() -> trio.CapacityLimiter:
    try:
        return _AT_ONCE.get()
    except LookupError:
        limiter = trio.CapacityLimiter(1)
        _AT_ONCE.set(limiter)
        return limiter
