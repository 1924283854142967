"""Which peers to dial next.

The network keeps itself connected without a server: every node dials the peers whose records it
knows until it has `target` connections, and goes on trying its bootstrap peers and remembered
addresses while it has too few. The decision is pure (`DialPlan.next`): state and time in, peer ids
out; `p2p.peering.upkeep` carries it out. Rules:

* Of two nodes that learn of one another, the one with the smaller peer id dials at once; the other
  waits `YIELD` seconds for it, so that the pair rarely dials twice.
* A failed peer is tried again after 1, 2, 4, … `MAX_BACKOFF` seconds. So is one whose connection
  did not last: a peer that has banned us lets us dial and then hangs up.
* `outbound` connections are of our own choice, however many peers have connected to us: those who
  come to us may all be one.
* The staked and the proven go first, then subnets in which fewer dials have failed in a row, then
  peers that failed less often, and among equals chance decides: records are free to make, and so is
  a place in any fixed order.
* At most `burst` dials are under way, of strangers of one subnet at most `per_subnet`: addresses
  that swallow a dial until it times out cannot take all places.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from p2p.admission.standing import Standing

YIELD = 2.0
MAX_BACKOFF = 60.0
STEADY = 10.0  # seconds after which a connection counts as one that has lasted
_DOUBLINGS = 16  # beyond every bound on a pause; failures themselves are counted without end


@dataclass(frozen=True)
class DialLimits:
    """How many connections to keep and how many dials to have under way; see the module."""

    target: int = 32
    outbound: int = 8
    burst: int = 16
    per_subnet: int = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer with a live record: the subnet that it names, and how it stands."""

    peer_id: str
    subnet: str = ""
    standing: Standing = Standing.STRANGER


@dataclass(slots=True)
class _Attempt:
    first_seen: float
    failures: int = 0
    not_before: float = 0.0
    up_at: float = -math.inf


@dataclass(slots=True)
class DialPlan:
    """Remembers attempts per peer; `own` is our peer id, `draw` gives numbers in 0..1 by chance.

    `wake` is when, in monotonic seconds, the next peer becomes due that was not at the last `next`.
    """

    own: str
    draw: Callable[[], float]
    limits: DialLimits = field(default_factory=DialLimits)
    wake: float = math.inf
    _attempts: dict[str, _Attempt] = field(default_factory=dict)
    _subnets: Counter[str] = field(default_factory=Counter)
    _dialling: dict[str, Candidate] = field(default_factory=dict)

    def next(
        self,
        known: Iterable[Candidate],
        connected: Iterable[str],
        now: float,
        *,
        always: Iterable[str],
        outbound: int = 0,
    ) -> tuple[str, ...]:
        """Peers to dial from `now` on (monotonic seconds); tell `failed` or `succeeded` of each.

        Args:
            known: peers with a live record.
            connected: peers with a live connection.
            always: peers that should be connected whatever the target (bootstrap), or as long as
                there is no other connection at all.
            outbound: how many of the connected we dialled.
        """
        up = {*connected, self.own}
        wanted = dict.fromkeys(p for p in always if p not in up)
        others = {c.peer_id: c for c in known if c.peer_id not in up and c.peer_id not in wanted}
        self._forget(wanted.keys() | others.keys(), up, {c.subnet for c in others.values()}, now)
        self.wake = math.inf
        due = [p for p in wanted if self._due(p, now, polite=False)][: self._room()]
        self._dialling |= {p: Candidate(p, standing=Standing.STAKED) for p in due}
        missing = max(self.limits.target - len(up) + 1, self.limits.outbound - outbound)
        missing -= sum(p in others for p in self._dialling)
        if missing > 0:
            due += self._choose(others, missing, now)
        return tuple(due)

    def _choose(self, others: dict[str, Candidate], missing: int, now: float) -> list[str]:
        ready = [c for c in others.values() if self._due(c.peer_id, now, polite=True)]
        ranked = [(self._rank(c), c.peer_id) for c in ready]
        heapq.heapify(ranked)
        busy = Counter(c.subnet for c in self._dialling.values())
        chosen: list[str] = []
        while ranked and len(chosen) < missing and self._room():
            peer_id = heapq.heappop(ranked)[1]
            candidate = others[peer_id]
            if (
                candidate.standing is Standing.STRANGER
                and busy[candidate.subnet] >= self.limits.per_subnet
            ):
                continue
            busy[candidate.subnet] += 1
            self._dialling[peer_id] = candidate
            chosen.append(peer_id)
        return chosen

    def _rank(self, candidate: Candidate) -> tuple[int, int, int, float]:
        attempt = self._attempts[candidate.peer_id]
        return (
            -candidate.standing,
            self._subnets[candidate.subnet] if candidate.standing is Standing.STRANGER else 0,
            attempt.failures,
            self.draw(),
        )

    def _room(self) -> int:
        return max(0, self.limits.burst - len(self._dialling))

    def _due(self, peer_id: str, now: float, *, polite: bool) -> bool:
        if peer_id in self._dialling:
            return False
        attempt = self._attempts.setdefault(peer_id, _Attempt(first_seen=now))
        yields = YIELD if polite and self.own > peer_id else 0.0
        at = max(attempt.not_before, attempt.first_seen + yields)
        if now < at:
            self.wake = min(self.wake, at)
        return now >= at

    def _pause(self, peer_id: str, now: float) -> _Attempt:
        attempt = self._attempts.setdefault(peer_id, _Attempt(first_seen=now))
        pause = 2.0 ** min(attempt.failures, _DOUBLINGS)
        attempt.failures += 1
        attempt.not_before = now + min(MAX_BACKOFF, pause)
        return attempt

    def failed(self, peer_id: str, now: float) -> None:
        """A dial failed; the next one waits twice as long."""
        self._pause(peer_id, now)
        dialled = self._dialling.pop(peer_id, None)
        if dialled is not None:
            self._subnets[dialled.subnet] += 1

    def succeeded(self, peer_id: str, now: float) -> None:
        """A dial succeeded; failures of the peer are forgotten once it has lasted."""
        self._pause(peer_id, now).up_at = now
        dialled = self._dialling.pop(peer_id, None)
        if dialled is not None:
            self._subnets.pop(dialled.subnet, None)

    def _forget(self, peers: set[str], up: set[str], subnets: set[str], now: float) -> None:
        for peer_id, attempt in list(self._attempts.items()):
            if peer_id not in peers and (peer_id not in up or now - attempt.up_at >= STEADY):
                del self._attempts[peer_id]
        for name in [s for s in self._subnets if s not in subnets]:
            del self._subnets[name]
