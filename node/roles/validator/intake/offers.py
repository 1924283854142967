"""Offers of bundles that were taken up, and the bytes that are reserved for them. Pure.

An offer is a few hundred bytes. Once its sender is known to own the pool, room for the bundle is
reserved: from then on, and for a while, the sender may upload exactly that bundle, and nobody may
upload what was not offered. So bytes are accounted for before they are read, by sender and in
total. Decoding a large bundle takes CPU time, which is charged to whoever sent it: a sender that
has used up its share offers in vain until time has passed. So does one whose bundle was not the one
that it offered.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from p2p.errors import Refused


@dataclass(frozen=True)
class OfferLimits:
    """Bytes that are reserved at once, by one sender and in `total`; how long an upload may take to
    come, in `seconds`; and CPU seconds a second for one sender (`cpu_share`), of which it may use
    `cpu_burst` at once. A bundle that is not what was offered costs its sender `penalty` CPU
    seconds."""

    sender_bytes: int = 2**25
    total_bytes: int = 2**27
    seconds: float = 90.0
    cpu_share: float = 0.1
    cpu_burst: float = 5.0
    penalty: float = 30.0
    senders: int = 4096


@dataclass(frozen=True)
class Offer:
    """What a sender said of a bundle; `size` in bytes, `tokens` to replay."""

    sender: str
    pool_id: int
    unit_id: bytes
    bundle_id: bytes
    size: int
    tokens: int


@dataclass
class _Reserved:
    offer: Offer
    until: float
    busy: bool = False


class Offers:
    """The reserved offers. `now` is monotonic seconds."""

    def __init__(self, limits: OfferLimits | None = None) -> None:
        self._limits = limits or OfferLimits()
        self._reserved: dict[tuple[str, bytes], _Reserved] = {}
        self._bytes: Counter[str] = Counter()
        self._used: dict[str, tuple[float, float]] = {}
        """CPU seconds that a sender owes, and as of when; the oldest first."""

    @property
    def size(self) -> int:
        """Bytes that are reserved."""
        return self._bytes.total()

    def reserve(self, offer: Offer, now: float) -> None:
        """Keep room for a bundle whose sender may send it; again is harmless. Raises `Refused`."""
        self._expire(now)
        if self._owed(offer.sender, now) > self._limits.cpu_burst:
            raise Refused("busy", "your bundles took too much time to read; ask again later")
        key = (offer.sender, offer.bundle_id)
        known = self._reserved.get(key)
        if known is not None and known.busy:
            raise Refused("busy", "that bundle is being read")
        if known is not None:
            self._drop(key)
        if (
            self._bytes[offer.sender] + offer.size > self._limits.sender_bytes
            or self.size + offer.size > self._limits.total_bytes
        ):
            raise Refused("busy", "too many bundles are being sent; ask again")
        self._reserved[key] = _Reserved(offer, now + self._limits.seconds)
        self._bytes[offer.sender] += offer.size

    def require_any(self, sender: str, now: float) -> None:
        """Raise `Refused` unless some upload of this sender is expected; before its bytes are
        read."""
        self._expire(now)
        if not self._bytes[sender]:
            raise Refused("not_offered", "offer the bundle first")

    def begin(self, sender: str, bundle_id: bytes, size: int, now: float) -> Offer:
        """The offer that an upload of `size` bytes belongs to, held until `end`. Raises
        `Refused`."""
        self._expire(now)
        reserved = self._reserved.get((sender, bundle_id))
        if reserved is None:
            raise Refused("not_offered", "offer the bundle first")
        if reserved.busy:
            raise Refused("busy", "that bundle is being read")
        if size != reserved.offer.size:
            self.penalize(sender, now)
            raise Refused("bad_bundle", f"{size} bytes where {reserved.offer.size} were offered")
        reserved.busy = True
        return reserved.offer

    def end(self, offer: Offer) -> None:
        """The upload is over, whatever came of it."""
        self._drop((offer.sender, offer.bundle_id))

    def charge(self, sender: str, seconds: float, now: float) -> None:
        """CPU time was spent on a sender's bundle."""
        owed = self._owed(sender, now) + seconds
        self._used.pop(sender, None)
        self._used[sender] = (owed, now)
        while len(self._used) > self._limits.senders:
            del self._used[next(iter(self._used))]

    def penalize(self, sender: str, now: float) -> None:
        """A bundle was not what its sender offered: it must have known."""
        self.charge(sender, self._limits.penalty, now)

    def _owed(self, sender: str, now: float) -> float:
        owed, then = self._used.get(sender, (0.0, now))
        return max(owed - (now - then) * self._limits.cpu_share, 0.0)

    def _expire(self, now: float) -> None:
        late = [k for k, r in self._reserved.items() if r.until <= now and not r.busy]
        for key in late:
            self._drop(key)

    def _drop(self, key: tuple[str, bytes]) -> None:
        reserved = self._reserved.pop(key, None)
        if reserved is None:
            return
        self._bytes[key[0]] -= reserved.offer.size
        if not self._bytes[key[0]]:
            del self._bytes[key[0]]
