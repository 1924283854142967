"""TCP relays between engines: they count the bytes on the wire and can add latency.

A relay listens on loopback and passes bytes both ways to one target; it sees what a network would
see, TLS records and all. With `delay` every piece arrives that many seconds after it was read, in
order, however much is under way: latency without a limit on bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

PIECE = 1 << 16
PIECES = 4096


@dataclass
class Relay:
    """`port` is where to connect; `forward` and `backward` count bytes since the start."""

    target: int
    delay: float = 0.0
    port: int = 0
    forward: int = 0
    backward: int = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self.target)
        async with near, far, trio.open_nursery() as nursery:
            for source, sink, forward in ((near, far, True), (far, near, False)):
                pieces = trio.open_memory_channel[tuple[float, bytes]](PIECES)
                nursery.start_soon(self._read, source, pieces[0], forward)
                nursery.start_soon(self._write, sink, pieces[1])

    async def _read(
        self,
        source: trio.SocketStream,
        pieces: trio.MemorySendChannel[tuple[float, bytes]],
        forward: bool,
    ) -> None:
        async with pieces:
            try:
                while data := await source.receive_some(PIECE):
                    if forward:
                        self.forward += len(data)
                    else:
                        self.backward += len(data)
                    await pieces.send((trio.current_time() + self.delay, bytes(data)))
            except trio.BrokenResourceError:
                return  # an engine that resets the connection ends this direction like any other

    async def _write(
        self, sink: trio.SocketStream, pieces: trio.MemoryReceiveChannel[tuple[float, bytes]]
    ) -> None:
        async with pieces:
            try:
                async for due, data in pieces:
                    await trio.sleep_until(due)
                    await sink.send_all(data)
                await sink.send_eof()
            except trio.BrokenResourceError:
                return
