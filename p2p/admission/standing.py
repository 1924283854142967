"""How much it cost a peer to be who it is. Identities are free, so whatever is scarce asks this.

    STRANGER   anybody
    PROVEN     was connected for `PROVEN_AFTER` seconds without an offence, within `REMEMBERED`
    STAKED     has money at stake, which only the chain can tell; the node says so

`Conduct` keeps the second, for networks without a chain. Sybils can earn it by waiting; that is why
places are guaranteed to strangers, too (`p2p.admission.places`).
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

    def connected(self, peer_id: str, now: float) -> None:
        """The peer's first connection is there."""
        self._since.setdefault(peer_id, now)

    def disconnected(self, peer_id: str, now: float) -> None:
        """The peer's last connection is gone; what it has proven is remembered for a while."""
        since = self._since.pop(peer_id, None)
        if since is not None and now - since >= PROVEN_AFTER:
            self._proven.pop(peer_id, None)
            self._proven[peer_id] = now
            if len(self._proven) > MAX_REMEMBERED:
                del self._proven[next(iter(self._proven))]

    def offended(self, peer_id: str, now: float) -> None:
        """It starts anew."""
        self._proven.pop(peer_id, None)
        if peer_id in self._since:
            self._since[peer_id] = now

    def standing(self, peer_id: str, now: float) -> Standing:
        """STRANGER or PROVEN."""
        since, left = self._since.get(peer_id), self._proven.get(peer_id)
        proven = (since is not None and now - since >= PROVEN_AFTER) or (
            left is not None and now - left < REMEMBERED
        )
        return Standing.PROVEN if proven else Standing.STRANGER
