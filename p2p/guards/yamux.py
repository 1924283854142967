"""A Yamux connection with bounded memory and cancel-safe writes.

It replaces py-libp2p's multiplexer, which only logs receive-window violations, loses the framing
when a writer is cancelled, polls every 10 ms for credit and gives up on a reader that stalls for
five seconds. It speaks the same wire protocol (spec in `yamux_frames`).

Three tasks while the connection lives (`start`):

* reader: takes Noise messages, cuts frames, updates streams. It never waits for an application.
* writer: the only task that touches the socket for writing. Streams append whole frames to the
  `Outbox`; the writer sends what has gathered there.
* keeper: pings, ends the connection when `MAX_UNANSWERED` pings in a row brought no byte at all,
  and reclaims streams whose peer never closes its side.

Bounds per connection: `MAX_INBOUND_STREAMS` streams opened by the peer, `WINDOW_BUDGET` bytes of
window growth on top of the initial windows, and the outbox's own limits. What the peer has sent and
nobody has read is held in its name (`p2p.guards.account`): where the budgets have no room for it
the stream is reset. Reading costs CPU time, which is charged to the peer; one that goes far beyond
its budget is read more slowly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from cryptography.exceptions import InvalidTag
from libp2p.abc import ConnectionType, IMuxedConn, ISecureConn
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError
from multiaddr import Multiaddr
from noise.exceptions import (
    NoiseInvalidMessage,
    NoiseMaxNonceError,
)

from p2p.admission.holdings import Lease
from p2p.errors import BudgetUsedUp
from p2p.guards.account import PeerAccount, metered
from p2p.guards.yamux_frames import (
    INITIAL_WINDOW,
    Flag,
    FrameType,
    GoAway,
    Header,
    YamuxViolation,
    cut_frames,
    encode,
)
from p2p.guards.yamux_outbox import Outbox
from p2p.guards.yamux_stream import GuardedYamuxStream

MAX_INBOUND_STREAMS = 128
MAX_OUTBOUND_STREAMS = 512
WINDOW_BUDGET = 16 * 1024 * 1024
PING_INTERVAL = 5.0
MAX_UNANSWERED = 3  # pings in a row; counted, not timed, so that a stall of ours blames nobody
LINGER = 30.0  # a stream that we closed, that is not used and that nobody reads is reset after this
GOODBYE_LIMIT = 0.2

_DEAD_CONNECTION = (
    IOException,
    OSError,
    InvalidTag,
    NoiseInvalidMessage,
    NoiseMaxNonceError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class GuardedYamux(IMuxedConn):
    """libp2p's multiplexed connection over one Noise session.

    `violation` holds what the peer did wrong, when that ended the connection; `rtt` is the smoothed
    round-trip time in seconds, None until the first ping came back. `account` is set before it is
    started, where the peer's use counts.
    """

    def __init__(self, secured_conn: ISecureConn, peer_id: ID, *, is_initiator: bool) -> None:
        self.secured_conn = secured_conn
        self.peer_id = peer_id
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.on_close: Callable[[], Awaitable[None]] | None = None
        self.violation: str | None = None
        self.rtt: float | None = None
        self._is_initiator = is_initiator
        self._next_id = 1 if is_initiator else 2
        self._streams: dict[int, GuardedYamuxStream] = {}
        self._accept_send, self._accept_receive = trio.open_memory_channel[GuardedYamuxStream](
            MAX_INBOUND_STREAMS
        )
        self._window_budget = WINDOW_BUDGET
        self.account: PeerAccount | None = None
        self._unread = 0
        self._unread_lease: Lease | None = None
        self.outbox = Outbox()
        self._closing = False
        self._unanswered = 0
        self._ping_nonce = 0
        self._pinged_at: float | None = None
        self._scope = trio.CancelScope()

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Run the connection until it ends; never raises for anything the peer does."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write_loop)
                    nursery.start_soon(self._keep_loop)
                    self.event_started.set()
        finally:
            self.event_started.set()
            with trio.CancelScope(shield=True):
                await self._tear_down()
        if self.on_close is not None:
            await self.on_close()

    async def close(self) -> None:
        """Say goodbye (at most `GOODBYE_LIMIT` seconds), then end the connection. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self.outbox.put(encode(FrameType.GO_AWAY, length=GoAway.NORMAL), urgent=True)
        with trio.move_on_after(GOODBYE_LIMIT):
            await self.outbox.wait_empty()
        self._scope.cancel()
        if not self.event_started.is_set():
            await self._tear_down()

    def _end(self, violation: str | None = None) -> None:
        self._closing = True
        self.violation = self.violation or violation
        self._scope.cancel()

    async def _tear_down(self) -> None:
        self._closing = True
        self._accept_send.close()
        for stream in list(self._streams.values()):
            stream.abort()
        self._streams.clear()
        if self._unread_lease is not None:
            self._unread_lease.close()
        self.outbox.clear()
        self.event_closed.set()
        with trio.move_on_after(GOODBYE_LIMIT):
            await self.secured_conn.close()

    # -- streams --------------------------------------------------------------------------------

    async def open_stream(self) -> GuardedYamuxStream:
        """A new stream to the peer.

        Raises:
            MuxedStreamError: the connection is closing or has too many open streams.
        """
        await trio.lowlevel.checkpoint()
        if self._closing:
            raise MuxedStreamError("the connection is closed")
        if sum(not s.inbound for s in self._streams.values()) >= MAX_OUTBOUND_STREAMS:
            raise MuxedStreamError(f"more than {MAX_OUTBOUND_STREAMS} streams are open")
        stream = GuardedYamuxStream(self._next_id, self, inbound=False)
        self._next_id += 2
        self._streams[stream.stream_id] = stream
        self.post(encode(FrameType.WINDOW_UPDATE, flags=Flag.SYN, stream_id=stream.stream_id))
        return stream

    async def accept_stream(self) -> GuardedYamuxStream:
        """The next stream that the peer opens.

        Raises:
            MuxedConnUnavailable: the connection ended.
        """
        try:
            return await self._accept_receive.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as exc:
            raise MuxedConnUnavailable("the connection is closed") from exc

    def forget_if_done(self, stream: GuardedYamuxStream) -> None:
        """Drop a stream that is closed both ways (its unread bytes stay with the stream)."""
        done = stream.was_reset or (stream.send_closed and stream.receive_closed)
        if done and self._streams.pop(stream.stream_id, None) is not None:
            self._window_budget += stream.window - INITIAL_WINDOW
            stream.stop_counting()

    def count_unread(self, change: int) -> None:
        """That much more (or less) of what the peer sent waits in a stream. Raises
        `BudgetUsedUp` where more is too much."""
        if self._unread_lease is not None and self.account is not None:
            if change > 0:
                self._unread_lease.renew(self.account.asker)
            self._unread_lease.resize(self._unread + change)
        self._unread += change

    def grow_window(self, wanted: int) -> int:
        """Take up to `wanted` bytes from the window budget; returns what was granted."""
        granted = min(wanted, self._window_budget)
        self._window_budget -= granted
        return granted

    # -- outgoing -------------------------------------------------------------------------------

    def post(self, frame: bytes, *, urgent: bool = False) -> None:
        """Queue one whole frame for the writer (see `Outbox`); never waits.

        A peer that provokes answers and does not read them ends its own connection here.
        """
        if self._closing:
            return
        if not self.outbox.put(frame, urgent=urgent):
            self._end("the peer provokes answers and does not read them")

    async def _write_loop(self) -> None:
        try:
            while True:
                await self.secured_conn.write(await self.outbox.next_batch())
                self.outbox.sent()
        except _DEAD_CONNECTION:
            self._end()

    # -- incoming -------------------------------------------------------------------------------

    async def _read(self) -> None:
        if self.account is None:
            await self._read_loop()
            return
        self._unread_lease = self.account.hold(0)
        await metered(self._read_loop(), self.account.spend)

    async def _read_loop(self) -> None:
        pending = bytearray()
        try:
            while True:
                if self.account is not None:
                    await self.account.wait_flood()
                # Without a size the session hands over one Noise message (at most 64 KiB); with
                # a size it would wait until that many bytes have come.
                pending += await self.secured_conn.read()
                self._unanswered = 0
                for header, payload in cut_frames(pending, self._check_announced):
                    self._handle(header, payload)
        except YamuxViolation as violation:
            self._end(str(violation))
        except _DEAD_CONNECTION:
            self._end()

    def _check_announced(self, header: Header) -> None:
        """Refuse a payload before it is gathered, so that `pending` stays below one window."""
        stream = self._streams.get(header.stream_id)
        allowed = INITIAL_WINDOW if stream is None or stream.was_reset else stream.receive_credit
        if header.length > allowed:
            raise YamuxViolation(f"frame of {header.length} bytes exceeds the receive window")

    def _handle(self, header: Header, payload: bytes) -> None:
        if header.type is FrameType.PING:
            if header.flags & Flag.SYN:
                self.post(encode(FrameType.PING, flags=Flag.ACK, length=header.length), urgent=True)
            elif header.length == self._ping_nonce and self._pinged_at is not None:
                sample = trio.current_time() - self._pinged_at
                self.rtt = sample if self.rtt is None else 0.75 * self.rtt + 0.25 * sample
                self._pinged_at = None
        elif header.type is FrameType.GO_AWAY:
            self._end()
        else:
            self._handle_stream_frame(header, payload)

    def _handle_stream_frame(self, header: Header, payload: bytes) -> None:
        stream = self._streams.get(header.stream_id)
        if header.flags & Flag.SYN:
            if stream is not None:
                raise YamuxViolation(f"stream {header.stream_id} opened twice")
            stream = self._admit(header)
        if stream is None:
            return  # a stream that is gone already; its last frames were under way
        if header.type is FrameType.DATA:
            try:
                stream.feed(payload)
            except BudgetUsedUp:
                stream.reset_now()
                return
        elif header.length:
            stream.add_credit(header.length)
        if header.flags & Flag.RST:
            stream.peer_reset()
        elif header.flags & Flag.FIN:
            stream.peer_finished()
        self.forget_if_done(stream)

    def _admit(self, header: Header) -> GuardedYamuxStream | None:
        if (header.stream_id % 2 == 1) == self._is_initiator:
            raise YamuxViolation(f"stream id {header.stream_id} is not the peer's to open")
        stream = GuardedYamuxStream(header.stream_id, self, inbound=True)
        inbound = sum(s.inbound for s in self._streams.values())
        if inbound >= MAX_INBOUND_STREAMS:
            self.post(
                encode(FrameType.WINDOW_UPDATE, flags=Flag.RST, stream_id=header.stream_id),
                urgent=True,
            )
            return None
        try:
            self._accept_send.send_nowait(stream)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.post(
                encode(FrameType.WINDOW_UPDATE, flags=Flag.RST, stream_id=header.stream_id),
                urgent=True,
            )
            return None
        self._streams[stream.stream_id] = stream
        # Provoked by the peer like the answers to its pings, so it waits where those are bounded:
        # one that opens and resets streams without end and never reads is cut off.
        self.post(
            encode(FrameType.WINDOW_UPDATE, flags=Flag.ACK, stream_id=stream.stream_id),
            urgent=True,
        )
        return stream

    async def _keep_loop(self) -> None:
        while True:
            if self._unanswered >= MAX_UNANSWERED:
                self._end()
                return
            self._unanswered += 1
            now = trio.current_time()
            self._ping_nonce = (self._ping_nonce + 1) % 2**32
            self._pinged_at = now
            self.post(encode(FrameType.PING, flags=Flag.SYN, length=self._ping_nonce), urgent=True)
            for stream in list(self._streams.values()):
                idle = stream.send_closed and not stream.is_read
                if idle and now - stream.last_heard > LINGER:
                    stream.reset_now()
            await trio.sleep(PING_INTERVAL)

    # -- what libp2p asks about a connection ----------------------------------------------------

    @property
    def is_initiator(self) -> bool:
        """Whether this side dialled."""
        return self._is_initiator

    @property
    def is_established(self) -> bool:
        """Whether it has started and is not closing."""
        return self.event_started.is_set() and not self._closing

    @property
    def is_closed(self) -> bool:
        """Whether it is closed or closing."""
        return self._closing

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The peer's address as the transport below gives it."""
        addresses: list[Multiaddr] = self.secured_conn.get_transport_addresses()
        return addresses

    def get_connection_type(self) -> ConnectionType:
        """Direct or relayed, as the transport below says."""
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        """The peer's (host, port), where the transport has one."""
        address: tuple[str, int] | None = self.secured_conn.get_remote_address()
        return address
