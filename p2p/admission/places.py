"""A bounded number of places that no crowd of free identities can hold against others.

A newcomer always gets a place. When all are taken somebody leaves for it:

1. of the lowest standing that holds more places than it is guaranteed,
2. from the most crowded source there, level by level (a subnet, then what it says of itself),
3. the one that came first.

So a thousand identities from one subnet displace one another; those from elsewhere stay. Standing
decides before that, but only above the guarantees: Sybils that have waited until they are proven,
and even a chain full of staked nodes, leave room for newcomers. Within one source the oldest
leaves, so that a newcomer has as long as it takes to fill all places of its source anew.

Whoever would have to leave is judged again first, and stays if it stands higher by now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from p2p.admission.standing import Standing

K = TypeVar("K")
Source = tuple[str, ...]


@dataclass(frozen=True)
class Shares:
    """How many places there are, and how many of them each standing is guaranteed.

    Raises:
        ValueError: a guarantee is below 1, or they exceed the limit together.
    """

    limit: int
    strangers: int
    proven: int
    staked: int

    def __post_init__(self) -> None:
        if min(self.strangers, self.proven, self.staked) < 1 or self.limit < sum(
            (self.strangers, self.proven, self.staked)
        ):
            raise ValueError("guarantees are at least 1 and fit the limit together")

    @property
    def guaranteed(self) -> Mapping[Standing, int]:
        """By standing."""
        return {
            Standing.STRANGER: self.strangers,
            Standing.PROVEN: self.proven,
            Standing.STAKED: self.staked,
        }


def for_anybody(limit: int) -> Shares:
    """For places whose holders have not said who they are yet."""
    return Shares(limit, strangers=limit - 2, proven=1, staked=1)


def quarters(limit: int) -> Shares:
    """A quarter each for strangers and the proven, half for the staked; at least one each."""
    part = max(1, limit // 4)
    return Shares(max(limit, 3), strangers=part, proven=part, staked=max(1, limit - 2 * part))


@dataclass(slots=True)
class _Crowd(Generic[K]):
    """Keys by source: `inner` by the next part of the source, `keys` where it ends."""

    size: int = 0
    inner: dict[str, _Crowd[K]] = field(default_factory=dict)
    keys: dict[K, None] = field(default_factory=dict)

    def add(self, key: K, source: Source) -> None:
        self.size += 1
        if source:
            self.inner.setdefault(source[0], _Crowd()).add(key, source[1:])
        else:
            self.keys[key] = None

    def remove(self, key: K, source: Source) -> None:
        self.size -= 1
        if not source:
            del self.keys[key]
            return
        inner = self.inner[source[0]]
        inner.remove(key, source[1:])
        if not inner.size:
            del self.inner[source[0]]

    def first_of_most(self) -> K:
        """The oldest key of the most crowded source; among equals of the source known longest."""
        if self.keys and (not self.inner or len(self.keys) >= max(c.size for c in self._inner())):
            return next(iter(self.keys))
        return max(self._inner(), key=lambda crowd: crowd.size).first_of_most()

    def _inner(self) -> Iterator[_Crowd[K]]:
        return iter(self.inner.values())


class Places(Generic[K]):
    """The places of one kind; `judge` says how a key stands now."""

    def __init__(self, shares: Shares, judge: Callable[[K], Standing]) -> None:
        self._limit = shares.limit
        self._guaranteed = shares.guaranteed
        self._judge = judge
        self._where: dict[K, tuple[Standing, Source]] = {}
        self._crowds: dict[Standing, _Crowd[K]] = {s: _Crowd() for s in Standing}

    def enter(self, key: K, source: Source) -> K | None:
        """Give `key` a place, as the newest of its source; one that has a place gets a new one.

        Returns:
            who has to leave for it, None while there is room.
        """
        self.leave(key)
        self._put(key, self._judge(key), source)
        if len(self._where) <= self._limit:
            return None
        leaves = self._who_leaves()
        self.leave(leaves)
        return leaves

    def leave(self, key: K) -> None:
        """The place is free again; nothing to do for a key without one."""
        known = self._where.pop(key, None)
        if known is not None:
            self._crowds[known[0]].remove(key, known[1])

    def _put(self, key: K, standing: Standing, source: Source) -> None:
        self._where[key] = (standing, source)
        self._crowds[standing].add(key, source)

    def _who_leaves(self) -> K:
        while True:
            lowest = next(s for s in Standing if self._crowds[s].size > self._guaranteed[s])
            key = self._crowds[lowest].first_of_most()
            standing = self._judge(key)
            if standing <= lowest:
                return key
            source = self._where[key][1]
            self.leave(key)
            self._put(key, standing, source)

    def __contains__(self, key: object) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)

    def __iter__(self) -> Iterator[K]:
        return iter(self._where)
