"""The engine's one listening point, on a TCP port and a Unix socket alike.

One thread accepts and reads preambles (`frames`), without blocking and with at most
`max_strangers` unfinished connections and `preamble_seconds` for each: a silent, slow or babbling
client costs a file descriptor for a moment, no thread and no cryptography. When all places are
taken the oldest stranger goes.

A connection whose preamble is complete is **parked** under its certificate's fingerprint, one for
each, the newest winning. `accept_from` is where a stage waits for its upstream neighbour: it takes
that parked connection, whether it came before or comes later, and makes the TLS handshake in its
caller's own thread. A connection that fails there is dropped and the wait goes on, since anyone may
have copied a certificate he saw.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.dataplane.edge import Edge
from pipeline.dataplane.errors import (
    EdgeBroken,
    EdgeClosed,
    EdgeRefused,
    EdgeTimeout,
    EdgeViolation,
    ListenFailed,
)
from pipeline.dataplane.frames import EdgeLimits, preamble_certificate, preamble_missing
from pipeline.dataplane.handshake import HelloCheck, accepted
from pipeline.dataplane.identity import Identity, fingerprint_of
from pipeline.dataplane.link import Timing
from pipeline.dataplane.recall import Recall


@dataclass(frozen=True)
class ListenerLimits:
    """What strangers may take of a listener.

    Attributes:
        max_strangers: unfinished connections at once, and as many finished ones nobody waits for.
        preamble_seconds: for a connection's preamble.
        parked_seconds: for somebody to accept it then; its dialler waits no longer than that.
        handshake_seconds: for TLS and the exchange of hellos, two round trips (`ways`).
    """

    max_strangers: int = 64
    preamble_seconds: float = 5.0
    parked_seconds: float = 10.0
    handshake_seconds: float = 10.0


@dataclass
class _Caller:
    """An accepted connection: its preamble so far, and when (time.monotonic) it must be taken."""

    sock: socket.socket
    until: float
    received: bytearray = field(default_factory=bytearray)


class Listener:
    """Listens until `close`. `port` is the bound TCP port, `unix_path` the socket's path ("" none).

    An existing socket file at `unix_path` is replaced; the file is readable by this user only.
    Raises ListenFailed.
    """

    def __init__(
        self,
        identity: Identity,
        host: str,
        port: int = 0,
        unix_path: str = "",
        limits: ListenerLimits | None = None,
    ) -> None:
        self._identity = identity
        self._limits = limits or ListenerLimits()
        self.unix_path = unix_path
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._parked: dict[bytes, _Caller] = {}
        self._waiting: dict[bytes, object] = {}
        self._closed = False
        self._strangers: dict[socket.socket, _Caller] = {}
        self._servers: list[socket.socket] = []
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._servers.append(socket.create_server((host, port), family=family, backlog=64))
            self.port: int = self._servers[0].getsockname()[1]
            if unix_path:
                self._servers.append(_listen_unix(unix_path))
        except OSError as exc:
            for server in self._servers:
                server.close()
            raise ListenFailed(
                f"cannot listen on {host}:{port} {unix_path}: {exc.strerror or exc}"
            ) from exc
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for sock in (*self._servers, self._wake_read):
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._accept_loop, name="edge-accept", daemon=True)
        self._thread.start()

    def accept_from(
        self,
        peer_fingerprint: bytes,
        hello_check: HelloCheck,
        deadline: float,
        *,
        limits: EdgeLimits | None = None,
        timing: Timing | None = None,
        recall: Recall | None = None,
    ) -> Edge:
        """Wait for the peer whose certificate hashes to `peer_fingerprint`, and for nobody else.

        `hello_check` gets the peer's hello text and returns the answer's text, or raises
        EdgeRefused: the peer is told, and the wait goes on. Raises EdgeTimeout at `deadline`
        (time.monotonic seconds), EdgeClosed when the listener is closed, a later call waits for
        the same peer, or `recall` is given while nobody is here.
        """
        ticket = object()
        failure = ""
        recall = recall or Recall()
        recall.wake(self._changed)
        with self._changed:
            self._waiting[peer_fingerprint] = ticket
            self._changed.notify_all()
        try:
            while True:
                caller = self._take(peer_fingerprint, ticket, deadline, failure, recall)
                try:
                    return accepted(
                        caller.sock,
                        self._identity,
                        preamble_certificate(caller.received),
                        hello_check,
                        limits or EdgeLimits(),
                        timing or Timing(),
                        min(deadline, time.monotonic() + self._limits.handshake_seconds),
                    )
                except (EdgeViolation, EdgeRefused) as error:
                    failure = f"; the last attempt: {error.reason}"
                except (EdgeBroken, EdgeTimeout) as error:  # says less than a refusal before it
                    failure = failure or f"; the last attempt: {error.reason}"
        finally:
            recall.leave(self._changed)
            with self._lock:
                if self._waiting.get(peer_fingerprint) is ticket:
                    del self._waiting[peer_fingerprint]

    def close(self) -> None:
        """Stop listening and drop whoever was not accepted; edges stay. Idempotent."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._wake_write.send(b"x")
        self._thread.join()
        for caller in (*self._strangers.values(), *self._parked.values()):
            caller.sock.close()
        self._selector.close()
        for sock in (*self._servers, self._wake_read, self._wake_write):
            sock.close()
        if self.unix_path:
            Path(self.unix_path).unlink(missing_ok=True)

    def _take(
        self, fingerprint: bytes, ticket: object, deadline: float, failure: str, recall: Recall
    ) -> _Caller:
        with self._changed:
            while True:
                if self._closed:
                    raise EdgeClosed("the listener was closed")
                if self._waiting.get(fingerprint) is not ticket:
                    raise EdgeClosed("a later call waits for this peer")
                caller = self._parked.pop(fingerprint, None)
                if caller is not None:
                    return caller
                if recall.given:
                    raise EdgeClosed(f"nobody wants this edge any more{failure}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise EdgeTimeout(f"the peer did not connect before the deadline{failure}")
                self._changed.wait(left)

    # --- the accepting thread -----------------------------------------------------------------

    def _accept_loop(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(self._expire()):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock in self._servers:
                    self._accept(sock)
                elif sock is not self._wake_read:
                    self._read_preamble(self._strangers[sock])

    def _accept(self, server: socket.socket) -> None:
        try:
            sock, _ = server.accept()
        except BlockingIOError:
            return
        except OSError:
            # Out of descriptors: make room at the strangers' cost rather than spin.
            if not self._evict():
                self._selector.select(0.1)
            return
        sock.setblocking(False)
        if len(self._strangers) >= self._limits.max_strangers:
            self._evict()
        caller = _Caller(sock, time.monotonic() + self._limits.preamble_seconds)
        self._strangers[sock] = caller
        self._selector.register(sock, selectors.EVENT_READ)

    def _read_preamble(self, caller: _Caller) -> None:
        try:
            data = caller.sock.recv(preamble_missing(caller.received))
            caller.received += data
            missing = preamble_missing(caller.received)
        except BlockingIOError:
            return
        except (OSError, EdgeViolation):
            self._forget(caller).close()
            return
        if not data:
            self._forget(caller).close()
        elif not missing:
            self._forget(caller)
            self._park(caller)

    def _park(self, caller: _Caller) -> None:
        fingerprint = fingerprint_of(preamble_certificate(caller.received))
        with self._changed:
            older = self._parked.pop(fingerprint, None)
            if older is not None:
                older.sock.close()
            unexpected = [key for key in self._parked if key not in self._waiting]
            if len(unexpected) >= self._limits.max_strangers:
                self._parked.pop(unexpected[0]).sock.close()
            caller.until = time.monotonic() + self._limits.parked_seconds
            self._parked[fingerprint] = caller
            self._changed.notify_all()

    def _forget(self, caller: _Caller) -> socket.socket:
        del self._strangers[caller.sock]
        self._selector.unregister(caller.sock)
        return caller.sock

    def _evict(self) -> bool:
        oldest = next(iter(self._strangers.values()), None)
        if oldest is None:
            return False
        self._forget(oldest).close()
        return True

    def _expire(self) -> float | None:
        """Drop who is late; the seconds until the next one will be (None: nobody)."""
        now = time.monotonic()
        for caller in [c for c in self._strangers.values() if c.until <= now]:
            self._forget(caller).close()
        with self._lock:
            for key in [k for k, c in self._parked.items() if c.until <= now]:
                self._parked.pop(key).sock.close()
            ends = [c.until for c in (*self._strangers.values(), *self._parked.values())]
        return min(ends) - now if ends else None


def _listen_unix(path: str) -> socket.socket:
    if Path(path).is_socket():
        Path(path).unlink()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        server.bind(path)
        with contextlib.suppress(OSError):  # some file systems know no modes
            os.chmod(path, 0o600)
        server.listen(64)
    except OSError:
        server.close()
        raise
    return server
