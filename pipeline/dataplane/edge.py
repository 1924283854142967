"""One end of an established edge: frames both ways over a mutual TLS 1.3 stream.

Why threads and blocking calls: the engine spends its life in torch, which is no event loop, and a
blocking socket in its own thread is the fastest that Python offers (a third of trio's round trip).

Who does what:
- One **reader thread** per edge, owned by it: reads frames into preallocated buffers, applies
  credits, sends heartbeats, notices silence. It never waits for the consumer (see `link`: a legal
  frame always finds a free buffer) and never waits to write: when another thread is writing, or the
  socket is full, its heartbeat is not needed or goes out later.
- **Callers** of `send` write in their own thread, one frame at a time (`writer`).
- The **caller of `recv`** (one thread at a time) gives the previous buffer back and grants credit.

`_lock` guards the link machine and `_over`. Commands of the machine are carried out after it is
released, so nothing waits under it.

The first reason to end wins and is what every later call raises. Someone who only sends still
learns of a break at once by keeping a thread in `recv`.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from pipeline.dataplane.channel import Channel
from pipeline.dataplane.errors import (
    EdgeBroken,
    EdgeClosed,
    EdgeError,
    EdgeTimeout,
    EdgeViolation,
)
from pipeline.dataplane.frames import FRAME_HEAD, EdgeLimits, Hello, decode_head
from pipeline.dataplane.link import (
    Arrived,
    Beat,
    CloseAsked,
    Ended,
    Event,
    Grant,
    Heard,
    Link,
    Receive,
    Released,
    SayBye,
    Sending,
    Stop,
    Tick,
    Timing,
    Unsent,
    Wake,
)
from pipeline.dataplane.writer import FrameWriter

CLOSE_PATIENCE = 1.0  # seconds a closing side spends on saying goodbye, and on the peer's answer

Frame = tuple[bytes, memoryview]
_Received = tuple[bytes, bytearray, int, float]


@dataclass(frozen=True)
class EdgeStats:
    """DATA frames and their header and payload bytes so far."""

    frames_sent: int = 0
    bytes_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0


class Edge:
    """Made by `dial` and `Listener.accept_from`; starts its reader thread.

    `peer_hello` is the opaque text of the peer's hello (the listener's answer, at the dialler).
    """

    def __init__(
        self,
        channel: Channel,
        local: EdgeLimits,
        peer: Hello,
        peer_fingerprint: bytes,
        timing: Timing,
    ) -> None:
        self.peer_fingerprint = peer_fingerprint
        self.peer_hello = peer.text
        self._channel = channel
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._writer = FrameWriter(channel, self._apply)
        self._closing = threading.Lock()
        self._link = Link(local, peer.limits, timing, time.monotonic())
        self._over: EdgeError | None = None
        self._closed = False
        self._inbox: queue.SimpleQueue[_Received | None] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(local.window):
            self._free.put(bytearray())
        self._lent: bytearray | None = None
        self._arrived = 0.0
        self._max_payload = local.max_payload
        self._sent_frames = self._sent_bytes = self._got_frames = self._got_bytes = 0
        self._resolution = timing.heartbeat / 16  # seconds, of "when the peer was last heard"
        self._next_heard = 0.0
        self._reader = threading.Thread(target=self._read_loop, name="edge-reader", daemon=True)
        self._reader.start()

    # --- the user's side ----------------------------------------------------------------------

    def send(
        self, header: bytes, payload: memoryview | None = None, deadline: float | None = None
    ) -> None:
        """Send one frame; returns when the kernel has it and both buffers may be reused.

        Waits for credit and for the socket until `deadline` (time.monotonic seconds; None: as long
        as the edge lives). `payload` is any C-contiguous memoryview. Safe from several threads.
        Raises EdgeTimeout when nothing was sent yet, EdgeMisuse for a frame over the peer's limits,
        and the edge's EdgeClosed, EdgeBroken or EdgeViolation once it is over.
        """
        body = payload.cast("B") if payload is not None and payload.nbytes else memoryview(b"")
        with self._changed:
            self._link.check_size(len(header), len(body))
            while not self._link.credits:
                self._check()
                if not self._changed.wait(_remaining(deadline)):
                    raise EdgeTimeout("no credit from the peer before the deadline")
            self._link.handle(Sending(len(header), len(body)))
        try:
            self._writer.data(header, body, deadline)
        except EdgeTimeout:
            self._apply(Unsent())
            raise
        with self._lock:
            self._check()
            self._sent_frames += 1
            self._sent_bytes += len(header) + len(body)

    def recv(self, deadline: float | None = None) -> Frame:
        """The next frame's header and payload, in the order sent.

        The payload is a view of a buffer of the edge and is valid until the next `recv`. One thread
        at a time. Raises EdgeTimeout at the deadline, and when the edge is over (after delivering
        what had arrived whole) its EdgeClosed, EdgeBroken or EdgeViolation.
        """
        if self._lent is not None:
            self._free.put(self._lent)
            self._lent = None
            self._apply(Released())
        if self._closed:
            raise EdgeClosed("this side closed the edge")
        try:
            item = self._inbox.get(timeout=_remaining(deadline))
        except queue.Empty:
            raise EdgeTimeout("no frame before the deadline") from None
        if item is None:
            self._inbox.put(None)
            with self._lock:
                self._check()
            raise AssertionError("an edge's inbox ends only when the edge is over")
        header, buffer, length, self._arrived = item
        self._lent = buffer
        return header, memoryview(buffer)[:length]

    def close(self) -> None:
        """Say goodbye if possible, stop the thread, free the descriptor. Idempotent, never raises.

        Takes at most about three seconds. Frames that `send` has returned from reach a live peer.
        """
        with self._closing:
            if self._closed:
                return
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._apply(CloseAsked())
            self._reader.join(CLOSE_PATIENCE)
            self._channel.abort()
            self._reader.join()
            self._writer.close_channel()

    @property
    def arrived(self) -> float:
        """When the frame that `recv` gave last had come in whole (time.monotonic seconds)."""
        return self._arrived

    @property
    def stats(self) -> EdgeStats:
        """Frames and bytes so far, both ways."""
        return EdgeStats(self._sent_frames, self._sent_bytes, self._got_frames, self._got_bytes)

    def __enter__(self) -> Edge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- reading ------------------------------------------------------------------------------

    def _read_loop(self) -> None:
        head = memoryview(bytearray(FRAME_HEAD.size))
        try:
            while self._fill(head):
                frame = decode_head(head)
                for command in self._apply(Arrived(frame)):
                    if isinstance(command, Receive) and not self._receive(command):
                        return
        except (EdgeBroken, EdgeViolation) as error:
            self._apply(Ended(error))
        except MemoryError:
            self._apply(Ended(EdgeBroken("no memory for a frame within the announced limits")))
        finally:
            # Not even a defect of the reader may leave senders and receivers waiting.
            self._apply(Ended(EdgeBroken("the edge's reader stopped")))

    def _receive(self, frame: Receive) -> bool:
        header = bytearray(frame.header_len)
        buffer = self._free.get_nowait()  # the link machine grants no more frames than buffers
        if len(buffer) < frame.payload_len:
            # Grow by doubling, so that sizes settle after a few frames; zeroed lazily by the OS.
            buffer = bytearray(min(self._max_payload, max(frame.payload_len, 2 * len(buffer))))
        if not self._fill(memoryview(header)):
            return False
        if not self._fill(memoryview(buffer)[: frame.payload_len]):
            return False
        self._got_frames += 1
        self._got_bytes += frame.header_len + frame.payload_len
        self._inbox.put((bytes(header), buffer, frame.payload_len, time.monotonic()))
        return True

    def _fill(self, view: memoryview) -> bool:
        """Read until `view` is full, ticking meanwhile; False when the edge is over."""
        while view:
            if self._over is not None:
                return False
            count = self._channel.try_read(view)
            now = time.monotonic()
            if count == 0:
                raise EdgeBroken("the peer hung up without closing the edge")
            if count is not None:
                view = view[count:]
                if now >= self._next_heard:  # once a record would be needlessly often
                    self._next_heard = now + self._resolution
                    self._apply(Heard(now))
            # Whatever can be read is read before the peer may be called silent: after a long
            # pause of this process its bytes are waiting in the kernel.
            if now >= self._link.wake_at and (count or not self._channel.wait_read(0.0)):
                self._apply(Tick(now))
            if count is None:
                self._channel.wait_read(self._link.wake_at)
        return True

    # --- the machine --------------------------------------------------------------------------

    def _apply(self, event: Event) -> list[Receive]:
        """Feed the link machine and carry its commands out; reading is left to the reader."""
        with self._lock:
            commands = self._link.handle(event)
        receive: list[Receive] = []
        for command in commands:
            match command:
                case Receive():
                    receive.append(command)
                case Grant(frames):
                    self._writer.grant(frames)
                case Beat():
                    self._writer.beat()
                case SayBye():
                    self._writer.bye(CLOSE_PATIENCE)
                case Wake():
                    with self._changed:
                        self._changed.notify_all()
                case Stop(error):
                    self._stop(error)
        return receive

    def _stop(self, error: EdgeError) -> None:
        with self._changed:
            if self._over is None:
                self._over = error
            self._changed.notify_all()
        self._inbox.put(None)
        self._writer.stop()
        self._channel.abort()

    def _check(self) -> None:
        """Under `_lock`: raise why the edge is over, if it is."""
        if self._closed:
            raise EdgeClosed("this side closed the edge")
        if self._over is not None:
            raise type(self._over)(self._over.reason)


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
