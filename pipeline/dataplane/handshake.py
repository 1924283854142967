"""From a connected socket to an `Edge`: TLS, certificate pinning, and the exchange of hellos.

The dialler sends the preamble, completes TLS, checks the listener's fingerprint and sends HELLO.
The listener has read the preamble already (`listener`), completes TLS with that certificate as the
only root, compares bytes, reads HELLO and lets its user judge the text. It answers WELCOME with its
own limits and text, or REFUSE with a reason.

Every step runs under one deadline (time.monotonic seconds) and reads a bounded number of bytes. A
socket given to these functions is theirs: it ends in the Edge or closed. Both ends measure a round
trip on the way, from which follows how long the edge may be silent.
"""

from __future__ import annotations

import hmac
import socket
import time
from collections.abc import Callable

from pipeline.dataplane.channel import Channel, tune
from pipeline.dataplane.edge import Edge
from pipeline.dataplane.errors import EdgeBroken, EdgeRefused, EdgeViolation
from pipeline.dataplane.frames import (
    FRAME_HEAD,
    HELLO_HEAD,
    MAX_HELLO,
    EdgeLimits,
    Hello,
    Kind,
    decode_head,
    decode_hello,
    encode_hello,
    encode_preamble,
    encode_refusal,
)
from pipeline.dataplane.identity import Identity, fingerprint_of
from pipeline.dataplane.link import Timing

HelloCheck = Callable[[bytes], bytes]
"""Judges the dialler's hello text and returns the answer's text; raises EdgeRefused to refuse."""


def dialled(
    sock: socket.socket,
    identity: Identity,
    peer_fingerprint: bytes,
    hello: bytes,
    limits: EdgeLimits,
    timing: Timing,
    deadline: float,
) -> Edge:
    """The dialler's half. Raises EdgeViolation, EdgeRefused, EdgeBroken or EdgeTimeout."""
    try:
        tune(sock)
        sock.sendall(encode_preamble(identity.certificate))
    except OSError as exc:
        sock.close()
        raise EdgeBroken(f"connection lost: {exc}") from exc
    channel = Channel(sock, identity.client_context(), server=False)
    try:
        certificate = channel.handshake(deadline)
        if not hmac.compare_digest(fingerprint_of(certificate), peer_fingerprint):
            raise EdgeViolation("the listener's certificate is not the one agreed on")
        said = time.monotonic()
        channel.write_all(encode_hello(Kind.HELLO, Hello(limits, hello)), deadline)
        kind, body = _read_opening(channel, deadline)
        round_trip = time.monotonic() - said
        if kind is Kind.REFUSE:
            raise EdgeRefused(body.decode(errors="replace"))
        if kind is not Kind.WELCOME:
            raise EdgeViolation(f"{kind.name} frame instead of WELCOME")
        welcome = decode_hello(body)
    except BaseException:
        channel.close()
        raise
    return Edge(channel, limits, welcome, peer_fingerprint, timing.over(round_trip))


def accepted(
    sock: socket.socket,
    identity: Identity,
    peer_certificate: bytes,
    check: HelloCheck,
    limits: EdgeLimits,
    timing: Timing,
    deadline: float,
) -> Edge:
    """The listener's half, after the preamble. Raises as `dialled`; EdgeRefused if `check` did."""
    try:
        tune(sock)
        context = identity.server_context(peer_certificate)
    except (OSError, EdgeViolation) as exc:
        sock.close()
        raise EdgeBroken(f"connection unusable: {exc}") from exc
    channel = Channel(sock, context, server=True)
    try:
        began = time.monotonic()
        certificate = channel.handshake(deadline)
        round_trip = time.monotonic() - began  # the dialler has said its part of TLS already
        if not hmac.compare_digest(certificate, peer_certificate):
            raise EdgeViolation("the dialler's certificate is not the one in its preamble")
        kind, body = _read_opening(channel, deadline)
        if kind is not Kind.HELLO:
            raise EdgeViolation(f"{kind.name} frame instead of HELLO")
        hello = decode_hello(body)
        try:
            answer = check(hello.text)
        except EdgeRefused as refusal:
            channel.write_all(encode_refusal(refusal.reason), deadline)
            raise
        channel.write_all(encode_hello(Kind.WELCOME, Hello(limits, answer)), deadline)
    except BaseException:
        channel.close()
        raise
    expected = fingerprint_of(peer_certificate)
    return Edge(channel, limits, hello, expected, timing.over(round_trip))


def _read_opening(channel: Channel, deadline: float) -> tuple[Kind, bytes]:
    head = decode_head(channel.read_exactly(FRAME_HEAD.size, deadline))
    if head.payload_len or head.header_len > HELLO_HEAD.size + MAX_HELLO:
        raise EdgeViolation(
            f"opening frame of {head.header_len} + {head.payload_len} bytes; "
            f"at most {HELLO_HEAD.size + MAX_HELLO} + 0"
        )
    return head.kind, channel.read_exactly(head.header_len, deadline)
