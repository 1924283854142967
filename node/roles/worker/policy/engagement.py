"""Which pool a worker is engaged to, and when another one may have it.

A worker stays where there is work. A pool that gave it (almost) none for `Patience.idle` seconds,
or has been silent for `Patience.silent`, loses it to the next invite that fits; until one comes it
stays a member, since staying costs nothing and leaving does. The pool it left is then tried later
than others.

Every such change costs two transactions. So each that did not bring work worth its gas doubles the
patience for the next, up to `Patience.longest`: pools that only pass a worker to and fro, however
many there are, move it about nine times in a day. What counts is work that this node's own engine
did, in seconds of its time, not pings or orders: those are free.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from node.roles.worker.policy.decline import Decline

MAX_RESTING = 1024
"""Pools of which it is remembered that they gave no work."""


@dataclass(frozen=True)
class Patience:
    """Seconds: `idle` without work and `silent` without a word before a pool loses its worker, and
    `longest` that either may become. A pool gives work if the engine was busy for more than
    `least_busy` of the time."""

    idle: float = 300.0
    silent: float = 120.0
    longest: float = 6 * 3600.0
    least_busy: float = 0.01


@dataclass
class _Engaged:
    peer_id: str
    pool_id: int
    since: float
    heard_at: float
    cost: int
    earned: int = 0


class Engagement:
    """The pool that has this worker now, None where none has. Times are seconds that never go
    back."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._now: _Engaged | None = None
        self._busy: deque[tuple[float, float]] = deque()
        self._worked_at = 0.0
        self._fruitless = 0
        self._resting: dict[int, float] = {}

    def refuses(self, peer_id: str, pool_id: int, now: float) -> Decline | None:
        """Why an invite of that peer to that pool must wait, None where it need not."""
        held = self._now
        if held is not None and (held.peer_id, held.pool_id) == (peer_id, pool_id):
            return None
        if held is not None and not self.is_silent(now) and not self.is_idle(now):
            return Decline("taken", f"already in pool {held.pool_id}", waits=True)
        rest = self._resting.get(pool_id, now) - now
        if rest > 0:
            said = f"pool {pool_id} gave no work; others come first for {rest:.0f} s"
            return Decline("resting", said, waits=True)
        return None

    def joined(self, peer_id: str, pool_id: int, now: float, cost: int = 0) -> None:
        """Engaged to a pool from now on; moving there cost `cost`, in what is earned."""
        held = self._now
        if held is not None and held.pool_id == pool_id:
            held.peer_id, held.heard_at = peer_id, now
            return
        self.lost(now)
        self._now = _Engaged(peer_id, pool_id, now, now, cost)
        self._busy.clear()
        self._worked_at = now

    def lost(self, now: float) -> None:
        """This worker left its pool to move to another, whether or not it gets in there."""
        held, self._now = self._now, None
        if held is not None:
            fruitful = held.earned > 0 and held.earned >= held.cost
            self._fruitless = 0 if fruitful else self._fruitless + 1
            self._rest(held.pool_id, now)

    def left(self) -> None:
        """This worker left of its own accord, and is engaged to nobody any more."""
        self._now = None

    @property
    def heard_at(self) -> float | None:
        """When the pool's orchestrator was last heard; None without a pool."""
        return None if self._now is None else self._now.heard_at

    def heard(self, now: float) -> None:
        """The pool's orchestrator asked for something."""
        if self._now is not None:
            self._now.heard_at = now

    def worked(self, seconds: float, earned: int, now: float) -> None:
        """The engine was busy for `seconds` on work of this pool, which is worth `earned`.

        No more is believed than has passed since the last time.
        """
        if self._now is None:
            return
        seconds = min(seconds, now - self._worked_at)
        self._worked_at = now
        self._now.earned += earned
        self._forget_before(now)
        if self._busy and now - self._busy[-1][0] < self._patience.idle / 100:
            at, before = self._busy[-1]
            self._busy[-1] = (at, before + seconds)
        else:
            self._busy.append((now, seconds))

    def is_idle(self, now: float) -> bool:
        """Whether the pool has given (almost) no work for as long as this worker waits."""
        wait = self._wait(self._patience.idle)
        if self._now is None or now - self._now.since < wait:
            return False
        self._forget_before(now)
        return sum(seconds for _, seconds in self._busy) < self._patience.least_busy * wait

    def is_silent(self, now: float) -> bool:
        """Whether the pool's orchestrator has not been heard for as long as this worker waits."""
        held = self._now
        return held is not None and now - held.heard_at >= self._wait(self._patience.silent)

    def _forget_before(self, now: float) -> None:
        start = now - self._wait(self._patience.idle)
        while self._busy and self._busy[0][0] <= start:
            self._busy.popleft()

    def _wait(self, seconds: float) -> float:
        return min(seconds * 2.0 ** min(self._fruitless, 32), max(seconds, self._patience.longest))

    def _rest(self, pool_id: int, now: float) -> None:
        self._resting = {pool: at for pool, at in self._resting.items() if at > now}
        if len(self._resting) >= MAX_RESTING:
            del self._resting[next(iter(self._resting))]
        self._resting[pool_id] = now + self._wait(self._patience.idle)
