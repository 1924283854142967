"""What can go wrong on a data-plane edge, named by who is at fault.

`EdgeClosed` is nobody's fault, `EdgeBroken` is the network's (or a crash's), `EdgeViolation` and
`EdgeRefused` are the peer's, `EdgeTimeout` says that the caller's own deadline passed and that the
edge may still be good, `EdgeMisuse` and `ListenFailed` are ours.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Base of every data-plane error. `reason` is one line for a log or an `edge_down` event."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EdgeClosed(EdgeError):
    """This side or the peer closed the edge in good order."""


class EdgeBroken(EdgeError):
    """The connection was lost, fell silent, or could not be made."""


class EdgeViolation(EdgeError):
    """The peer broke the protocol: wrong certificate, illegal frame, limit or credit overrun."""


class EdgeRefused(EdgeError):
    """The peer is who it should be and answered no; `reason` is its own text."""


class EdgeTimeout(EdgeError):
    """The deadline passed with nothing half done: an existing edge stays usable."""


class EdgeMisuse(EdgeError):
    """A call that can never succeed: a frame over the peer's limits, a malformed address."""


class ListenFailed(EdgeError):
    """The listener could not bind its TCP port or Unix socket."""
