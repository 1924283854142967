"""Which worker serves which layers: a pure, deterministic group planner.

plan = plan_groups(candidates, LinkTable(), ModelNeeds.of(layer_table, kv_tokens=65536))
plan.groups[0].stages  # ring order, layers [first_layer, last_layer) each
repaired = replan(plan.groups[0], {lost_peer}, candidates, links, needs)
"""

from pipeline.planner.planning import plan_groups, replan
from pipeline.planner.types import (
    MAX_STAGES,
    Candidate,
    CannotPlan,
    GroupPlan,
    LinkTable,
    ModelNeeds,
    PlannerError,
    PoolPlan,
    StagePlan,
)

__all__ = [
    "MAX_STAGES",
    "Candidate",
    "CannotPlan",
    "GroupPlan",
    "LinkTable",
    "ModelNeeds",
    "PlannerError",
    "PoolPlan",
    "StagePlan",
    "plan_groups",
    "replan",
]
