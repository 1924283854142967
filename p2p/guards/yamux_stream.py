"""One Yamux stream: two byte directions with credit, no background task of its own.

Receiving. The peer may have at most `receive_credit` unacknowledged bytes under way; the connection
checks every DATA frame against it when the *header* has come, so the buffer of a stream can never
grow past its window whatever the peer does. Credit is given back when the application has taken
half a window. While the application keeps up, the window doubles, paid from a budget that all
streams of the connection share.

Sending. `write` waits for credit and for room in the connection's outbox, then hands over whole
frames without a checkpoint in between. A cancelled `write` therefore leaves the *connection* in
order always; the *stream* has sent a prefix, so its owner must reset it.

Events instead of polling: a task that waits for bytes or credit sleeps on `_changed`, replaced at
every change.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import (
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamReset,
)

from p2p.guards.yamux_frames import INITIAL_WINDOW, Flag, FrameType, YamuxViolation, encode
from p2p.guards.yamux_outbox import Outbox

MAX_FRAME_PAYLOAD = 64 * 1024 - 64  # with its header one frame fits a single Noise message
MAX_WINDOW = 4 * 1024 * 1024
_MAX_CREDIT = 2**32


class StreamOwner(Protocol):
    """What a stream needs of the connection that it belongs to (`p2p.guards.yamux`)."""

    outbox: Outbox

    def post(self, frame: bytes, *, urgent: bool = False) -> None:
        """Queue one whole frame for the writer; never waits."""

    def grow_window(self, wanted: int) -> int:
        """Take up to `wanted` bytes from the window budget; returns what was granted."""

    def forget_if_done(self, stream: GuardedYamuxStream) -> None:
        """Drop a stream that is closed both ways."""

    def count_unread(self, change: int) -> None:
        """That much more (or less) of what the peer sent waits in a stream."""

    def get_remote_address(self) -> tuple[str, int] | None:
        """The peer's (host, port), where the transport has one."""


class GuardedYamuxStream(IMuxedStream):
    """Implements libp2p's stream interface on a connection of our own multiplexer."""

    def __init__(self, stream_id: int, conn: StreamOwner, *, inbound: bool) -> None:
        self.stream_id = stream_id
        self.muxed_conn = conn
        self.inbound = inbound
        self.send_credit = INITIAL_WINDOW
        self.receive_credit = INITIAL_WINDOW
        self.window = INITIAL_WINDOW
        self.send_closed = False
        self._readers = 0
        self.receive_closed = False
        self.was_reset = False
        self.last_heard = trio.current_time()
        self._buffer = bytearray()
        self._taken = 0
        self._counted = True
        self._changed = trio.Event()

    # -- called by the connection's reader, synchronously -------------------------------------

    def feed(self, payload: bytes) -> None:
        """Keep received bytes, which the connection has checked against `receive_credit`.

        Raises:
            YamuxViolation: the peer sends after closing its direction.
            BudgetUsedUp: so much waits already that there is no room for it.
        """
        if self.receive_closed:
            if self.was_reset:
                return  # frames that were under way when this side reset the stream
            raise YamuxViolation(f"data after FIN on stream {self.stream_id}")
        if self._counted:
            self.muxed_conn.count_unread(len(payload))
        self.receive_credit -= len(payload)
        self.last_heard = trio.current_time()
        self._buffer += payload
        self._wake()

    def add_credit(self, increment: int) -> None:
        """The peer takes `increment` more bytes."""
        self.send_credit += increment
        if self.send_credit > _MAX_CREDIT:
            raise YamuxViolation(f"send window of stream {self.stream_id} overflows")
        self._wake()

    def peer_finished(self) -> None:
        """The peer closed its direction (FIN)."""
        self.receive_closed = True
        self._wake()

    def peer_reset(self) -> None:
        """The peer aborted both directions (RST). What came before can still be read: the end of
        the protocol negotiation may be among it, without which nobody would see the reset."""
        self.send_closed = self.receive_closed = self.was_reset = True
        self._wake()

    def abort(self) -> None:
        """Both directions are dead: this side reset the stream, or the connection is gone."""
        self.stop_counting()
        self._buffer.clear()
        self.peer_reset()

    @property
    def is_read(self) -> bool:
        """Whether somebody waits for bytes: for an answer, say, which may take minutes."""
        return self._readers > 0

    def stop_counting(self) -> None:
        """What is left unread is whoever has the stream's affair from now on."""
        if self._counted:
            self._counted = False
            self.muxed_conn.count_unread(-len(self._buffer))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- libp2p's interface ---------------------------------------------------------------------

    async def read(self, n: int | None = None) -> bytes:
        """Up to `n` bytes (all that is there when None or negative), at least one.

        Raises:
            MuxedStreamEOF: the peer closed its direction and everything was read.
            MuxedStreamReset: the stream was reset or its connection is gone.
        """
        if n == 0:
            return b""
        while not self._buffer:
            if self.was_reset:
                raise MuxedStreamReset("the stream was reset")
            if self.receive_closed:
                raise MuxedStreamEOF("the peer closed the stream")
            self._readers += 1
            try:
                await self._changed.wait()
            finally:
                self._readers -= 1
        count = len(self._buffer) if n is None or n < 0 else min(n, len(self._buffer))
        chunk = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        if self._counted:
            self.muxed_conn.count_unread(-count)
        self._return_credit(count)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return chunk

    def _return_credit(self, count: int) -> None:
        self._taken += count
        if self.receive_closed or self._taken < self.window // 2:
            return
        increment = self._taken
        if not self._buffer and self.window < MAX_WINDOW:
            granted = self.muxed_conn.grow_window(self.window)
            self.window += granted
            increment += granted
        self._taken = 0
        self.receive_credit += increment
        self.muxed_conn.post(
            encode(FrameType.WINDOW_UPDATE, stream_id=self.stream_id, length=increment),
            urgent=True,
        )

    async def write(self, data: bytes) -> None:
        """Send all of `data`; returns when the last frame is in the connection's outbox.

        Raises:
            MuxedStreamClosed: this side closed its direction.
            MuxedStreamReset: the stream was reset or its connection is gone.
        """
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while view:
            if self.was_reset:
                raise MuxedStreamReset("the stream was reset")
            if self.send_closed:
                raise MuxedStreamClosed("the stream is closed for writing")
            if self.send_credit == 0:
                await self._changed.wait()
                continue
            if self.muxed_conn.outbox.full:
                await self.muxed_conn.outbox.wait_sent()
                continue
            count = min(len(view), self.send_credit, MAX_FRAME_PAYLOAD)
            self.send_credit -= count
            header = encode(FrameType.DATA, stream_id=self.stream_id, length=count)
            self.muxed_conn.post(header + view[:count])
            view = view[count:]

    async def close(self) -> None:
        """Close the sending direction (FIN); reading stays possible. Idempotent."""
        if not self.send_closed:
            self.send_closed = True
            self._post_flag(Flag.FIN)
            self._wake()
            self.muxed_conn.forget_if_done(self)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def reset(self) -> None:
        """Abort both directions (RST). Idempotent, never waits for the network."""
        self.reset_now()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def reset_now(self) -> None:
        """`reset` for callers that cannot await."""
        if self.was_reset or (self.send_closed and self.receive_closed):
            return
        self.abort()
        self._post_flag(Flag.RST)
        self.muxed_conn.forget_if_done(self)

    def _post_flag(self, flag: Flag) -> None:
        self.muxed_conn.post(encode(FrameType.WINDOW_UPDATE, flags=flag, stream_id=self.stream_id))

    def set_deadline(self, ttl: int) -> None:
        """Deadlines are the caller's trio scopes."""
        raise NotImplementedError("use a trio cancel scope")

    def get_remote_address(self) -> tuple[str, int] | None:
        """The peer's (host, port), where the transport has one."""
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> GuardedYamuxStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()
