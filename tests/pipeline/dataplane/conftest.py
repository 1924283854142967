"""Connected edge pairs over TCP and Unix sockets, raw authenticated peers, leak checks."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataplane import Edge, EdgeLimits, Endpoint, Identity, Listener, Timing, dial
from pipeline.dataplane.frames import (
    FRAME_HEAD,
    Hello,
    Kind,
    decode_head,
    encode_hello,
    encode_preamble,
)
from pipeline.dataplane.listener import ListenerLimits

PATIENCE = 120.0
SMALL = EdgeLimits(max_header=1024, max_payload=1 << 20, window=4)


def soon() -> float:
    """A deadline that only a test that hangs meets."""
    return time.monotonic() + PATIENCE


def shortly() -> float:
    """A deadline that a test waits for, long enough for handshakes on a machine that stalls."""
    return time.monotonic() + 5.0


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Run `work` in a thread; the returned function joins and gives its result or raises."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except Exception as error:  # noqa: BLE001 - handed to the test that joins
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def join() -> Any:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "thread is stuck"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return join


def descriptors() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd}:{os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            continue
    return {name for name in found if "socket:" in name}


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Every thread is joined and every socket closed when a test has closed its edges."""
    before = descriptors()
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("edge-")]
    assert not left
    # What another thread is closing is gone in a moment; what leaks stays.
    patience = time.monotonic() + PATIENCE
    while not descriptors() <= before and time.monotonic() < patience:
        gc.collect()
        time.sleep(0.05)
    assert descriptors() <= before


class Net:
    """One listener and helpers to connect to it over one kind of transport."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.server = Identity()
        self.client = Identity()
        self._kind = kind
        self._path = str(folder / "edge.sock")
        self.stack = ExitStack()
        self.listener = self._listen(ListenerLimits())

    def limit(self, limits: ListenerLimits) -> None:
        """Listen anew, with these limits."""
        self.listener.close()
        self.listener = self._listen(limits)

    def _listen(self, limits: ListenerLimits) -> Listener:
        made = Listener(self.server, "127.0.0.1", 0, self._path, limits)
        self.endpoint = (
            Endpoint("127.0.0.1", made.port)
            if self._kind == "tcp"
            else Endpoint(unix_path=made.unix_path)
        )
        return made

    def accepting(self, **options: Any) -> Callable[[], Edge]:
        options.setdefault("limits", SMALL)
        return in_thread(
            lambda: self.stack.enter_context(
                self.listener.accept_from(
                    self.client.fingerprint, lambda text: b"re:" + text, soon(), **options
                )
            )
        )

    def dialling(self, **options: Any) -> Edge:
        options.setdefault("limits", SMALL)
        edge = dial(
            self.client, self.endpoint, self.server.fingerprint, b"hello", soon(), **options
        )
        return self.stack.enter_context(edge)

    def pair(
        self, *, timing: Timing | None = None, limits: EdgeLimits = SMALL
    ) -> tuple[Edge, Edge]:
        """(dialler's edge, listener's edge)."""
        accepting = self.accepting(timing=timing, limits=limits)
        dialled = self.dialling(timing=timing, limits=limits)
        return dialled, accepting()

    def raw(self) -> socket.socket:
        """A plain connection with nothing sent."""
        if self.endpoint.unix_path:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.endpoint.unix_path)
        else:
            sock = socket.create_connection((self.endpoint.host, self.endpoint.port))
        sock.settimeout(PATIENCE)
        return self.stack.enter_context(sock)

    def tls(self, preamble_of: Identity, key_of: Identity | None) -> ssl.SSLSocket:
        """A blocking TLS connection that shows one identity first and uses another's key."""
        sock = self.raw()
        sock.sendall(encode_preamble(preamble_of.certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if key_of is not None:
            key_of.load_into(context)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return self.stack.enter_context(context.wrap_socket(sock))

    def hostile(self, **options: Any) -> tuple[ssl.SSLSocket, Edge]:
        """A peer with the right key whose every byte the test chooses, and the edge it faces."""
        accepting = self.accepting(**options)
        sock = self.tls(self.client, self.client)
        sock.sendall(encode_hello(Kind.HELLO, Hello(SMALL, b"hello")))
        head = decode_head(read_exactly(sock, FRAME_HEAD.size))
        assert head.kind is Kind.WELCOME
        read_exactly(sock, head.header_len)
        return sock, accepting()

    def close(self) -> None:
        self.stack.close()
        self.listener.close()


def read_exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


@pytest.fixture(params=["tcp", "unix"])
def net(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Net]:
    made = Net(request.param, tmp_path)
    yield made
    made.close()
