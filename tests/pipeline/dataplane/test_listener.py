"""Strangers at the listener, the meeting of dialler and waiter, and addresses."""

from __future__ import annotations

import socket
import stat
import time
from pathlib import Path

import pytest

from pipeline.dataplane import (
    EdgeBroken,
    EdgeClosed,
    EdgeMisuse,
    EdgeTimeout,
    Endpoint,
    Identity,
    Listener,
    ListenFailed,
    Recall,
    dial,
)
from pipeline.dataplane.frames import encode_preamble
from pipeline.dataplane.listener import ListenerLimits

from .conftest import PATIENCE, Net, in_thread, soon


def answered_by_end(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def test_the_dialler_may_come_first(net: Net) -> None:
    dialling = in_thread(net.dialling)
    accepted = net.accepting()()
    assert dialling().peer_hello == b"re:hello"
    assert accepted.peer_hello == b"hello"


def test_a_listener_may_start_after_the_dialler(tmp_path: Path) -> None:
    client, server = Identity(), Identity()
    path = str(tmp_path / "late.sock")
    dialling = in_thread(
        lambda: dial(client, Endpoint(unix_path=path), server.fingerprint, b"", soon())
    )
    made = Listener(server, "127.0.0.1", 0, path)
    accepted = made.accept_from(client.fingerprint, lambda text: text, soon())
    dialling().close()
    accepted.close()
    made.close()


def test_several_peers_meet_their_own_waiters(net: Net) -> None:
    clients = [Identity() for _ in range(4)]
    waiting = [
        in_thread(
            lambda c=client: net.stack.enter_context(
                net.listener.accept_from(c.fingerprint, lambda text: text, soon())
            )
        )
        for client in clients
    ]
    for i, client in reversed(list(enumerate(clients))):
        edge = dial(client, net.endpoint, net.server.fingerprint, b"%d" % i, soon())
        net.stack.enter_context(edge)
    for i, (job, client) in enumerate(zip(waiting, clients, strict=True)):
        accepted = job()
        assert accepted.peer_fingerprint == client.fingerprint
        assert accepted.peer_hello == b"%d" % i


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"PRIMEDP1\xff\xff", b"PRIMEDP1\0\0"],
)
def test_garbage_is_dropped_at_once(net: Net, garbage: bytes) -> None:
    sock = net.raw()
    sock.sendall(garbage)
    assert answered_by_end(sock)


def test_strangers_are_dropped_when_their_time_is_up(net: Net) -> None:
    """Silent, half-done, and complete but unexpected: none keeps its place."""
    net.limit(ListenerLimits(preamble_seconds=0.05))
    preamble = encode_preamble(Identity().certificate)
    for sent in (b"", preamble[:50], preamble):
        sock = net.raw()
        sock.sendall(sent)
        assert answered_by_end(sock)


def test_a_flood_of_strangers_is_bounded_and_does_not_keep_the_peer_out(net: Net) -> None:
    net.limit(ListenerLimits(max_strangers=4))
    accepting = net.accepting()
    silent = [net.raw() for _ in range(10)]
    for _ in range(10):
        net.raw().sendall(encode_preamble(Identity().certificate))
    assert net.dialling().peer_hello == b"re:hello"
    accepting()
    assert all(answered_by_end(sock) for sock in silent[:6])


def test_waiting_has_a_deadline(net: Net) -> None:
    with pytest.raises(EdgeTimeout, match="did not connect"):
        net.listener.accept_from(net.client.fingerprint, lambda text: text, time.monotonic())


def test_a_later_wait_for_the_same_peer_replaces_the_earlier(net: Net) -> None:
    earlier = net.accepting()
    with net.listener._changed:
        assert net.listener._changed.wait_for(
            lambda: net.client.fingerprint in net.listener._waiting, PATIENCE
        )
    later = net.accepting()
    with pytest.raises(EdgeClosed, match="a later call"):
        earlier()
    net.dialling()
    assert later().peer_hello == b"hello"


def test_closing_the_listener_ends_the_wait_and_leaves_edges(net: Net) -> None:
    dialled, accepted = net.pair()
    waiting = in_thread(
        lambda: net.listener.accept_from(Identity().fingerprint, lambda text: text, soon())
    )
    net.raw().sendall(b"PRIME")
    net.listener.close()
    net.listener.close()
    with pytest.raises(EdgeClosed, match="listener"):
        waiting()
    dialled.send(b"alive", None, soon())
    assert accepted.recv(soon())[0] == b"alive"


def test_unix_socket_is_private_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    made = Listener(Identity(), "127.0.0.1", 0, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made.close()
    assert not path.exists()


def test_unusable_places_to_listen(tmp_path: Path) -> None:
    precious = tmp_path / "file"
    precious.write_text("keep me")
    for host, path in (
        ("127.0.0.1", str(precious)),
        ("127.0.0.1", str(tmp_path / ("x" * 200))),
        ("203.0.113.1", ""),
    ):
        with pytest.raises(ListenFailed, match="cannot listen on"):
            Listener(Identity(), host, 0, path)
    assert precious.read_text() == "keep me"


@pytest.mark.parametrize(
    ("host", "port", "path"),
    [
        ("", 1, ""),
        ("example.org", 1, ""),
        ("127.0.0.1", 0, ""),
        ("127.0.0.1", 65536, ""),
        ("", 0, "x" * 101),
        ("", 0, "a\0b"),
    ],
)
def test_hostile_endpoints(host: str, port: int, path: str) -> None:
    with pytest.raises(EdgeMisuse):
        Endpoint(host, port, path)


def test_dialling_nobody_fails_at_the_deadline(tmp_path: Path) -> None:
    me = Identity()
    with pytest.raises(EdgeBroken, match="cannot connect"):
        dial(me, Endpoint(unix_path=str(tmp_path / "none")), bytes(32), b"", time.monotonic() + 0.1)
    with pytest.raises(EdgeMisuse):
        dial(me, Endpoint("127.0.0.1", 9), b"short", b"", soon())
    with pytest.raises(EdgeMisuse):
        dial(me, Endpoint("127.0.0.1", 9), bytes(32), bytes(5000), soon())


def test_ipv6(net: Net) -> None:
    try:
        made = Listener(net.server, "::1")
    except ListenFailed:
        pytest.skip("no IPv6 loopback here")
    dialling = in_thread(
        lambda: dial(
            net.client,
            Endpoint("::1", made.port),
            net.server.fingerprint,
            b"",
            time.monotonic() + PATIENCE,
        )
    )
    made.accept_from(net.client.fingerprint, lambda text: text, soon()).close()
    dialling().close()
    made.close()


def answering(net: Net, answer: bytes) -> Endpoint:
    """A port at which something else answers: it says `answer`, and hangs up."""
    server = net.stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def serve() -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            with sock:
                sock.sendall(answer)

    joined = in_thread(serve)
    net.stack.callback(joined)
    net.stack.callback(server.shutdown, socket.SHUT_RDWR)
    return Endpoint("127.0.0.1", server.getsockname()[1])


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_where_a_middlebox_answers_the_next_way_is_taken(net: Net, answer: bytes) -> None:
    accepting = net.accepting()
    ways = [answering(net, answer), net.endpoint]
    edge = dial(net.client, ways, net.server.fingerprint, b"hello", soon())
    net.stack.enter_context(edge)
    assert edge.peer_hello == b"re:hello"
    accepting()


def test_a_recall_ends_waits_and_no_handshake(net: Net) -> None:
    """Both ends are told in the middle of the handshake, and the edge forms all the same."""
    recall = Recall()

    def check(text: bytes) -> bytes:
        recall.give()
        return b"welcome"

    accepting = in_thread(
        lambda: net.stack.enter_context(
            net.listener.accept_from(net.client.fingerprint, check, soon(), recall=recall)
        )
    )
    edge = dial(net.client, net.endpoint, net.server.fingerprint, b"hello", soon(), recall=recall)
    assert net.stack.enter_context(edge).peer_hello == b"welcome"
    accepting()
    with pytest.raises(EdgeClosed, match="nobody wants"):
        net.listener.accept_from(net.client.fingerprint, check, soon(), recall=recall)
    nobody = Endpoint(unix_path=f"{net.listener.unix_path}.none")
    with pytest.raises(EdgeClosed, match="nobody wants"):
        dial(net.client, nobody, net.server.fingerprint, b"hello", soon(), recall=recall)


def test_a_recall_wakes_whoever_waits_for_a_neighbour(net: Net) -> None:
    recall = Recall()
    waiting = in_thread(
        lambda: net.listener.accept_from(
            net.client.fingerprint, lambda text: text, soon(), recall=recall
        )
    )
    with net.listener._changed:
        assert net.listener._changed.wait_for(lambda: net.listener._waiting, PATIENCE)
    recall.give()
    with pytest.raises(EdgeClosed, match="nobody wants"):
        waiting()
