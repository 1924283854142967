"""A TLS byte stream that one thread may read while others write.

An OpenSSL connection is not safe for two threads at once, and a lock held across a *blocking* read
would stop every write. So the socket is non-blocking, each `SSL_read`/`SSL_write` runs under a lock
and never waits in it, and waiting is `poll` on the file descriptor outside of the lock. One call
moves at most one TLS record (16 KiB), so that reader and writer interleave finely.

The descriptor is closed by `close` alone, which the owner calls when no other thread uses the
channel any more; `abort` is the signal from any thread that makes every waiting `poll` return.

All library errors become EdgeBroken here, and handshake failures EdgeViolation.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time

from pipeline.dataplane.errors import EdgeBroken, EdgeTimeout, EdgeViolation

RECORD = 16 * 1024


def tune(sock: socket.socket) -> None:
    """Switch off Nagle's delay and on the kernel's keepalive for a TCP socket."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


class Channel:
    """Wraps a connected stream socket, which it owns from now on; no handshake is made yet."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server: bool) -> None:
        sock.setblocking(False)
        try:
            self._tls = context.wrap_socket(sock, server_side=server, do_handshake_on_connect=False)
        except OSError as exc:
            sock.close()
            raise EdgeBroken(f"connection lost before the handshake: {exc}") from exc
        self._lock = threading.Lock()
        self._read_waits_for = select.POLLIN
        self._write_waits_for = select.POLLOUT
        # One poll object for each direction, since it serves one thread at a time.
        self._read_poll = select.poll()
        self._write_poll = select.poll()

    def handshake(self, deadline: float) -> bytes:
        """Complete TLS and return the peer's certificate (DER).

        Raises EdgeViolation when the peer's TLS is unacceptable, EdgeBroken when the connection is
        lost, EdgeTimeout after `deadline` (time.monotonic seconds).
        """
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._wait(self._read_poll, select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                self._wait(self._write_poll, select.POLLOUT, deadline)
            except ssl.SSLEOFError as exc:
                raise EdgeBroken("the peer hung up during the handshake") from exc
            except ssl.SSLError as exc:
                raise EdgeViolation(f"TLS handshake failed: {exc.reason or exc}") from exc
            except OSError as exc:
                raise EdgeBroken(f"connection lost during the handshake: {exc}") from exc
        certificate = self._tls.getpeercert(binary_form=True)
        if certificate is None:
            raise EdgeViolation("the peer showed no certificate")
        return certificate

    def try_read(self, view: memoryview) -> int | None:
        """Read up to len(view) bytes; 0 is the end of the stream, None means `wait_read` first."""
        with self._lock:
            try:
                return self._tls.recv_into(view)
            except ssl.SSLWantReadError:
                self._read_waits_for = select.POLLIN
            except ssl.SSLWantWriteError:
                self._read_waits_for = select.POLLOUT
            except OSError as exc:
                raise EdgeBroken(f"connection lost: {exc}") from exc
        return None

    def try_write(self, view: memoryview | bytes) -> int | None:
        """Write a prefix of `view`; None means `wait_write`, then the same bytes again."""
        with self._lock:
            try:
                return self._tls.send(view)
            except ssl.SSLWantWriteError:
                self._write_waits_for = select.POLLOUT
            except ssl.SSLWantReadError:
                self._write_waits_for = select.POLLIN
            except OSError as exc:
                raise EdgeBroken(f"connection lost: {exc}") from exc
        return None

    def wait_read(self, deadline: float | None) -> bool:
        """Wait until a read can make progress; False when the deadline passed. One thread at a
        time."""
        return self._poll(self._read_poll, self._read_waits_for, deadline)

    def wait_write(self, deadline: float | None) -> bool:
        """Wait until a write can make progress; False when the deadline passed. One thread at a
        time."""
        return self._poll(self._write_poll, self._write_waits_for, deadline)

    def read_exactly(self, count: int, deadline: float) -> bytes:
        """Read `count` bytes (the caller bounds it). EdgeBroken at end of stream, EdgeTimeout."""
        data = bytearray(count)
        rest = memoryview(data)
        while rest:
            got = self.try_read(rest)
            if got is None:
                self._wait(self._read_poll, self._read_waits_for, deadline)
            elif got == 0:
                raise EdgeBroken("the peer hung up")
            else:
                rest = rest[got:]
        return bytes(data)

    def write_all(self, data: memoryview | bytes, deadline: float | None) -> None:
        """Write everything. EdgeTimeout leaves a partial write behind: give the edge up then."""
        rest = memoryview(data)
        while rest:
            sent = self.try_write(rest[:RECORD])
            if sent is None:
                self._wait(self._write_poll, self._write_waits_for, deadline)
            else:
                rest = rest[sent:]

    def finish(self) -> None:
        """Tell the peer's TCP that no more bytes follow."""
        self._shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Stop traffic both ways and wake every thread that waits. The descriptor stays open."""
        self._shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the descriptor; no thread may use the channel any more."""
        self._tls.close()

    def _shutdown(self, how: int) -> None:
        # SSLSocket.shutdown would also drop the TLS state, and later reads would pass as plaintext.
        with contextlib.suppress(OSError):  # the peer may have reset the connection already
            socket.socket.shutdown(self._tls, how)

    def _wait(self, poller: select.poll, events: int, deadline: float | None) -> None:
        if not self._poll(poller, events, deadline):
            raise EdgeTimeout("the deadline passed")

    def _poll(self, poller: select.poll, events: int, deadline: float | None) -> bool:
        poller.register(self._tls.fileno(), events)
        if deadline is None:
            return bool(poller.poll())
        return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
