"""A pipeline group: the workers that hold one copy of the model between them.

```
FORMING → LOADING → RUNNING ⇄ REPAIRING → LOADING …
any ─→ DRAINING → DISSOLVED
```
Every build has its own generation, counted over all groups of this orchestrator, so that whatever
arrives late from an older build is recognised and dropped. A death never dissolves a group: it is
REPAIRING until a plan over those left is found, and its sequences go on where they stood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from node.roles.orchestrator.coordinator.members import IllegalTransition
from pipeline.planner import GroupPlan


class GroupState(StrEnum):
    FORMING = "forming"
    LOADING = "loading"
    RUNNING = "running"
    REPAIRING = "repairing"
    DRAINING = "draining"
    DISSOLVED = "dissolved"


TRANSITIONS: dict[GroupState, frozenset[GroupState]] = {
    GroupState.FORMING: frozenset({GroupState.LOADING, GroupState.DRAINING}),
    GroupState.LOADING: frozenset({GroupState.RUNNING, GroupState.REPAIRING, GroupState.DRAINING}),
    GroupState.RUNNING: frozenset({GroupState.REPAIRING, GroupState.DRAINING}),
    GroupState.REPAIRING: frozenset({GroupState.LOADING, GroupState.DRAINING}),
    GroupState.DRAINING: frozenset({GroupState.DISSOLVED}),
    GroupState.DISSOLVED: frozenset(),
}


MAX_BUILDS = 256
REPAIR_DELAY = 0.25
REPAIR_DELAY_LIMIT = 10.0
STABLE_SECONDS = 60.0
"""A ring that ran so long is sound; its next failure starts the delays afresh."""


@dataclass(frozen=True)
class Group:
    group_id: bytes
    plan: GroupPlan
    state: GroupState = GroupState.FORMING
    generation: int = 0
    retry_at: float = 0.0
    failures: int = 0
    stalls: int = 0
    up_at: float = 0.0
    reason: str = ""
    builds: tuple[tuple[int, GroupPlan], ...] = ()
    """The latest builds' generations and plans, to say later who was in them."""

    def to(self, state: GroupState, **changes: Any) -> Group:
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"group {self.group_id.hex()[:12]}: {self.state} → {state}")
        return replace(self, state=state, **changes)

    @property
    def peers(self) -> tuple[str, ...]:
        return tuple(stage.peer_id for stage in self.plan.stages)

    def plan_at(self, generation: int) -> GroupPlan | None:
        """The plan of one of this group's builds, None where it had no such build."""
        return dict(self.builds).get(generation)

    @property
    def live(self) -> bool:
        return self.state not in (GroupState.DRAINING, GroupState.DISSOLVED)

    def loading(self, generation: int, plan: GroupPlan) -> Group:
        return self.to(
            GroupState.LOADING,
            generation=generation,
            plan=plan,
            reason="",
            builds=(*self.builds, (generation, plan))[-MAX_BUILDS:],
        )

    def young(self, now: float) -> bool:
        """Whether this build never ran for long."""
        return self.state is not GroupState.RUNNING or now - self.up_at < STABLE_SECONDS

    def broken(self, reason: str, now: float) -> Group:
        """REPAIRING, with a delay that doubles with every build in a row that did not last."""
        failures = self.failures if self.young(now) else 0
        delay = min(REPAIR_DELAY * 2**failures, REPAIR_DELAY_LIMIT)
        return self.to(
            GroupState.REPAIRING,
            reason=reason,
            retry_at=now + delay,
            failures=min(failures + 1, 16),
        )
