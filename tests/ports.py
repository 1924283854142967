"""Ports for processes that are told where to listen, some of them more than once."""

from __future__ import annotations

import os
import random
import socket
from itertools import count

FIRST = 20_000
EACH = 1_000
MOST_PROCESSES = 12
"""All of it lies below the ports that systems give to outgoing connections: a node that is killed
finds its port free when it comes back, however many connections others have opened meanwhile."""

_offsets = count(random.randrange(EACH))


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing uses, from a range of this test process alone."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST + worker % MOST_PROCESSES * EACH
    for _ in range(EACH):
        port = first + next(_offsets) % EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port is free from {first} to {first + EACH - 1}")
