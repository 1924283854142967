"""What the clocks of others say of ours.

A record tells when it was signed, so one that comes straight from its author tells how far apart
two clocks are. Beyond the table's bound two nodes ignore each other's records and see nothing of
each other, so it must be said, on both sides, and by whoever is alone with its time.

Pure. Anybody can sign records with any time: only those are heard who stand highest among the
connected (`p2p.admission.standing`), and the majority of them decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from p2p.admission.standing import Judge

MAX_HEARD = 1024
MAX_SAID = 16
"""Differing peers that are named one by one."""


class Clocks:
    """How far the clocks of peers are ahead of ours, in seconds; 0 where they are near enough."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._ahead: dict[str, float] = {}

    def heard(self, peer_id: str, ahead: float) -> bool:
        """Note a peer's clock; returns whether it is news worth a line that it differs."""
        before = self._ahead.pop(peer_id, 0.0)
        self._ahead[peer_id] = ahead
        if len(self._ahead) > MAX_HEARD:
            del self._ahead[next(iter(self._ahead))]
        differing = sum(1 for value in self._ahead.values() if value)
        return bool(ahead) and not before and differing <= MAX_SAID

    def trouble(self, connected: Iterable[str]) -> str:
        """Why our own clock seems wrong; "" where most of those who count agree with it."""
        known = {peer_id: self._ahead[peer_id] for peer_id in connected if peer_id in self._ahead}
        standing = {peer_id: self._judge(peer_id) for peer_id in known}
        best = max(standing.values(), default=None)
        voices = [ahead for peer_id, ahead in known.items() if standing[peer_id] is best]
        differing = [ahead for ahead in voices if ahead]
        if 2 * len(differing) <= len(voices):
            return ""
        return (
            f"the clocks of {len(differing)} of {len(voices)} peers are "
            f"{apart(median(differing))} this node's, so they do not see it; set the clock: "
            "timedatectl set-ntp true"
        )


def apart(ahead: float) -> str:
    """`ahead` seconds in words: "10 minutes ahead of", "2 days behind"."""
    seconds = abs(ahead)
    units = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))
    unit, length = next(one for one in units if seconds >= 1.5 * one[1] or one[1] == 1)
    return f"{seconds / length:.0f} {unit} {'ahead of' if ahead > 0 else 'behind'}"
