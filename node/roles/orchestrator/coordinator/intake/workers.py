"""Events of workers and of the groups that they form."""

from __future__ import annotations

from dataclasses import replace

from node.roles.orchestrator.coordinator.events import (
    GroupBroken,
    GroupUp,
    PeerAnnounced,
    PeerDeclined,
    PeerGone,
    PeerJoined,
    PeerPinged,
    WorkerEvent,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.members import Member, MemberState
from node.roles.orchestrator.coordinator.pool import PoolTables

PROMPT = 2.0
"""Seconds within which a refused invite held nobody up."""


class WorkerEvents:
    """Applies them to a pool's tables. Everything that follows is for the reconciliation."""

    def __init__(self, tables: PoolTables) -> None:
        self._tables = tables

    def apply(self, event: WorkerEvent, now: float) -> None:
        """Change the members and groups that the event is about."""
        match event:
            case PeerAnnounced():
                self._announced(event)
            case PeerJoined():
                self._joined(event, now)
            case PeerDeclined():
                self._declined(event, now)
            case PeerPinged():
                self._pinged(event, now)
            case PeerGone():
                self._gone(event, now)
            case GroupUp():
                self._up(event, now)
            case GroupBroken():
                self._broken(event, now)

    def _announced(self, event: PeerAnnounced) -> None:
        members = self._tables.members
        if event.peer_id not in members and not self._tables.room_for_member(event.standing):
            return
        known = members.get(event.peer_id, Member(event.peer_id))
        if known.state is MemberState.DEAD:
            known = known.seen_again()
        members[event.peer_id] = replace(
            known,
            memory_bytes=event.memory_bytes,
            layer_seconds=event.layer_seconds,
            location=event.location,
            region=event.region,
            subnet=event.subnet,
            standing=event.standing,
        )

    def _joined(self, event: PeerJoined, now: float) -> None:
        member = self._tables.members.get(event.peer_id)
        if member is None or member.state is not MemberState.INVITED:
            return
        self._tables.members[event.peer_id] = replace(
            member.to(MemberState.HEALTHY),
            address=event.address,
            provider=event.provider,
        )
        self._make_room(now)
        if self._tables.first_usable is None:
            self._tables.first_usable = now

    def _declined(self, event: PeerDeclined, now: float) -> None:
        member = self._tables.members.get(event.peer_id)
        if member is not None and member.state is MemberState.INVITED:
            if event.took >= PROMPT:
                self._tables.lapsed(member, now)
            self._tables.members[event.peer_id] = member.declines(now, event.reason)

    def _make_room(self, now: float) -> None:
        """Of too many workers that have joined and never served, the one that had its chance for
        longest leaves, of the most crowded subnet. Nobody with a stake, and nobody in a group."""
        members = self._tables.members
        if members.idle.size > self._tables.limits.idle:
            leaves = members.idle.most_crowded(newest=False, spare=self._tables.taken())
            if leaves is not None:
                members[leaves] = members[leaves].lost(now, "others were waiting for its place")

    def _pinged(self, event: PeerPinged, now: float) -> None:
        member = self._tables.members.get(event.peer_id)
        if member is None:
            return
        after = replace(member.pinged(event.ok, now), busy=event.busy)
        self._tables.members[event.peer_id] = after
        if after.state is MemberState.DEAD and member.state is not MemberState.DEAD:
            self._lost(member, after.reason, now)

    def _gone(self, event: PeerGone, now: float) -> None:
        member = self._tables.members.get(event.peer_id)
        if member is None or MemberState.DEAD not in member.may:
            return
        self._tables.members[event.peer_id] = member.lost(now, event.reason)
        self._lost(member, event.reason, now)

    def _lost(self, member: Member, reason: str, now: float) -> None:
        """Whoever leaves rings again and again need not be in one."""
        self._tables.lapsed(member, now)
        if self._tables.release(member.peer_id, reason, now):
            self._tables.incident((member.peer_id,), f"it keeps leaving its ring: {reason}", now)

    def _up(self, event: GroupUp, now: float) -> None:
        group = self._tables.current(event.group_id, event.generation, GroupState.LOADING)
        if group is not None:
            self._tables.groups[group.group_id] = group.to(GroupState.RUNNING, up_at=now, since=now)
            self._tables.unconnected.connected(group.peers)

    def _broken(self, event: GroupBroken, now: float) -> None:
        group = self._tables.groups.get(event.group_id)
        if group is None or group.generation != event.generation:
            return
        if group.state is GroupState.REPAIRING:
            return
        self._tables.groups[group.group_id] = group.broken(event.reason, now)
        self._tables.suspect(event.suspect, event.reason, now)
        self._tables.incident(event.suspects, event.reason, now)
        self._tables.unconnected.note(event.unconnected, event.reason, now)
