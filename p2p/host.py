"""Assembles a guarded libp2p host and opens its listening sockets.

The library's own context manager leaks listening sockets when it is cancelled and closes the
connections one after the other, a fifth of a second each. `running_host` closes them itself, all at
once and shielded, before it lets the library's services go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from p2p.errors import ListenFailed
from p2p.guards.host import GuardedHost
from p2p.guards.ports import require_free_port

CLOSE_TIMEOUT = 1.0


@asynccontextmanager
async def running_host(host: GuardedHost, listen: tuple[Multiaddr, ...]) -> AsyncIterator[None]:
    """Run the host's swarm, listening on every address, until the block ends.

    Raises:
        ListenFailed: one of the addresses cannot be listened on.
    """
    for address in listen:
        require_free_port(address)
    swarm = host.get_network()
    async with background_trio_service(swarm):
        try:
            await swarm.listen(*listen)
            for address in listen:
                if str(address) not in swarm.listeners:
                    raise ListenFailed(f"cannot listen on {address}")
            host.fix_addresses()
            yield
        finally:
            with trio.CancelScope(shield=True) as scope:
                scope.deadline = trio.current_time() + CLOSE_TIMEOUT
                await _close(host)


async def _close(host: GuardedHost) -> None:
    swarm = host.get_network()
    swarm._closing = True
    for scope in tuple(host._identify_tasks):
        scope.cancel()
    async with trio.open_nursery() as nursery:
        for listener in tuple(swarm.listeners.values()):
            nursery.start_soon(listener.close)
        for connections in tuple(swarm.connections.values()):
            for connection in tuple(connections):
                nursery.start_soon(connection.close)
