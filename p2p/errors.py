"""Every error that `p2p` raises, under one base class (`StreamBroken`, which is one of trio's
errors too, stands beside the streams that raise it).

The type says who is at fault and what the caller may do: `PeerUnreachable` and `RequestTimeout`
may be retried elsewhere, `RemoteRefused` is the peer's considered answer, `ProtocolViolation`
means the peer broke the rules (its score pays), and `ConfigError` is ours to fix.
"""

from __future__ import annotations


class P2PError(Exception):
    """Base of all errors of this package."""


class ConfigError(P2PError):
    """A setting or argument of our own is wrong; the message names it."""


class ListenFailed(P2PError):
    """No listening socket could be opened on a configured address."""


class BootstrapFailed(P2PError):
    """No bootstrap peer answered; the message names each address and its cause."""


class NetworkClosed(P2PError):
    """The network is shutting down, so the operation cannot be carried out."""


class PeerUnreachable(P2PError):
    """The peer could not be connected, or the connection broke before an answer came."""


class PeerBanned(PeerUnreachable):
    """The peer's score is below the ban threshold; it is neither dialled nor answered."""


class RequestTooLarge(P2PError):
    """A request of our own is over what its protocol takes; it was not sent, and never can be."""


class RequestTimeout(P2PError):
    """The deadline passed before the answer was complete."""


class RemoteRefused(P2PError):
    """The peer answered with a typed error.

    `code` is a short machine-readable word (``unsupported_protocol``, ``busy``, ``internal``, or
    whatever the serving handler chose), `message` is for people and never trusted.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the peer refused the request ({code}): {message}")
        self.code = code
        self.message = message


class ProtocolViolation(P2PError):
    """The peer sent bytes that break the protocol (size, type or form)."""


class InvalidRecord(P2PError):
    """A node record is malformed, mis-signed or outside its bounds."""


class InvalidPeerId(P2PError):
    """Text that should be a secp256k1 peer id is not one."""


class Refused(Exception):
    """Raised by a request handler to answer the caller with a typed error.

    It deliberately is no `P2PError`: a handler that forwards a failed request of its own must not
    turn it into an answer by accident.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class BudgetUsedUp(Refused):
    """A budget leaves no room for what a peer asks; asking again later may succeed.

    `resource` is what there is too little of, `scope` who has used it up (one of "your peer id",
    "your subnet", "this node"), `limit` how much that may be. The code is ``busy``. It says nothing
    against the peer, since others may have used it up.
    """

    def __init__(self, resource: str, scope: str, limit: float) -> None:
        super().__init__(
            "busy", f"{resource} of {scope} are used up (limit {limit:g}); ask again later"
        )
        self.resource = resource
        self.scope = scope
        self.limit = limit
