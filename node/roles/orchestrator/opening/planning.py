"""Which workers hold which layers: `pipeline.planner` with the pool's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.planner import (
    MAX_STAGES,
    Candidate,
    GroupPlan,
    LinkTable,
    ModelNeeds,
    plan_groups,
    replan,
)


class GroupPlanner:
    """Plans one group at a time.

    A first plan has exactly `stages` stages where that many workers are there (0: as many as make
    the slowest stage fastest); a repair takes what is left. `micro_batches` are
    in flight, 0: as stage 0 finds best.
    """

    def __init__(self, needs: ModelNeeds, stages: int, micro_batches: int) -> None:
        self._needs = needs
        self._stages = stages
        self._micro_batches = micro_batches

    def __call__(self, candidates: Sequence[Candidate], previous: GroupPlan | None) -> GroupPlan:
        """A plan over these candidates, near the previous one where there is one. Raises
        `CannotPlan`."""
        most = self._stages or MAX_STAGES
        if previous is None:
            least = min(most, len(candidates)) if self._stages else 1
            planned = plan_groups(
                candidates, LinkTable(), self._needs, min_stages=max(least, 1), max_stages=most
            ).groups[0]
        else:
            planned = replan(
                previous, frozenset(), candidates, LinkTable(), self._needs, max_stages=most
            )
        return replace(planned, micro_batches=self._micro_batches)
