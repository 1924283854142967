"""How a worker's engine reaches the next stage's: at its data port, else through a tunnel.

The control process says which ways there are, the engine tries them (`pipeline.dataplane.ways`):
only its handshake tells whether the neighbour's engine is at the other end. That a TCP connection
opens does not, since a middlebox may have answered; it only leaves out what does not answer at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio

from node.context import NodeContext
from node.roles.worker.dialling import Address, announced_hosts, may_dial, may_look_up, parse_host
from node.roles.worker.timing import WorkerTiming
from node.roles.worker.tunnel import Tunnels
from node.wire.messages.work import EdgeAnswer
from p2p.errors import Refused
from pipeline.engine.control.messages import Endpoint

MAX_HOSTS = 2
"""Addresses of one neighbour that are tried."""


class DataPlane(Protocol):
    """The way between the engines of two neighbouring stages."""

    def ways(
        self, peer_id: str, answer: EdgeAnswer
    ) -> AbstractAsyncContextManager[tuple[Endpoint, ...]]:
        """Where our engine dials that of `peer_id`, which listens as `answer` says, the best way
        first. They last as long as the context; a tunnel that is in use by then goes on. Raises
        `Refused`."""
        ...

    async def run(
        self,
        listener_for: Callable[[str], str | None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled. `listener_for(peer_id)` is the Unix path of our engine's listener
        where `peer_id` is the current upstream stage, else None."""
        ...


class DirectOrTunnelled:
    """The data port where a TCP connection to it opens from here and it may be dialled
    (`dialling`), unless the settings ask for a tunnel always; and a tunnel."""

    def __init__(self, context: NodeContext, timing: WorkerTiming) -> None:
        self._tunnel_always = context.config.worker.data_plane == "tunnel"
        self._probe = timing.probe
        self._context = context
        self._tunnels = Tunnels(
            context.network, context.engine_dir, context.log, timing.tunnel, timing.edge
        )
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def ways(self, peer_id: str, answer: EdgeAnswer) -> AsyncIterator[tuple[Endpoint, ...]]:
        """The neighbour's data port, and our end of a tunnel to it. Raises `Refused`."""
        hosts = [] if self._tunnel_always else await self._reachable(peer_id, answer)
        if self._nursery is None:
            raise Refused("closing", "this worker is leaving")
        pin = answer.fingerprint
        direct = [Endpoint(host=host, port=answer.port, fingerprint=pin) for host in hosts]
        try:
            tunnel = await self._nursery.start(self._tunnels.open, peer_id, self._nursery)
        except OSError as exc:  # no room on the disk for a socket, say
            if not direct:
                raise Refused("downstream", f"no tunnel: {exc.strerror or exc}") from exc
            self._context.log.warning("no tunnel to fall back on", reason=str(exc))
            yield tuple(direct)
            return
        try:
            yield (*direct, Endpoint(unix_path=tunnel.path, fingerprint=pin))
        finally:
            tunnel.stop()

    async def run(
        self,
        listener_for: Callable[[str], str | None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Own the tunnels' tasks until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._tunnels.serve(listener_for)
            task_status.started()
            await trio.sleep_forever()

    async def _reachable(self, peer_id: str, answer: EdgeAnswer) -> list[str]:
        """The neighbour's hosts at which something answers, asked all at once."""
        answers: dict[str, bool] = {}

        async def ask(host: str) -> None:
            answers[host] = await reachable(host, answer.port, self._probe)

        hosts = await self._hosts(peer_id, answer.host)
        async with trio.open_nursery() as asking:
            for host in hosts:
                asking.start_soon(ask, host)
        return [host for host in hosts if answers[host]]

    async def _hosts(self, peer_id: str, named: str) -> list[str]:
        """What may be dialled of a host that the neighbour named, and where it is seen: of several
        interfaces it may have named one that is not reached from here."""
        network = self._context.network
        record = network.records.get(peer_id)
        announced = announced_hosts(record.addresses if record is not None else ())
        address = parse_host(named)
        candidates = [] if address is None else [address]
        if address is None and may_look_up(named, announced):
            candidates = await _look_up(named, self._probe)
        said = {found for host in announced if (found := parse_host(host)) is not None}
        if address is None:
            said.update(candidates)  # what the announced name stands for
        seen_at = network.seen_at(peer_id)
        seen = None if seen_at is None else parse_host(seen_at)
        if seen is not None:
            candidates = [*candidates, seen]
        allowed = [
            str(candidate)
            for candidate in dict.fromkeys(candidates)
            if may_dial(
                candidate,
                seen=seen,
                said=said,
                private=self._context.config.worker.dial_private,
            )
        ]
        if not allowed:
            self._context.log.info("a neighbour's data port is not dialled", peer=peer_id)
        return allowed[:MAX_HOSTS]


async def _look_up(name: str, seconds: float) -> list[Address]:
    try:
        with trio.fail_after(seconds):
            found = await trio.socket.getaddrinfo(name, None, type=trio.socket.SOCK_STREAM)
    except (OSError, UnicodeError, trio.TooSlowError):
        return []
    addresses = (parse_host(str(entry[4][0])) for entry in found)
    return list(dict.fromkeys(address for address in addresses if address is not None))


async def reachable(host: str, port: int, seconds: float) -> bool:
    """Whether a TCP connection to the data port can be opened from here within `seconds`. Who
    answered is not known."""
    try:
        with trio.fail_after(seconds):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError):
        return False
    await stream.aclose()
    return True
