"""The table of workers, sorted by what is asked of it, so that no event walks over all of them.

Strangers may fill it, so it is bounded: a newcomer takes the place of whoever is of least use and
does not stand higher than it. First of those that were invited and never came, or are gone; then of
the most crowded subnet, the newest. Whoever has joined, is being invited, or is in a group stays.
A quarter is the strangers' even against those that are proven merely by having been here long.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Container
from enum import IntEnum

from node.roles.orchestrator.coordinator.lobby.crowds import Crowd
from node.roles.orchestrator.coordinator.members import Member, MemberState
from node.roles.orchestrator.coordinator.tables import Tracked
from p2p.admission.standing import Standing

JOINED = frozenset({MemberState.HEALTHY, MemberState.UNHEALTHY})
AWAY = frozenset({MemberState.DISCOVERED, MemberState.DEAD})


class Use(IntEnum):
    """Of what use somebody who is away was so far: it never came or was lost, is not known, or has
    served."""

    NONE = 0
    UNKNOWN = 1
    SERVED = 2


class MemberTable(Tracked[str, Member]):
    """Members by peer id.

    `open` counts the invites that wait for an answer by level, and `open_from` by level and subnet.
    `ready` has those that may be invited by level, as of the last `wake`. `idle` are the workers
    without a stake that have joined and never served.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open: Counter[Standing] = Counter()
        self.open_from: Counter[tuple[Standing, str]] = Counter()
        self.ready: dict[Standing, Crowd] = {level: Crowd() for level in Standing}
        self.idle = Crowd()
        self._by_state: dict[MemberState, dict[str, None]] = {state: {} for state in MemberState}
        self._levels: Counter[Standing] = Counter()
        self._away: dict[tuple[Standing, Use], Crowd] = {
            (level, use): Crowd() for level in Standing for use in Use
        }
        self._waits: list[tuple[float, str]] = []
        self._woken: set[str] = set()

    def __setitem__(self, key: str, value: Member) -> None:
        old = self.get(key)
        if old is value or (old is not None and self._same(old, value)):
            return
        super().__setitem__(key, value)
        if old is not None and _place(old) == _place(value):
            return  # what is where it was keeps its turn
        ready = key in self._woken
        if old is not None:
            self._account(old, -1)
        self._account(value, 1)
        if value.state is MemberState.DISCOVERED:
            if ready and old is not None and old.retry_at == value.retry_at:
                self._make_ready(value)
            else:
                heapq.heappush(self._waits, (value.retry_at, key))

    def __delitem__(self, key: str) -> None:
        old = self[key]
        super().__delitem__(key)
        self._account(old, -1)

    def in_state(self, state: MemberState) -> list[Member]:
        """The members in that state, in the order in which they came to it."""
        return [self[peer_id] for peer_id in self._by_state[state]]

    def count(self, state: MemberState) -> int:
        """How many are in that state."""
        return len(self._by_state[state])

    def wake(self, now: float) -> None:
        """Those whose wait for an invite is over are ready for one."""
        while self._waits and self._waits[0][0] <= now:
            retry_at, peer_id = heapq.heappop(self._waits)
            member = self.get(peer_id)
            if member is None or member.state is not MemberState.DISCOVERED:
                continue
            if member.retry_at == retry_at and peer_id not in self._woken:
                self._make_ready(member)

    def room_for(self, level: Standing, most: int, spare: Container[str]) -> bool:
        """Whether one more of that level fits among `most`, after somebody was forgotten for it if
        need be; nobody of `spare`."""
        if len(self) < most:
            return True
        strangers = level is Standing.STRANGER and self._levels[level] < most // 4
        for (its_level, use), crowd in self._away.items():
            if its_level > level:
                mere_age = its_level is Standing.PROVEN and use is not Use.SERVED
                if not (strangers and mere_age):
                    continue
            leaves = crowd.most_crowded(newest=True, spare=spare)
            if leaves is not None:
                del self[leaves]
                return True
        return False

    def _make_ready(self, member: Member) -> None:
        self._woken.add(member.peer_id)
        self.ready[member.level].add(member.peer_id, member.subnet)

    def _account(self, member: Member, sign: int) -> None:
        """Count a member in, or out of what it was counted in."""
        peer_id, level, subnet = member.peer_id, member.level, member.subnet
        self._levels[level] += sign
        if sign > 0:
            self._by_state[member.state][peer_id] = None
        else:
            del self._by_state[member.state][peer_id]
        if member.state is MemberState.INVITED:
            self.open[level] += sign
            self.open_from[level, subnet] += sign
            if not self.open_from[level, subnet]:
                del self.open_from[level, subnet]
        elif member.state in JOINED and member.newcomer:
            _move(self.idle, peer_id, subnet, sign)
        elif member.state in AWAY:
            _move(self._away[level, _use(member)], peer_id, subnet, sign)
            if peer_id in self._woken:
                self._woken.discard(peer_id)
                self.ready[level].remove(peer_id, subnet)


def _use(member: Member) -> Use:
    if member.served:
        return Use.SERVED
    fresh = member.state is MemberState.DISCOVERED and not member.declined
    return Use.UNKNOWN if fresh else Use.NONE


def _place(member: Member) -> tuple[object, ...]:
    """All that decides where a member is sorted in."""
    return (
        member.state,
        member.standing,
        member.subnet,
        _use(member),
        member.retry_at,
    )


def _move(crowd: Crowd, peer_id: str, subnet: str, sign: int) -> None:
    if sign > 0:
        crowd.add(peer_id, subnet)
    else:
        crowd.remove(peer_id, subnet)
