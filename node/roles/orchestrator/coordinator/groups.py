"""A pipeline group: the workers that hold one copy of the model between them.

```
LOADING ─every stage is up→ RUNNING ─broken→ REPAIRING ─planned anew→ LOADING
   └─failed→ REPAIRING
```
Every time a group is built it gets a new generation, counted over all groups of this orchestrator,
so that whatever arrives late from an older one is recognised and dropped. A death never dissolves a
group: it is REPAIRING until a plan over those left is found, and its sequences go on where they
stood. Nor does the end of the orchestrator's process: groups are not kept on disk, and the next
start plans new ones over the workers that it then finds. Two things end one: nothing stays LOADING
for longer than the policy says, and what cannot be repaired for long is given up, so that its units
and its workers are free for other groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from node.roles.orchestrator.coordinator.members import IllegalTransition
from pipeline.planner import GroupPlan


class GroupState(StrEnum):
    """Where a group stands in the picture above."""

    LOADING = "loading"
    RUNNING = "running"
    REPAIRING = "repairing"


TRANSITIONS: dict[GroupState, frozenset[GroupState]] = {
    GroupState.LOADING: frozenset({GroupState.RUNNING, GroupState.REPAIRING}),
    GroupState.RUNNING: frozenset({GroupState.REPAIRING}),
    GroupState.REPAIRING: frozenset({GroupState.LOADING}),
}


MAX_GENERATIONS = 256
REPAIR_DELAY = 0.25
REPAIR_DELAY_LIMIT = 10.0
STABLE_SECONDS = 60.0
"""A ring that ran so long is sound; its next failure starts the delays afresh."""


@dataclass(frozen=True)
class Group:
    """One group, as of its newest generation.

    `plan` says which layers each worker holds, stage 0 first. `retry_at` is when a REPAIRING group
    may be planned again, `up_at` when this generation began to run, `since` when it came to its
    state and `down_since` when the group ran last, or was made, all in monotonic seconds.
    `failures` counts generations in a row that did not last. `reason` is why it broke last, ""
    while it is loading. `without` are workers that its plan leaves out for a while, through no
    known fault.
    """

    group_id: bytes
    plan: GroupPlan
    generation: int
    state: GroupState = GroupState.LOADING
    retry_at: float = 0.0
    failures: int = 0
    up_at: float = 0.0
    since: float = 0.0
    down_since: float = 0.0
    reason: str = ""
    without: tuple[str, ...] = ()
    generations: tuple[tuple[int, GroupPlan], ...] = ()
    """The latest generations and their plans, to say later who was in them."""

    @classmethod
    def first(cls, group_id: bytes, generation: int, plan: GroupPlan, now: float) -> Group:
        """A new group, LOADING its first generation."""
        made = ((generation, plan),)
        return cls(group_id, plan, generation, since=now, down_since=now, generations=made)

    def to(self, state: GroupState, **changes: Any) -> Group:
        """This group in another state. Raises `IllegalTransition` where the table forbids it."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"group {self.group_id.hex()[:12]}: {self.state} → {state}")
        return replace(self, state=state, **changes)

    @property
    def peers(self) -> tuple[str, ...]:
        """Peer ids of its stages, in order."""
        return tuple(stage.peer_id for stage in self.plan.stages)

    def plan_at(self, generation: int) -> GroupPlan | None:
        """The plan of one of this group's generations, None where it had no such generation."""
        return dict(self.generations).get(generation)

    def loading(self, generation: int, plan: GroupPlan, now: float) -> Group:
        """The group LOADING another generation. Whoever is in its plan is not left out."""
        return self.to(
            GroupState.LOADING,
            since=now,
            generation=generation,
            plan=plan,
            reason="",
            without=tuple(p for p in self.without if all(p != s.peer_id for s in plan.stages)),
            generations=(*self.generations, (generation, plan))[-MAX_GENERATIONS:],
        )

    def young(self, now: float) -> bool:
        """Whether this generation never ran for long."""
        return self.state is not GroupState.RUNNING or now - self.up_at < STABLE_SECONDS

    def broken(self, reason: str, now: float, without: tuple[str, ...] = ()) -> Group:
        """REPAIRING, with a delay that doubles with every generation in a row that did not last; to
        be planned without these if there is such a plan."""
        failures = self.failures if self.young(now) else 0
        delay = min(REPAIR_DELAY * 2**failures, REPAIR_DELAY_LIMIT)
        failures = min(failures + 1, 16)
        return self._repairing(reason, now, now + delay, failures=failures, without=without)

    def lost(self, reason: str, now: float) -> Group:
        """REPAIRING, to be planned again at once: it has lost a worker."""
        return self._repairing(reason, now, now, without=())

    def _repairing(self, reason: str, now: float, retry_at: float, **changes: Any) -> Group:
        down_since = now if self.state is GroupState.RUNNING else self.down_since
        return self.to(
            GroupState.REPAIRING,
            reason=reason,
            retry_at=retry_at,
            since=now,
            down_since=down_since,
            **changes,
        )
