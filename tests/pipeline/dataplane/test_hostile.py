"""Peers that break the rules: with the right key after the handshake, and without it before."""

from __future__ import annotations

import os
import socket
import ssl
import time
import tracemalloc

import pytest

from pipeline.dataplane import (
    EdgeBroken,
    EdgeLimits,
    EdgeRefused,
    EdgeTimeout,
    EdgeViolation,
    Endpoint,
    Identity,
    Timing,
    dial,
)
from pipeline.dataplane.frames import (
    FRAME_HEAD,
    Hello,
    Kind,
    encode_head,
    encode_hello,
    encode_preamble,
)

from .conftest import SMALL, Net, in_thread, read_exactly, shortly, soon

BRISK = Timing(heartbeat=0.05, dead_after=0.5, per_trip=0.0)


def ends(sock: socket.socket) -> bool:
    """Whether the other side hangs up (reads to the end of what it sent)."""
    try:
        while sock.recv(65536):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return True


# --- after an honest handshake ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" + bytes(64), "frame magic"),
        (FRAME_HEAD.pack(0x5044, 99, 0, 0, 0), "unknown frame kind 99"),
        (encode_head(Kind.DATA, 0, 1025, 0), "header of 1025"),
        (encode_head(Kind.DATA, 0, 0, (1 << 20) + 1), "payload of 1048577"),
        (encode_head(Kind.DATA, 0, 2**32 - 1, 2**64 - 1), "the limit is"),
        (encode_head(Kind.CREDIT, 1), "exceeds the window"),
        (encode_head(Kind.CREDIT, 0), "credit of 0"),
        (encode_head(Kind.BYE, 0, 10, 0), "with a body"),
        (encode_head(Kind.WELCOME), "WELCOME frame"),
    ],
)
def test_illegal_frames_break_the_edge(net: Net, attack: bytes, words: str) -> None:
    sock, edge = net.hostile()
    sock.sendall(attack)
    with pytest.raises(EdgeViolation, match=words):
        edge.recv(soon())
    with pytest.raises(EdgeViolation, match=words):
        edge.send(b"", None, soon())
    assert ends(sock)


def test_a_frame_without_credit_breaks_the_edge(net: Net) -> None:
    """Nothing is consumed here, so the window is all the peer may use."""
    sock, edge = net.hostile()
    sock.sendall(encode_head(Kind.DATA) * (SMALL.window + 1))
    assert ends(sock)
    for _ in range(SMALL.window):
        edge.recv(soon())
    with pytest.raises(EdgeViolation, match="without credit"):
        edge.recv(soon())


def test_huge_lengths_allot_nothing(net: Net) -> None:
    sock, edge = net.hostile()
    tracemalloc.start()
    sock.sendall(encode_head(Kind.DATA, 0, 0, 2**64 - 1))
    with pytest.raises(EdgeViolation):
        edge.recv(soon())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_random_bytes_never_do_more_than_break_the_edge(net: Net) -> None:
    for _ in range(5):
        sock, edge = net.hostile()
        sock.sendall(os.urandom(3000))
        with pytest.raises((EdgeViolation, EdgeBroken)):
            edge.recv(soon())
        edge.close()


@pytest.mark.parametrize(
    "sent",
    [b"", b"PD", encode_head(Kind.DATA, 0, 10, 0), encode_head(Kind.DATA, 0, 0, 9) + b"x"],
)
def test_a_stream_that_ends_without_bye_is_broken(net: Net, sent: bytes) -> None:
    sock, edge = net.hostile()
    sock.sendall(sent)
    socket.socket.shutdown(sock, socket.SHUT_WR)
    with pytest.raises(EdgeBroken, match="hung up"):
        edge.recv(soon())
    assert ends(sock)


def test_tampered_records_break_the_edge(net: Net) -> None:
    sock, edge = net.hostile()
    socket.socket.sendall(sock, b"\x17\x03\x03\x00\x20" + os.urandom(32))
    with pytest.raises(EdgeBroken, match="connection lost"):
        edge.recv(soon())


def test_a_silent_peer_is_noticed(net: Net) -> None:
    _, edge = net.hostile(timing=BRISK)
    with pytest.raises(EdgeBroken, match="silent"):
        edge.recv(soon())


def test_a_peer_that_trickles_half_a_record_is_silent(net: Net) -> None:
    """Bytes that never make a TLS record are not life."""
    sock, edge = net.hostile(timing=BRISK)
    receiving = in_thread(lambda: edge.recv(soon()))
    socket.socket.sendall(sock, b"\x17\x03\x03\x40\x00" + bytes(100))
    with pytest.raises(EdgeBroken, match="silent"):
        receiving()


def test_a_peer_that_does_not_read_stops_the_sender_at_its_deadline(net: Net) -> None:
    accepting = net.accepting(limits=SMALL)
    sock = net.tls(net.client, net.client)
    greedy = EdgeLimits(max_header=0, max_payload=1 << 30, window=255)
    sock.sendall(encode_hello(Kind.HELLO, Hello(greedy, b"")))
    edge = accepting()
    body = memoryview(bytes(64 << 20))  # more than the kernel's buffers hold
    with pytest.raises(EdgeBroken, match="could not be sent whole"):
        edge.send(b"", body, time.monotonic() + 0.5)


# --- the wrong key, before anything else ----------------------------------------------------------


def refused(net: Net, sock: socket.socket) -> bool:
    """The connection dies and the honest client still gets its edge."""
    assert ends(sock)
    return net.dialling().peer_hello == b"re:hello"


def test_a_copied_preamble_without_its_key_is_useless(net: Net) -> None:
    accepting = net.accepting()
    sock = net.tls(net.client, Identity())
    assert refused(net, sock)
    accepting()


def test_a_client_without_certificate_is_refused(net: Net) -> None:
    accepting = net.accepting()
    sock = net.tls(net.client, None)
    assert refused(net, sock)
    accepting()


def test_tls_1_2_is_refused(net: Net) -> None:
    accepting = net.accepting()
    sock = net.raw()
    sock.sendall(encode_preamble(net.client.certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    net.client.load_into(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(sock)
    assert net.dialling().peer_hello == b"re:hello"
    accepting()


@pytest.mark.parametrize(
    "opening",
    [
        encode_head(Kind.DATA, 0, 0, 1 << 40),
        encode_head(Kind.HELLO, 0, 2**32 - 1, 0),
        encode_head(Kind.HELLO, 0, 4, 0) + b"\0\1\0\0",
        encode_head(Kind.BYE),
        b"\0" * 16,
    ],
)
def test_illegal_openings_are_dropped_and_the_wait_goes_on(net: Net, opening: bytes) -> None:
    accepting = net.accepting()
    sock = net.tls(net.client, net.client)
    sock.sendall(opening)
    assert refused(net, sock)
    accepting()


def test_an_impostor_listener_is_found_out_before_hello(net: Net) -> None:
    """The pin is another certificate's: the dialler leaves without telling anything."""
    waiting = in_thread(
        lambda: net.listener.accept_from(net.client.fingerprint, lambda text: text, shortly())
    )
    with pytest.raises(EdgeViolation, match="not the one agreed on"):
        dial(net.client, net.endpoint, Identity().fingerprint, b"secret", soon())
    with pytest.raises(EdgeTimeout, match="hung up"):
        waiting()


def test_a_listener_that_speaks_tls_1_2_is_refused(net: Net) -> None:
    server = net.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    context = net.server.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def serve() -> None:
        sock, _ = server.accept()
        with sock:
            read_exactly(sock, len(encode_preamble(net.client.certificate)))
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(sock, server_side=True)

    serving = in_thread(serve)
    endpoint = Endpoint("127.0.0.1", server.getsockname()[1])
    with pytest.raises(EdgeViolation, match="handshake failed"):
        dial(net.client, endpoint, net.server.fingerprint, b"", soon())
    serving()


def test_refusals_carry_the_reason_and_are_tried_again_until_the_deadline(net: Net) -> None:
    seen: list[bytes] = []

    def check(text: bytes) -> bytes:
        seen.append(text)
        if len(seen) < 3:
            raise EdgeRefused(f"generation {len(seen)} is not mine")
        return b"welcome"

    accepting = in_thread(
        lambda: net.stack.enter_context(
            net.listener.accept_from(net.client.fingerprint, check, soon())
        )
    )
    assert net.dialling().peer_hello == b"welcome"
    assert seen == [b"hello"] * 3
    accepting()


def test_a_last_refusal_is_what_dial_raises(net: Net) -> None:
    def check(text: bytes) -> bytes:
        raise EdgeRefused("not today")

    waiting = in_thread(
        lambda: net.listener.accept_from(net.client.fingerprint, check, shortly() + 1)
    )
    with pytest.raises(EdgeRefused, match="not today"):
        dial(net.client, net.endpoint, net.server.fingerprint, b"", shortly())
    with pytest.raises(EdgeTimeout, match="not today"):
        waiting()
