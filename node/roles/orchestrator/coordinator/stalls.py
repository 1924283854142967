"""Rings that bring too little, though every worker answers pings.

Not any activity is progress: a ring must bring tokens at no less than a floor, measured over
windows of `Policy.stall_timeout` in which it had work all along. The floor is a share of what its
plan promised for a single sequence, within absolute bounds, since the promise rests on what workers
say of their own speed. Who slows a ring down cannot be told from outside: all of its stages go on
the account (`blame.py`), which tells them apart as the company changes.

Where a ring brings enough and one unit does not get on, stage 0 holds it back, since it schedules
and reports: a unit that gets nothing for long, or is not done in the time that it takes at the
lowest floor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.pool import Brought, Policy, PoolTables
from node.roles.orchestrator.coordinator.units import Unit, UnitState

WITHHELD_FACTOR = 5
"""Of the stall timeout: how long one unit may get nothing while its ring works on others."""

STALL_WEIGHT = 2.0
"""Of a slow ring on the account: it took minutes to notice, and is no accident of an edge."""


def floor_of(policy: Policy, ring_seconds: float) -> float:
    """Tokens a second that a ring must bring which takes so long for one token of one sequence;
    0 where that is not known."""
    promised = policy.floor_share / ring_seconds if ring_seconds > 0.0 else 0.0
    return max(policy.floor_rate, min(promised, policy.floor_limit))


@dataclass(frozen=True)
class _Window:
    """What a generation had brought (tokens) when a window began; `busy` is when it got work after
    it had none. Both in monotonic seconds."""

    generation: int
    busy: float
    since: float
    brought: int


class StallWatch:
    """Breaks slow rings and says who may be to blame. To be asked often: it keeps windows."""

    def __init__(self, tables: PoolTables) -> None:
        self._tables = tables
        self._windows: dict[bytes, _Window] = {}
        self._given: dict[tuple[bytes, int], float] = {}

    def look(self, now: float) -> None:
        """Break every ring that is below its floor, or holds a unit back, at `now`."""
        work = self._work()
        self._windows = {gid: w for gid, w in self._windows.items() if gid in work}
        given = [(u.unit_id, u.generation) for units in work.values() for u in units]
        self._given = {key: self._given.get(key, now) for key in given}
        for group_id, units in work.items():
            group = self._tables.groups[group_id]
            if reason := self._slow(group, units, now):
                self._tables.groups[group_id] = group.broken(reason, now)
                self._tables.incident(group.peers, reason, now, STALL_WEIGHT)
            elif reason := self._withheld(units, now):
                self._tables.groups[group_id] = group.broken(reason, now)
                self._tables.suspect(group.peers[0], reason, now)

    def _work(self) -> dict[bytes, list[Unit]]:
        """The units that running generations work on, by group."""
        work: dict[bytes, list[Unit]] = {}
        for unit in self._tables.units.in_state(UnitState.ASSIGNED):
            group = self._tables.groups.get(unit.group_id)
            if group is None or group.state is not GroupState.RUNNING:
                continue
            if unit.generation == group.generation:
                work.setdefault(group.group_id, []).append(unit)
        return work

    def _slow(self, group: Group, units: list[Unit], now: float) -> str:
        policy = self._tables.policy
        brought = self._tables.brought.get(group.group_id, Brought())
        window = self._windows.get(group.group_id)
        if window is None or window.generation != group.generation:
            busy = max(group.up_at, min(unit.progress_at for unit in units))
            window = _Window(group.generation, busy, busy, brought.tokens)
            self._windows[group.group_id] = window
        silent, lasted = now - max(window.busy, brought.at), now - window.since
        if silent >= policy.stall_timeout:
            return f"the ring brought no token for {silent:.0f} s"
        if lasted < policy.stall_timeout:
            return ""
        fresh = brought.tokens - window.brought
        self._windows[group.group_id] = replace(window, since=now, brought=brought.tokens)
        rate, floor = fresh / lasted, floor_of(policy, group.plan.ring_seconds)
        if rate >= floor:
            return ""
        return f"the ring brought {rate:.2f} tokens/s for {lasted:.0f} s, under {floor:.2f}"

    def _withheld(self, units: list[Unit], now: float) -> str:
        policy = self._tables.policy
        patience = policy.stall_timeout * WITHHELD_FACTOR
        for unit in units:
            if now - unit.progress_at >= patience:
                return f"a unit got no token for {now - unit.progress_at:.0f} s"
            lasted = now - self._given[unit.unit_id, unit.generation]
            tokens = sum(s.request.max_tokens for s in unit.sequences)
            if lasted >= patience + tokens / policy.floor_rate:
                return f"a unit of {tokens} tokens was not done in {lasted:.0f} s"
        return ""
