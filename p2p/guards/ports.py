"""Refuses to listen on a port that somebody else uses.

The library opens its listening sockets with SO_REUSEPORT, so that two nodes configured with one
port both start, and the kernel deals connections to either at random. A bind without that option
fails when anybody listens there.
"""

from __future__ import annotations

import socket

from multiaddr import Multiaddr
from multiaddr.exceptions import ProtocolLookupError

from p2p.errors import ConfigError, ListenFailed


def require_free_port(address: Multiaddr) -> None:
    """Check a ``/ip4|ip6/.../tcp/<port>`` listening address; port 0 is always free.

    Raises:
        ConfigError: the address is not of that form.
        ListenFailed: the port is in use or the address is not ours.
    """
    try:
        port = int(address.value_for_protocol("tcp"))
        version, host = next(
            (name, address.value_for_protocol(name))
            for name in ("ip4", "ip6")
            if name in {p.name for p in address.protocols()}
        )
    except (ProtocolLookupError, StopIteration, ValueError) as exc:
        raise ConfigError(f"cannot listen on {address}: use /ip4/<address>/tcp/<port>") from exc
    family = socket.AF_INET if version == "ip4" else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise ListenFailed(f"cannot listen on {address}: {exc.strerror}") from exc
