"""What is spent and forgotten with time: CPU seconds. Pure, time is an argument.

Work is measured when it is done, so it is charged afterwards and may exceed a limit; whoever is
above one gets nothing more until enough is forgotten. Each meter is a bucket that leaks half of
what is in it in `half_life` seconds, so that a limit L lets somebody use L / (1.44 half-lives) of
a core for good, or L at once.

As in `p2p.admission.holdings` a peer spends first what it keeps for itself. What it spends beyond
its own limit counts for itself alone: one peer whose last piece of work was huge does not use up
what its subnet and the node have for others.
"""

from __future__ import annotations

import math

from p2p.admission.shares import Asker, Limits
from p2p.errors import BudgetUsedUp

MAX_PEERS = 4096
_NOTHING = 0.001  # of a limit: less is forgotten altogether


class _Meters:
    """Meters by key, the one charged last at the end; at most `MAX_PEERS`."""

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._levels: dict[str, tuple[float, float]] = {}

    def level(self, key: str, now: float) -> float:
        known = self._levels.get(key)
        if known is None:
            return 0.0
        return known[0] * math.exp2(-max(0.0, now - known[1]) / self._half_life)

    def add(self, key: str, amount: float, now: float) -> None:
        level = self.level(key, now) + amount
        self._levels.pop(key, None)
        self._levels[key] = (level, now)
        if len(self._levels) > MAX_PEERS:
            del self._levels[next(iter(self._levels))]

    def forget(self, below: float, now: float) -> None:
        for key in [k for k in self._levels if self.level(k, now) < below]:
            del self._levels[key]

    def __contains__(self, key: str) -> bool:
        return key in self._levels

    def __len__(self) -> int:
        return len(self._levels)


class Spending:
    """One resource of the node.

    Args:
        resource: what it is called in a refusal, in the plural.
        half_life: seconds after which half of what was spent is forgotten.
    """

    def __init__(self, resource: str, limits: Limits, half_life: float) -> None:
        self.resource = resource
        self.limits = limits
        self._half_life = half_life
        self._kept = _Meters(half_life)
        self._shared = _Meters(half_life)
        self._counted = _Meters(half_life)
        self._sources = _Meters(half_life)
        self._node = _Meters(half_life)
        self._swept = -math.inf

    def charge(self, who: Asker, amount: float, now: float) -> None:
        """`who` caused this much of it."""
        own = min(amount, self._room(who.peer_id, now))
        if own > 0:
            self._kept.add(who.peer_id, own, now)
        rest = amount - max(0.0, own)
        if rest <= 0:
            return
        share = self.limits.of(who.standing)
        counted = min(rest, max(0.0, share.peer - self._counted.level(who.peer_id, now)))
        self._shared.add(who.peer_id, rest, now)
        self._counted.add(who.peer_id, counted, now)
        self._node.add("", counted, now)
        if share.source != math.inf:
            self._sources.add(who.source, counted, now)

    def require(self, who: Asker, now: float) -> None:
        """Raise `BudgetUsedUp` where `who` has to wait before it may cause more."""
        if self._is_within_its_own(who, now):
            return
        for scope, level, limit in self._levels(who, now):
            if level >= limit:
                raise BudgetUsedUp(self.resource, scope, limit)

    def wait(self, who: Asker, now: float, slack: float = 1.0) -> float:
        """Seconds until `who` may go on, 0 where it may at once.

        Args:
            slack: times the limits of peer, subnet and node.
        """
        if self._is_within_its_own(who, now):
            return 0.0
        over = max(level / (slack * limit) for _, level, limit in self._levels(who, now))
        return self._half_life * math.log2(over) if over > 1 else 0.0

    def _is_within_its_own(self, who: Asker, now: float) -> bool:
        """Whether all that a peer has spent is well below what it keeps for itself. Half of that
        has to be there: a peer that came back as soon as anything is would never be stopped."""
        half = self.limits.kept / 2
        return self.level(who.peer_id, now) <= half and self._room(who.peer_id, now) >= half

    def level(self, peer_id: str, now: float) -> float:
        """What a peer has spent and is not forgotten."""
        return self._kept.level(peer_id, now) + self._shared.level(peer_id, now)

    def total(self, now: float) -> float:
        """What all peers have spent within their limits, beyond what they keep for themselves."""
        return self._node.level("", now)

    def _levels(self, who: Asker, now: float) -> tuple[tuple[str, float, float], ...]:
        share = self.limits.of(who.standing)
        return (
            ("your peer id", self.level(who.peer_id, now), share.peer),
            ("your subnet", self._sources.level(who.source, now), share.source),
            ("this node", self._node.level("", now), share.node),
        )

    def _room(self, peer_id: str, now: float) -> float:
        """What is left of what the peer keeps for itself; nothing while others hold all of it."""
        if peer_id not in self._kept and len(self._kept) >= self.limits.holders:
            if now - self._swept >= 1.0:
                self._swept = now
                self._kept.forget(_NOTHING * self.limits.kept, now)
            if len(self._kept) >= self.limits.holders:
                return 0.0
        return self.limits.kept - self._kept.level(peer_id, now)
