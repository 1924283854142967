"""The two stand-ins of the multiplexer's tests: a secured session over memory, a scripted peer."""

from __future__ import annotations

import trio
from libp2p.abc import ISecureConn
from libp2p.io.exceptions import ConnectionClosedError

from p2p.guards.yamux_frames import HEADER_SIZE, Flag, FrameType, decode


class Session(ISecureConn):
    """One end of a secured connection over an in-memory pipe; message borders are kept loosely."""

    def __init__(self, stream: trio.abc.Stream, initiator: bool) -> None:
        self._stream = stream
        self.is_initiator = initiator
        self._spare = b""

    async def read(self, n: int | None = None) -> bytes:
        if n is None:
            spare, self._spare = self._spare, b""
            return spare or await self._some()
        gathered = bytearray()
        while len(gathered) < n:
            chunk = self._spare or await self._some()
            gathered += chunk[: n - len(gathered)]
            self._spare = chunk[len(chunk) - max(0, len(chunk) - n) :] if len(chunk) > n else b""
        return bytes(gathered)

    async def _some(self) -> bytes:
        try:
            data = await self._stream.receive_some()
        except (trio.ClosedResourceError, trio.BrokenResourceError) as exc:
            raise ConnectionClosedError("gone") from exc
        if not data:
            raise ConnectionClosedError("gone")
        return bytes(data)

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.ClosedResourceError, trio.BrokenResourceError) as exc:
            raise ConnectionClosedError("gone") from exc

    async def close(self) -> None:
        await self._stream.aclose()

    def get_remote_address(self): ...
    def get_transport_addresses(self): ...
    def get_connection_type(self): ...
    def get_local_peer(self): ...
    def get_local_private_key(self): ...
    def get_remote_peer(self): ...
    def get_remote_public_key(self): ...


class Script:
    """The hostile end: raw frames in and out."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def send(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))

    async def frame(self, kind: FrameType, flags: Flag | None = None):
        """The next frame of a kind; others are skipped."""
        while True:
            while len(self._buffer) < HEADER_SIZE:
                self._buffer += await self.stream.receive_some()
            header = decode(self._buffer)
            size = header.length if header.type is FrameType.DATA else 0
            while len(self._buffer) < HEADER_SIZE + size:
                self._buffer += await self.stream.receive_some()
            payload = bytes(self._buffer[HEADER_SIZE : HEADER_SIZE + size])
            del self._buffer[: HEADER_SIZE + size]
            if header.type is kind and (flags is None or header.flags & flags):
                return header, payload
