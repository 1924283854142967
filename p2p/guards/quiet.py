"""Keeps py-libp2p off the terminal.

The library logs routine events (a peer went away) as warnings and errors, partly through the root
logger: `logging.debug(...)` on an unconfigured root installs a handler on stderr for the whole
process. Its records go to the logger ``libp2p`` here, which is silent unless LIBP2P_DEBUG is set or
the application has given that logger a level of its own.
"""

from __future__ import annotations

import logging
import os

import libp2p.network.connection.swarm_connection as swarm_connection


def quiet_libp2p() -> None:
    """Idempotent; called before a host starts."""
    # The module calls functions of `logging` that exist with equal signatures on a logger.
    swarm_connection.logging = logging.getLogger("libp2p.network.connection")
    library = logging.getLogger("libp2p")
    if not library.handlers:
        library.addHandler(logging.NullHandler())
    if library.level == logging.NOTSET and not os.environ.get("LIBP2P_DEBUG"):
        library.propagate = False
        library.setLevel(logging.CRITICAL)
    logging.getLogger("multiaddr").setLevel(logging.CRITICAL)
