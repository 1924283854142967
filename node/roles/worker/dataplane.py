"""How a worker's engine reaches the next stage's: at its data port, else through a tunnel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from node.context import NodeContext
from node.roles.worker.timing import WorkerTiming
from node.roles.worker.tunnel import Tunnels
from node.wire.messages.work import EdgeAnswer
from p2p.errors import Refused
from pipeline.engine.control.messages import Endpoint


class DataPlane(Protocol):
    """The way between the engines of two neighbouring stages."""

    async def endpoint(self, peer_id: str, answer: EdgeAnswer) -> Endpoint:
        """Where our engine dials that of `peer_id`, which listens as `answer` says. Raises
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
    """Dials the data port where a TCP connection to it opens from here, unless the settings ask for
    a tunnel always."""

    def __init__(self, context: NodeContext, timing: WorkerTiming) -> None:
        self._tunnel_always = context.config.worker.data_plane == "tunnel"
        self._probe = timing.probe
        self._tunnels = Tunnels(context.network, context.engine_dir, context.log, timing.tunnel)
        self._nursery: trio.Nursery | None = None

    async def endpoint(self, peer_id: str, answer: EdgeAnswer) -> Endpoint:
        """The neighbour's data port, or our end of a tunnel to it. Raises `Refused`."""
        if not self._tunnel_always and await reachable(answer.host, answer.port, self._probe):
            return Endpoint(host=answer.host, port=answer.port, fingerprint=answer.fingerprint)
        if self._nursery is None:
            raise Refused("closing", "this worker is leaving")
        path = await self._nursery.start(self._tunnels.open, peer_id)
        return Endpoint(unix_path=path, fingerprint=answer.fingerprint)

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


async def reachable(host: str, port: int, seconds: float) -> bool:
    """Whether a TCP connection to the data port can be opened from here within `seconds`."""
    try:
        with trio.fail_after(seconds):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError):
        return False
    await stream.aclose()
    return True
