"""How much it cost a peer to be who it is. Identities are free, so whatever is scarce asks this.

    STRANGER   anybody
    PROVEN     was connected for `PROVEN_AFTER` seconds without an offence, within `REMEMBERED`
    STAKED     has money at stake, which only the chain can tell, or business with this node: one of
               the node's own checks let it in by its id within `REMEMBERED` (a member of the pool,
               the orchestrator that it serves)

`Conduct` keeps the second and the business, for networks without a chain. Sybils can be proven by
waiting; that is why places are guaranteed to strangers, too (`p2p.admission.places`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

PROVEN_AFTER = 60.0
REMEMBERED = 3600.0
MAX_REMEMBERED = 1024


class Standing(IntEnum):
    """Ordered: whoever stands higher goes first."""

    STRANGER = 0
    PROVEN = 1
    STAKED = 2


Judge = Callable[[str], Standing]
"""How the peer with this id stands now."""


class Conduct:
    """Since when peers are connected, and who has proven itself. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._proven: dict[str, float] = {}
        self._vouched: dict[str, float] = {}

    def connected(self, peer_id: str, now: float) -> None:
        """The peer's first connection is there."""
        self._since.setdefault(peer_id, now)

    def disconnected(self, peer_id: str, now: float) -> None:
        """The peer's last connection is gone; what it has proven is remembered for a while."""
        since = self._since.pop(peer_id, None)
        if since is not None and now - since >= PROVEN_AFTER:
            _remember(self._proven, peer_id, now)

    def vouched_for(self, peer_id: str, now: float) -> None:
        """A check of the node's own let the peer in."""
        _remember(self._vouched, peer_id, now)

    def offended(self, peer_id: str, now: float) -> None:
        """It starts anew."""
        self._proven.pop(peer_id, None)
        self._vouched.pop(peer_id, None)
        if peer_id in self._since:
            self._since[peer_id] = now

    def standing(self, peer_id: str, now: float) -> Standing:
        """What is known here of the peer; the chain may know better."""
        vouched = self._vouched.get(peer_id)
        if vouched is not None and now - vouched < REMEMBERED:
            return Standing.STAKED
        since, left = self._since.get(peer_id), self._proven.get(peer_id)
        proven = (since is not None and now - since >= PROVEN_AFTER) or (
            left is not None and now - left < REMEMBERED
        )
        return Standing.PROVEN if proven else Standing.STRANGER


def _remember(known: dict[str, float], peer_id: str, now: float) -> None:
    """Note the time, as the newest of at most `MAX_REMEMBERED`."""
    known.pop(peer_id, None)
    known[peer_id] = now
    if len(known) > MAX_REMEMBERED:
        del known[next(iter(known))]
