"""The data plane's fallback: an engine's TLS bytes carried in a libp2p stream.

Where a stage cannot reach its neighbour's data port (a firewall, a NAT), its control process opens
a Unix socket for its engine and copies bytes between that and a libp2p stream; the neighbour's
control process copies between the stream and its own engine's Unix socket. TLS stays end to end
between the engines, so the tunnel can delay or cut what passes through it, and nothing else.

```
engine ─unix─ control ═libp2p═ control ─unix─ engine
```
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from p2p.errors import P2PError
from p2p.network import Network
from pipeline.engine.control.child import edge_socket_path

PROTOCOL = "/prime/data/1"
CHUNK = 256 * 1024
MAX_ANSWERED = 4
"""Streams of the upstream stage at a time: one of this ring, and what is left of others."""


@dataclass(frozen=True)
class OpenTunnel:
    """Our end of a tunnel, for our engine to connect to at `path`."""

    path: str
    _listening: trio.CancelScope

    def stop(self) -> None:
        """Take nobody in any more; what is being carried goes on."""
        self._listening.cancel()


class Tunnels:
    """Both ends of this node's tunnels. Sockets of ours lie in `folder`; a stream to the neighbour
    is opened within `timeout` seconds, and our engine may come for one for `patience` seconds."""

    def __init__(
        self, network: Network, folder: Path, log: Any, timeout: float, patience: float
    ) -> None:
        self._network = network
        self._folder = folder
        self._log = log
        self._timeout = timeout
        self._patience = patience
        self._count = 0
        self._answered = 0

    def serve(self, allowed: Callable[[str], str | None]) -> None:
        """Answer the upstream stage's streams. `allowed(peer_id)` gives the Unix path of our
        engine's listener where `peer_id` is that stage, else None."""

        async def on_stream(stream: trio.abc.Stream, peer_id: str) -> None:
            path = allowed(peer_id)
            if path is None or self._answered >= MAX_ANSWERED:
                await stream.aclose()
                return
            self._answered += 1
            try:
                await self._answer(stream, path)
            finally:
                self._answered -= 1

        self._network.serve_stream(PROTOCOL, on_stream)

    async def _answer(self, stream: trio.abc.Stream, path: str) -> None:
        try:
            with trio.fail_after(self._timeout):
                local = await trio.open_unix_socket(path)
        except (OSError, trio.TooSlowError) as exc:
            self._log.warning("tunnel: engine does not listen", reason=str(exc))
            await stream.aclose()
            return
        await _splice(stream, local)

    async def open(
        self,
        peer_id: str,
        carriers: trio.Nursery,
        *,
        task_status: trio.TaskStatus[OpenTunnel] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on a fresh Unix path, started with it, until stopped; what connects is carried to
        `peer_id` by tasks of `carriers`. Raises OSError."""
        self._count += 1
        with edge_socket_path(self._folder, f"tunnel-{self._count}") as path:
            async with await _listen_unix(Path(path)) as listener:
                with trio.move_on_after(self._patience) as scope:
                    task_status.started(OpenTunnel(path, scope))
                    while True:
                        local = await listener.accept()
                        carriers.start_soon(self._carry, local, peer_id)

    async def _carry(self, local: trio.SocketStream, peer_id: str) -> None:
        try:
            remote = await self._network.open_stream(peer_id, PROTOCOL, timeout=self._timeout)
        except P2PError as exc:
            self._log.warning("tunnel not opened", peer=peer_id, reason=str(exc))
            await local.aclose()
            return
        self._log.info("data plane runs over a libp2p tunnel", peer=peer_id)
        await _splice(remote, local)


def _clear(path: Path) -> None:
    """What an earlier run left; at once, as everything about these files."""
    path.unlink(missing_ok=True)


async def _listen_unix(path: Path) -> trio.SocketListener:
    _clear(path)
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        await sock.bind(str(path))
    finally:
        os.umask(old)
    sock.listen(1)
    return trio.SocketListener(sock)


async def _splice(a: trio.abc.Stream, b: trio.abc.Stream) -> None:
    """Copy both ways until either end closes, then close both."""
    async with a, b, trio.open_nursery() as nursery:
        nursery.start_soon(_copy, a, b, nursery.cancel_scope)
        nursery.start_soon(_copy, b, a, nursery.cancel_scope)


async def _copy(source: trio.abc.Stream, target: trio.abc.Stream, done: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(CHUNK):
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError, P2PError):
        pass  # the other end went away: closing both ends tells the engines
    done.cancel()
