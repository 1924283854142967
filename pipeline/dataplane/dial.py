"""Dialling a stage's downstream neighbour.

The two ends of an edge are told of one another at about the same time, so the listener may not yet
expect the dialler, may still wait for an older generation of the group, or may not be up at all.
Until the deadline the dialler therefore tries again after a short, growing delay, by every way that
there is to the neighbour (`ways`).
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.dataplane.edge import Edge
from pipeline.dataplane.errors import (
    EdgeBroken,
    EdgeClosed,
    EdgeMisuse,
    EdgeRefused,
    EdgeTimeout,
    EdgeViolation,
)
from pipeline.dataplane.frames import MAX_HELLO, EdgeLimits
from pipeline.dataplane.handshake import dialled
from pipeline.dataplane.identity import FINGERPRINT_SIZE, Identity
from pipeline.dataplane.link import Timing
from pipeline.dataplane.recall import Recall
from pipeline.dataplane.ways import DialTiming, Ways


@dataclass(frozen=True)
class Endpoint:
    """Where a listener is: a Unix socket path if not empty, else an IP address and port.

    Names are refused: a resolver has no deadline, and these come from other nodes. Raises
    EdgeMisuse.
    """

    host: str = ""
    port: int = 0
    unix_path: str = ""

    def __post_init__(self) -> None:
        if self.unix_path:
            if len(self.unix_path.encode()) > 100 or "\0" in self.unix_path:
                raise EdgeMisuse("Unix socket path over 100 bytes or with a NUL: choose another")
            return
        try:
            ipaddress.ip_address(self.host)
        except ValueError as exc:
            raise EdgeMisuse(f"{self.host[:80]!r} is no IP address") from exc
        if not 0 < self.port < 65536:
            raise EdgeMisuse(f"port {self.port} is out of range 1 to 65535")


def dial(
    identity: Identity,
    endpoints: Endpoint | Sequence[Endpoint],
    peer_fingerprint: bytes,
    hello: bytes,
    deadline: float,
    *,
    limits: EdgeLimits | None = None,
    timing: Timing | None = None,
    trying: DialTiming | None = None,
    recall: Recall | None = None,
) -> Edge:
    """Connect to the listener whose certificate hashes to `peer_fingerprint` (32 bytes).

    `endpoints` are the ways to it, the best first. `hello` (at most 4 KiB) is judged by the
    listener's `HelloCheck`; `limits` are what this side accepts. Blocks until `deadline`
    (time.monotonic seconds) at most, then raises what the last attempt met: EdgeBroken, EdgeRefused
    or EdgeTimeout. Raises EdgeViolation once every way has led to somebody else, EdgeClosed between
    two attempts once `recall` is given, EdgeMisuse for arguments that can never work.
    """
    there = (endpoints,) if isinstance(endpoints, Endpoint) else tuple(endpoints)
    if len(peer_fingerprint) != FINGERPRINT_SIZE:
        raise EdgeMisuse(f"fingerprint of {len(peer_fingerprint)} bytes; expected 32")
    if len(hello) > MAX_HELLO:
        raise EdgeMisuse(f"hello text of {len(hello)} bytes; at most {MAX_HELLO}")
    if not there:
        raise EdgeMisuse("no way to the listener is known")
    wanted = recall or Recall()
    ways = Ways(len(there), deadline, trying or DialTiming())
    while True:
        way, until = ways.next(time.monotonic())
        try:
            return dialled(
                _connect(there[way], until),
                identity,
                peer_fingerprint,
                hello,
                limits or EdgeLimits(),
                timing or Timing(),
                until,
            )
        except (EdgeBroken, EdgeRefused, EdgeTimeout, EdgeViolation) as error:
            pause = ways.failed(error, time.monotonic())
        if wanted.wait(pause):
            raise EdgeClosed("nobody wants this edge any more")


def _connect(endpoint: Endpoint, deadline: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    address: str | tuple[str, int] = (endpoint.host, endpoint.port)
    name = f"{endpoint.host}:{endpoint.port}"
    if endpoint.unix_path:
        family, address, name = socket.AF_UNIX, endpoint.unix_path, endpoint.unix_path
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        sock.connect(address)
    except TimeoutError as exc:
        sock.close()
        raise EdgeTimeout(f"connecting to {name} took too long") from exc
    except OSError as exc:
        sock.close()
        raise EdgeBroken(f"cannot connect to {name}: {exc.strerror or exc}") from exc
    return sock
