"""Pairs of workers between whom no connection comes up: planned apart after `builds` failed builds.

That two machines do not reach one another is often nobody's fault (a firewall, a NAT, a broken
route), and it may pass. So this is kept apart from blame (`blame.py`): a pair is a fact about the
network, forgotten after `forget` seconds. A pair that fails again when it is next together is
known: one failed build is enough then, and it is forgotten twice as late each time. A build in
which the two were neighbours and that came up clears the pair.

Pure: time is an argument. In memory only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Pair = frozenset[str]
MOST_PAIRS = 4096
"""Pairs that are remembered; the one that failed longest ago is forgotten."""


@dataclass(frozen=True)
class ApartTerms:
    """Builds that a pair may fail before it is planned apart, and seconds after which it may be
    together again, at most `longest`."""

    builds: int = 2
    forget: float = 900.0
    longest: float = 4 * 3600.0


@dataclass
class _Failed:
    builds: int
    at: float
    reason: str
    times: int = 0


class Unconnected:
    """The pairs of one pool, by peer id."""

    def __init__(self, terms: ApartTerms | None = None) -> None:
        self._terms = terms or ApartTerms()
        self._pairs: dict[Pair, _Failed] = {}

    def note(self, pair: Sequence[str], reason: str, now: float) -> None:
        """A build failed because these two did not connect; anything but two workers is ignored."""
        key = frozenset(pair)
        if len(key) != 2:
            return
        failed = self._pairs.pop(key, None) or _Failed(0, now, reason)
        if failed.builds and now - failed.at >= self._lasts(failed):
            separated = failed.builds >= self._terms.builds
            failed.builds = self._terms.builds - 1 if separated else 0
            failed.times += separated
        failed.builds += 1
        failed.at, failed.reason = now, reason
        self._pairs[key] = failed
        if len(self._pairs) > MOST_PAIRS:
            del self._pairs[next(iter(self._pairs))]

    def connected(self, ring: Sequence[str]) -> None:
        """A ring of these workers, in this order, is up."""
        for pair in _edges(ring):
            self._pairs.pop(pair, None)

    def within(self, ring: Sequence[str], now: float) -> tuple[str, str] | None:
        """Two neighbours of such a ring that are to be apart, in the order of the ring; None where
        there are none."""
        for index, pair in enumerate(_edges(ring)):
            failed = self._pairs.get(pair)
            if failed is None or failed.builds < self._terms.builds:
                continue
            if now - failed.at < self._lasts(failed):
                return ring[index], ring[(index + 1) % len(ring)]
        return None

    def reason(self, pair: Sequence[str]) -> str:
        """Why these two did not connect the last time."""
        failed = self._pairs.get(frozenset(pair))
        return "" if failed is None else failed.reason

    def _lasts(self, failed: _Failed) -> float:
        return min(self._terms.forget * 2.0 ** min(failed.times, 16), self._terms.longest)


def _edges(ring: Sequence[str]) -> list[Pair]:
    """Of a ring, the edge from each stage to the next; a lone stage has none."""
    if len(ring) < 2:
        return []
    return [frozenset((peer, ring[(i + 1) % len(ring)])) for i, peer in enumerate(ring)]
