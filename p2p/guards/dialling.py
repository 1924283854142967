"""Trying all addresses of a peer, each started when the one before failed or took its time.

This is "happy eyeballs" (RFC 8305) for connections that are up only once their multiplexer runs:
a dead address costs a stagger and not a timeout, and the first connection ends the other attempts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio
from libp2p.abc import INetConn
from libp2p.io.exceptions import IOException
from libp2p.network.exceptions import SwarmException
from multiaddr import Multiaddr


@dataclass(frozen=True)
class DialTiming:
    """How the addresses of one peer are tried, in seconds.

    `attempt` is for one address, from SYN to a running multiplexer; the next address is started
    when the one before failed or took `stagger`.
    """

    attempt: float = 12.0
    stagger: float = 0.25


DEFAULT_DIALLING = DialTiming()


async def first_connection(
    addresses: Sequence[Multiaddr],
    dial: Callable[[Multiaddr], Awaitable[INetConn]],
    timing: DialTiming,
) -> tuple[INetConn | None, list[str]]:
    """The first connection that `dial` brings about, None if none does, and why others failed."""
    winner: INetConn | None = None
    failures: list[str] = []

    async def attempt(address: Multiaddr, failed: trio.Event) -> None:
        nonlocal winner
        try:
            with trio.fail_after(timing.attempt):
                connection = await dial(address)
        except (SwarmException, IOException, OSError) as exc:
            failures.append(f"{address}: {_root_cause(exc)}")
        except trio.TooSlowError:
            failures.append(f"{address}: no answer in {timing.attempt:g} s")
        else:
            winner = winner or connection
            nursery.cancel_scope.cancel()
        failed.set()

    async with trio.open_nursery() as nursery:
        for address in addresses:
            failed = trio.Event()
            nursery.start_soon(attempt, address, failed)
            with trio.move_on_after(timing.stagger):
                await failed.wait()
    return winner, failures


def _root_cause(error: BaseException) -> BaseException:
    """The error at the bottom of a chain; the ones above only say that dialling failed."""
    while (below := error.__cause__) is not None:
        error = below.exceptions[0] if isinstance(below, BaseExceptionGroup) else below
    return error
