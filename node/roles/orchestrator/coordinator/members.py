"""The orchestrator's view of one worker.

```
DISCOVERED ─invite→ INVITED ─joined→ HEALTHY ⇄ UNHEALTHY ─→ DEAD ─record seen again→ DISCOVERED
                       └─failed, later again→ DISCOVERED
any ─→ BANNED (convicted by a verdict; the ban ends it)
```
A worker that has done nothing yet costs nothing to be, so it is judged by where it comes from
(`lobby/`), and by what it let lapse: each invite that it did not take up, and each time that it was
lost before it ever worked, doubles the wait for the next invite.

A worker that is suspected of holding its group up (a failed load, no evidence, a stalled ring) is
not convicted of anything: it rests, and longer each time, so that groups are built without it
(`blame.py` says who, and for how long).
A worker is UNHEALTHY after one missed ping and DEAD after `PINGS_TO_DEATH`, or at once when its
process is known to be gone. Only HEALTHY workers are planned into groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from p2p.admission.standing import Standing


class MemberState(StrEnum):
    """Where a worker stands in the picture above."""

    DISCOVERED = "discovered"
    INVITED = "invited"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DEAD = "dead"
    BANNED = "banned"


TRANSITIONS: dict[MemberState, frozenset[MemberState]] = {
    MemberState.DISCOVERED: frozenset({MemberState.INVITED, MemberState.DEAD, MemberState.BANNED}),
    MemberState.INVITED: frozenset(
        {MemberState.HEALTHY, MemberState.DISCOVERED, MemberState.DEAD, MemberState.BANNED}
    ),
    MemberState.HEALTHY: frozenset({MemberState.UNHEALTHY, MemberState.DEAD, MemberState.BANNED}),
    MemberState.UNHEALTHY: frozenset({MemberState.HEALTHY, MemberState.DEAD, MemberState.BANNED}),
    MemberState.DEAD: frozenset({MemberState.DISCOVERED, MemberState.BANNED}),
    MemberState.BANNED: frozenset(),
}

PINGS_TO_DEATH = 3
INVITE_RETRY_SECONDS = 10.0
INVITE_RETRY_LIMIT = 600.0


class IllegalTransition(RuntimeError):
    """A state machine was asked for a step that its table does not have; state is unchanged."""


@dataclass(frozen=True)
class Member:
    """One worker.

    `memory_bytes`, `layer_seconds` (seconds a layer takes for one token), `location` (degrees of
    latitude and longitude) and `region` are what its record claims; `subnet` is where it is
    connected from, "" while it is not, and `standing` what it costs to be who it is. `address` and
    `provider` are EVM addresses, "" before it joined. `served` is whether work that it took part in
    was ever accepted, `busy` why it said last that it takes no new units, "" where it does.
    `unpaid` is its work (layers times tokens) on accepted units that other rings finished.

    `retry_at` is when it may be invited again and `rest_until` when it may be planned again, in
    monotonic seconds. `strikes` counts how often it was put to rest, `declined` how often in a row
    it was invited and nothing came of it. `reason` is why it is in its state.
    """

    peer_id: str
    state: MemberState = MemberState.DISCOVERED
    memory_bytes: int = 0
    layer_seconds: float = 0.0
    location: tuple[float, float] | None = None
    region: str = ""
    address: str = ""
    provider: str = ""
    missed_pings: int = 0
    retry_at: float = 0.0
    rest_until: float = 0.0
    strikes: int = 0
    declined: int = 0
    reason: str = ""
    subnet: str = ""
    standing: Standing = Standing.STRANGER
    served: bool = False
    busy: str = ""
    unpaid: int = 0

    def to(self, state: MemberState, *, reason: str = "", retry_at: float = 0.0) -> Member:
        """This member in another state. Raises `IllegalTransition` where the table forbids it."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"worker {self.peer_id}: {self.state} → {state}")
        return replace(self, state=state, reason=reason, retry_at=retry_at, missed_pings=0)

    @property
    def may(self) -> frozenset[MemberState]:
        """The states that it can go to."""
        return TRANSITIONS[self.state]

    @property
    def level(self) -> Standing:
        """How it stands here: whoever has served is no stranger."""
        return max(self.standing, Standing.PROVEN if self.served else Standing.STRANGER)

    @property
    def newcomer(self) -> bool:
        """Whether it has neither served nor a stake."""
        return not self.served and self.standing is not Standing.STAKED

    def usable(self, now: float) -> bool:
        """May be planned into a group. A worker whose load failed rests for a while."""
        return self.state is MemberState.HEALTHY and now >= self.rest_until

    def declines(self, now: float, reason: str) -> Member:
        """The member after a failed invite; each failure doubles the wait for the next one."""
        after = self.to(MemberState.DISCOVERED, reason=reason, retry_at=now + _delay(self.declined))
        return replace(after, declined=min(self.declined + 1, 16))

    def lost(self, now: float, reason: str) -> Member:
        """The member DEAD. One that was lost before it ever served waits for its next invite, as
        after those that failed; the first time not at all."""
        if self.served:
            return self.to(MemberState.DEAD, reason=reason)
        wait = _delay(self.declined - 1) if self.declined else 0.0
        after = self.to(MemberState.DEAD, reason=reason, retry_at=now + wait)
        return replace(after, declined=min(self.declined + 1, 16))

    def seen_again(self) -> Member:
        """The member, no longer DEAD, to be invited when its wait is over."""
        return self.to(MemberState.DISCOVERED, retry_at=self.retry_at)

    def worked(self) -> Member:
        """The member once work that it took part in was accepted."""
        return replace(self, served=True, declined=0)

    def suspected(self, now: float, seconds: float, reason: str) -> Member:
        """The member at rest for so many seconds, or for as long as it rests already."""
        until = max(self.rest_until, now + seconds)
        return replace(self, rest_until=until, strikes=self.strikes + 1, reason=reason)

    def pinged(self, ok: bool, now: float) -> Member:
        """The member after an answered or missed ping."""
        if self.state not in (MemberState.HEALTHY, MemberState.UNHEALTHY):
            return self
        if ok:
            if self.state is MemberState.UNHEALTHY:
                return self.to(MemberState.HEALTHY)
            return replace(self, missed_pings=0)
        missed = self.missed_pings + 1
        if missed >= PINGS_TO_DEATH:
            return self.lost(now, "no answer to pings")
        if self.state is MemberState.HEALTHY:
            return replace(self.to(MemberState.UNHEALTHY), missed_pings=missed)
        return replace(self, missed_pings=missed)


def _delay(times: int) -> float:
    """Seconds until the next invite, after so many that came to nothing."""
    return float(min(INVITE_RETRY_SECONDS * 2**times, INVITE_RETRY_LIMIT))
