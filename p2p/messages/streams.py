"""Byte streams to a peer, in trio's terms.

`Stream` adapts a libp2p stream to `trio.abc.HalfCloseableStream`, so that everything written for
trio streams works on it, and translates the library's errors once. Bytes are authenticated and
encrypted by the connection below. A cancelled `send_all` may have sent a prefix: reset the stream
then. One task may send while another receives.
"""

from __future__ import annotations

import trio
from libp2p.abc import INetStream
from libp2p.io.exceptions import IOException
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError

from p2p.errors import P2PError

READ_SIZE = 64 * 1024


class StreamBroken(P2PError, trio.BrokenResourceError):
    """A byte stream was reset by the peer or lost its connection; trio's name for it holds too."""


class Stream(trio.abc.HalfCloseableStream):
    """One bidirectional byte stream to `peer_id`."""

    def __init__(self, stream: INetStream, peer_id: str) -> None:
        self.peer_id = peer_id
        self._stream = stream
        self._sending = trio.Lock()
        self._send_done = False
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything, waiting for the peer's credit.

        Raises:
            StreamBroken: reset by the peer, or the connection is gone.
            trio.ClosedResourceError: this side closed it.
            trio.BusyResourceError: another task is sending.
        """
        if self._closed or self._send_done:
            raise trio.ClosedResourceError("the stream is closed for sending")
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock as exc:
            raise trio.BusyResourceError("another task is sending on this stream") from exc
        try:
            await self._stream.write(bytes(data))
        except (IOException, MuxedStreamError) as exc:
            raise StreamBroken(f"stream to {self.peer_id} broke while sending") from exc
        finally:
            self._sending.release()

    async def wait_send_all_might_not_block(self) -> None:
        """A checkpoint: `send_all` does its own waiting.

        Raises:
            trio.ClosedResourceError: this side closed it.
        """
        if self._closed or self._send_done:
            raise trio.ClosedResourceError("the stream is closed for sending")
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least one byte, or ``b""`` when the peer finished sending.

        Raises:
            StreamBroken: reset by the peer, or the connection is gone.
            trio.ClosedResourceError: this side closed it.
        """
        if self._closed:
            raise trio.ClosedResourceError("the stream is closed")
        try:
            # Below the library's stream, which gives up what has arrived when the peer resets: the
            # peer that refuses a request unread answers and then resets.
            muxed = self._stream.muxed_stream
            return bytes(await muxed.read(READ_SIZE if max_bytes is None else max_bytes))
        except MuxedStreamEOF:
            return b""
        except (IOException, MuxedStreamError) as exc:
            raise StreamBroken(f"stream to {self.peer_id} broke while receiving") from exc

    async def send_eof(self) -> None:
        """Tell the peer that nothing more comes; receiving stays possible."""
        if self._send_done:
            return
        self._send_done = True
        await self._stream.muxed_stream.close()

    async def aclose(self) -> None:
        """Close both directions in order; what was sent before still arrives."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = self._send_done = True
        with trio.CancelScope(shield=True):
            # Queues a frame and tells the swarm; neither waits for the network.
            await self._stream.close()

    async def reset(self) -> None:
        """Abort both directions; the peer sees `StreamBroken`."""
        self._closed = self._send_done = True
        with trio.CancelScope(shield=True):
            await self._stream.reset()
