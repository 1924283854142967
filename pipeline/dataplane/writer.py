"""The writing half of an edge: whole frames onto the channel, from any thread.

One frame at a time goes out under `_turn`. Three kinds of thread come here, and only two may wait:
senders and consumers wait for the socket, while the edge's reader must never wait to write, or two
readers could wait for one another with both directions full. So control frames are appended to
`_carry` and written as far as the socket takes them; TLS may have taken a part of them already and
insists on being offered the same bytes again, therefore whoever writes next begins with `_carry`.

A credit grant that finds another thread writing is left in `_owed`; that thread looks again after
its frame, so no grant is forgotten. A heartbeat in that situation is not needed.

The writer reports `Wrote` and `Ended` to the edge instead of raising from control frames.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pipeline.dataplane.channel import RECORD, Channel
from pipeline.dataplane.errors import EdgeBroken, EdgeTimeout
from pipeline.dataplane.frames import Kind, encode_head
from pipeline.dataplane.link import Ended, Wrote


class FrameWriter:
    """Writes to `channel`; `report` takes the events for the link machine, from any thread."""

    def __init__(self, channel: Channel, report: Callable[[Wrote | Ended], object]) -> None:
        self._channel = channel
        self._report = report
        self._turn = threading.Lock()
        self._state = threading.Lock()  # guards _owed
        self._owed = 0
        self._carry = b""
        self._stopped = False

    def data(self, header: bytes, body: memoryview, deadline: float | None) -> None:
        """Write one DATA frame, and then whatever grants were left for this thread.

        Raises EdgeTimeout if not a byte was written by `deadline`. A frame cut short, and any
        failure of the channel, is reported as `Ended`.
        """
        timeout = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._turn.acquire(timeout=timeout):
            raise EdgeTimeout("another frame was being sent until the deadline")
        try:
            if not self._stopped:
                self._attempt(lambda: self._data(header, body, deadline))
        finally:
            self._turn.release()
        self.grant(0)

    def grant(self, frames: int, *, wait: bool = True) -> None:
        """Send credit for `frames` more, or leave it to the thread that is writing."""
        with self._state:
            self._owed += frames
        while self._owed and not self._stopped and self._turn.acquire(blocking=False):
            try:
                with self._state:
                    owed, self._owed = self._owed, 0
                if owed:
                    self._carry += encode_head(Kind.CREDIT, owed)
                    self._attempt(lambda: self._push(wait=wait, deadline=None))
            finally:
                self._turn.release()

    def beat(self) -> None:
        """Send BEAT unless bytes are on their way already. Never waits."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            self._carry = self._carry or encode_head(Kind.BEAT)
            self._attempt(lambda: self._push(wait=False, deadline=None))
        finally:
            self._turn.release()
        self.grant(0, wait=False)

    def bye(self, patience: float) -> None:
        """Send BYE and end our direction, within about twice `patience` seconds."""
        if not self._turn.acquire(timeout=patience):
            return
        try:
            self._carry += encode_head(Kind.BYE)
            deadline = time.monotonic() + patience
            self._attempt(lambda: self._push(wait=True, deadline=deadline))
            self._channel.finish()
        finally:
            self._turn.release()

    def stop(self) -> None:
        """No control frames from now on; threads inside notice when the channel is aborted."""
        self._stopped = True

    def close_channel(self) -> None:
        """Free the descriptor once no thread writes; `stop` and abort the channel first."""
        with self._turn:
            self._channel.close()

    def _data(self, header: bytes, body: memoryview, deadline: float | None) -> None:
        head = encode_head(Kind.DATA, 0, len(header), len(body)) + header
        self._push(wait=True, deadline=deadline)
        if len(head) + len(body) <= RECORD:
            self._channel.write_all(b"".join((head, body)), deadline)  # one TLS record
        else:
            self._channel.write_all(head, deadline)
            self._channel.write_all(body, deadline)

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except EdgeTimeout:
            self._report(Ended(EdgeBroken("a frame could not be sent whole before its deadline")))
        except EdgeBroken as error:
            self._report(Ended(error))
        else:
            self._report(Wrote(time.monotonic()))

    def _push(self, *, wait: bool, deadline: float | None) -> None:
        while self._carry:
            sent = self._channel.try_write(self._carry)
            if sent is not None:
                self._carry = self._carry[sent:]
            elif not wait:
                return
            elif not self._channel.wait_write(deadline):
                raise EdgeTimeout("the deadline passed")
