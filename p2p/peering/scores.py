"""Peer scores: how much misbehaviour a peer may show before it is cut off, and for how long.

A score starts at 0, falls with each offence by the offence's weight and decays back towards 0 with
a half-life of `HALF_LIFE` seconds. Two thresholds make three states:

    HEALTHY       score > DISCONNECT_AT
    DISCONNECTED  BAN_AT < score <= DISCONNECT_AT   connection closed, may come back by itself
    BANNED        score <= BAN_AT, for at least MIN_BAN seconds: neither dialled nor admitted

    from          | event                        | to            | command
    HEALTHY       | offence crosses DISCONNECT_AT| DISCONNECTED  | Disconnect
    HEALTHY       | offence crosses BAN_AT       | BANNED        | Ban
    DISCONNECTED  | offence crosses BAN_AT       | BANNED        | Ban
    DISCONNECTED  | decay                        | HEALTHY       | -
    BANNED        | decay, after MIN_BAN         | DISCONNECTED, HEALTHY | Unban

Pure: time is an argument. Constants, decay and thresholds stand together because they only make
sense together: one malformed message is a nuisance, ten within minutes end in a ban, and a ban of a
peer that stops misbehaving ends after about `MIN_BAN`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

HALF_LIFE = 600.0
DISCONNECT_AT = -20.0
BAN_AT = -50.0
MIN_SCORE = -100.0  # so that a ban's length is bounded: one half-life brings it above BAN_AT
MIN_BAN = 300.0
MAX_PEERS = 4096
_FORGET_ABOVE = -0.5


class Offence(Enum):
    """What a peer did."""

    STREAM_FAULT = "bytes that made a stream handler of the library fail"
    GOSSIP_REJECTED = "a message that no correct node would have sent or forwarded"
    PROTOCOL_VIOLATION = "wrong size, type or form in one of our own protocols"
    MULTIPLEXER_VIOLATION = "flow control broken: an attack on memory"


WEIGHTS = {
    Offence.STREAM_FAULT: -5.0,
    Offence.GOSSIP_REJECTED: -5.0,
    Offence.PROTOCOL_VIOLATION: -10.0,
    Offence.MULTIPLEXER_VIOLATION: -25.0,
}


class PeerState(Enum):
    """How a peer stands; see the module's table."""

    HEALTHY = "healthy"
    DISCONNECTED = "disconnected"
    BANNED = "banned"


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the peer's connections; it may come back at once."""

    peer_id: str


@dataclass(frozen=True, slots=True)
class Ban:
    """Close the peer's connections and do not let it in again."""

    peer_id: str


@dataclass(frozen=True, slots=True)
class Unban:
    """The peer may connect again."""

    peer_id: str


Command = Disconnect | Ban | Unban


@dataclass(slots=True)
class _Entry:
    score: float
    updated: float
    state: PeerState
    banned_at: float


class PeerScores:
    """The scores of at most `max_peers` misbehaving peers; everybody else is healthy."""

    def __init__(self, max_peers: int = MAX_PEERS) -> None:
        self._max_peers = max_peers
        self._entries: dict[str, _Entry] = {}

    def offend(self, peer_id: str, offence: Offence, now: float) -> list[Command]:
        """Charge an offence at `now` (seconds, monotonic); returns what must be done about it."""
        entry = self._entries.get(peer_id)
        if entry is None:
            self._make_room(now)
            entry = self._entries[peer_id] = _Entry(0.0, now, PeerState.HEALTHY, -math.inf)
        _decay(entry, now)
        entry.score = max(MIN_SCORE, entry.score + WEIGHTS[offence])
        if entry.score <= BAN_AT and entry.state is not PeerState.BANNED:
            entry.state, entry.banned_at = PeerState.BANNED, now
            return [Ban(peer_id)]
        if entry.score <= DISCONNECT_AT and entry.state is PeerState.HEALTHY:
            entry.state = PeerState.DISCONNECTED
            return [Disconnect(peer_id)]
        return []

    def tick(self, now: float) -> list[Command]:
        """Apply decay to everybody and forget those whose score has healed."""
        commands: list[Command] = []
        for peer_id, entry in list(self._entries.items()):
            before = entry.state
            self._settle(entry, now)
            if before is PeerState.BANNED and entry.state is not PeerState.BANNED:
                commands.append(Unban(peer_id))
            if entry.score > _FORGET_ABOVE and entry.state is PeerState.HEALTHY:
                del self._entries[peer_id]
        return commands

    def score(self, peer_id: str, now: float) -> float:
        """The decayed score, 0 for a peer that never offended."""
        entry = self._entries.get(peer_id)
        return 0.0 if entry is None else entry.score * _factor(now - entry.updated)

    def state(self, peer_id: str, now: float) -> PeerState:
        """How the peer stands at `now` (seconds, monotonic)."""
        entry = self._entries.get(peer_id)
        if entry is None:
            return PeerState.HEALTHY
        self._settle(entry, now)
        return entry.state

    def admits(self, peer_id: str, now: float) -> bool:
        """Whether the peer may be connected: everybody but the banned."""
        return self.state(peer_id, now) is not PeerState.BANNED

    def offenders(self) -> tuple[str, ...]:
        """Peers with a score, in the order of their first offence."""
        return tuple(self._entries)

    def _settle(self, entry: _Entry, now: float) -> None:
        _decay(entry, now)
        if entry.state is PeerState.BANNED and now - entry.banned_at < MIN_BAN:
            return
        if entry.score > DISCONNECT_AT:
            entry.state = PeerState.HEALTHY
        elif entry.score > BAN_AT:
            entry.state = PeerState.DISCONNECTED

    def _make_room(self, now: float) -> None:
        """Drop the least bad entry; peer ids are free to make, so memory must be bounded."""
        if len(self._entries) < self._max_peers:
            return
        del self._entries[max(self._entries, key=lambda p: self.score(p, now))]


def _factor(elapsed: float) -> float:
    return math.exp2(-max(0.0, elapsed) / HALF_LIFE)


def _decay(entry: _Entry, now: float) -> None:
    entry.score *= _factor(now - entry.updated)
    entry.updated = max(entry.updated, now)
