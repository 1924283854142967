"""Peers by the subnet that they come from, and which subnet has most of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator


class Crowd:
    """Peer ids by subnet, each subnet's in the order in which they came."""

    def __init__(self) -> None:
        self._by_subnet: dict[str, dict[str, None]] = {}
        self.size = 0

    def add(self, peer_id: str, subnet: str) -> None:
        """As the newest of its subnet; it must not be in here."""
        self._by_subnet.setdefault(subnet, {})[peer_id] = None
        self.size += 1

    def remove(self, peer_id: str, subnet: str) -> None:
        """Take out a peer that is in here."""
        peers = self._by_subnet[subnet]
        del peers[peer_id]
        self.size -= 1
        if not peers:
            del self._by_subnet[subnet]

    def count(self, subnet: str) -> int:
        """How many come from there."""
        return len(self._by_subnet.get(subnet, ()))

    def subnets(self, most: int, draw: Callable[[], float]) -> list[str]:
        """Subnets that somebody comes from, at most so many by chance; `draw` gives numbers in
        [0, 1)."""
        found = list(self._by_subnet)
        if len(found) > most:
            start = int(draw() * len(found))
            found = (found[start:] + found[:start])[:most]
        return found

    def any_of(self, subnet: str, draw: Callable[[], float]) -> str:
        """One of those that come from there, by chance."""
        peers = list(self._by_subnet[subnet])
        return peers[int(draw() * len(peers))]

    def most_crowded(self, *, newest: bool, spare: Container[str]) -> str | None:
        """The newest or oldest of the most crowded subnet, None where there is nobody but those in
        `spare`."""
        for peer_id in self._in_turn(newest):
            if peer_id not in spare:
                return peer_id
        return None

    def _in_turn(self, newest: bool) -> Iterator[str]:
        if not self.size:
            return
        largest = max(self._by_subnet.values(), key=len)
        yield from reversed(largest) if newest else largest
        for peers in sorted(self._by_subnet.values(), key=len, reverse=True):
            yield from reversed(peers) if newest else peers
