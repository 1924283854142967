"""Which peers to dial next.

The network keeps itself connected without a server: every node dials the peers whose records it
knows until it has `TARGET` connections, and goes on trying its bootstrap peers and remembered
addresses while it has too few. The decision is pure (`DialPlan.next`): state and time in, peer ids
out; `p2p.peering.upkeep` carries it out. Rules:

* Of two nodes that learn of one another, the one with the smaller peer id dials at once; the other
  waits `YIELD` seconds for it, so that the pair rarely dials twice.
* A failed peer is tried again after 1, 2, 4, … `MAX_BACKOFF` seconds.
* At most `BURST` dials start in one round.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

TARGET = 32
YIELD = 2.0
MAX_BACKOFF = 60.0
BURST = 8
ROUND = 2.0  # seconds between rounds when nothing changes


@dataclass(slots=True)
class _Attempt:
    first_seen: float
    failures: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class DialPlan:
    """Remembers attempts per peer; `own` is our peer id."""

    own: str
    target: int = TARGET
    _attempts: dict[str, _Attempt] = field(default_factory=dict)

    def next(
        self, known: Iterable[str], connected: Iterable[str], now: float, *, always: Iterable[str]
    ) -> tuple[str, ...]:
        """Peers to dial at `now` (monotonic seconds), at most `BURST`, in order of peer id.

        Args:
            known: peers with a live record.
            connected: peers with a live connection.
            always: peers that should be connected whatever the target (bootstrap), or as long as
                there is no other connection at all.
        """
        up = set(connected)
        missing = max(0, self.target - len(up))
        wanted = [p for p in sorted(set(always) - up) if p != self.own]
        others = [p for p in sorted(set(known) - up - set(wanted)) if p != self.own]
        self._forget({*wanted, *others})
        due = [p for p in wanted if self._due(p, now, polite=False)]
        due += [p for p in others if self._due(p, now, polite=True)][:missing]
        return tuple(due[:BURST])

    def _due(self, peer_id: str, now: float, *, polite: bool) -> bool:
        attempt = self._attempts.setdefault(peer_id, _Attempt(first_seen=now))
        if now < attempt.not_before:
            return False
        yields = polite and self.own > peer_id
        return not yields or now - attempt.first_seen >= YIELD

    def failed(self, peer_id: str, now: float) -> None:
        """A dial failed; the next one waits twice as long."""
        attempt = self._attempts.setdefault(peer_id, _Attempt(first_seen=now))
        attempt.failures += 1
        attempt.not_before = now + min(MAX_BACKOFF, 2.0 ** (attempt.failures - 1))

    def succeeded(self, peer_id: str) -> None:
        """A dial succeeded; the peer's failures are forgotten."""
        self._attempts.pop(peer_id, None)

    def _forget(self, current: set[str]) -> None:
        for peer_id in [p for p in self._attempts if p not in current]:
            del self._attempts[peer_id]
