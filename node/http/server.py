"""Serving the app: hypercorn under trio, on a socket that we open ourselves.

We bind the socket first, so that a taken port is one clear error before anything starts, and port 0
can be reported as the real one. The socket then goes to hypercorn by file descriptor.

`serve_http` is for `nursery.start`: it calls `task_status.started(port)` once it listens and runs
until cancelled; the listener and every connection are closed on the way out.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from contextlib import suppress

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette

from node.errors import InputError, ResourceError, system_error

BACKLOG = 128
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
GRACE_SECONDS = 1.0


def own_url(host: str, port: int) -> str:
    """Where programs on this machine reach a server that is bound to `host`, which may be a
    wildcard, and an IPv6 address with or without brackets."""
    host = host.strip("[]")
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = _LOOPBACK[address.version]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def open_listener(host: str, port: int) -> socket.socket:
    """A bound TCP socket. Raises `ResourceError` for a taken port or where the system lacks the
    family of addresses, `InputError` for a bad host."""
    host = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or "not a host name"
        raise InputError(f"--http-host {host}: {reason}", "like 127.0.0.1 or ::1") from exc
    try:
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise system_error(f"--http-host {host}", "", exc) from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise ResourceError(
                f"HTTP port {port} on {host} is in use", "choose another: --http-port, 0 for any"
            ) from exc
        raise ResourceError(
            f"cannot listen for HTTP on {host} port {port}: {exc.strerror}",
            "check --http-host and --http-port",
        ) from exc
    return listener


async def serve_http(
    app: Starlette,
    host: str,
    port: int,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `started(real port)`. Raises as `open_listener`."""
    listener = open_listener(host, port)
    real_port = int(listener.getsockname()[1])
    descriptor = listener.detach()
    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.include_server_header = False
    config.graceful_timeout = GRACE_SECONDS
    config.keep_alive_timeout = 30.0
    config.read_timeout = 60
    config.backlog = BACKLOG
    config.h11_max_incomplete_size = 16 * 1024
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda *, task_status: serve(app, config, task_status=task_status))
        # hypercorn makes its sockets inheritable for its own worker processes; we have none, and
        # an engine process must not keep our port open.
        os.set_inheritable(descriptor, False)
        task_status.started(real_port)
