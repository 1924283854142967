"""Plans and repairs: the planner's two entry points.

Both are pure functions of their arguments, `seed` included, so that anyone can recompute a plan and
dispute it. The order in which candidates are given makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from pipeline.planner.costs import Costs
from pipeline.planner.ring import build_ring, ring_of
from pipeline.planner.search import DEFAULT_LIMITS, SearchLimits, best_choice, furthest
from pipeline.planner.types import (
    MAX_STAGES,
    Candidate,
    CannotPlan,
    GroupPlan,
    LinkTable,
    ModelNeeds,
    PoolPlan,
    StagePlan,
)


def plan_groups(
    candidates: Sequence[Candidate],
    links: LinkTable,
    needs: ModelNeeds,
    *,
    min_stages: int = 1,
    max_stages: int = MAX_STAGES,
    max_groups: int = 1,
    seed: int = 0,
    search: SearchLimits = DEFAULT_LIMITS,
) -> PoolPlan:
    """Groups of `min_stages` to `max_stages` workers that each hold the whole model.

    A group's slowest stage is as fast as the workers and their memory allow; of equally fast ones
    it has the fewest stages. With `max_groups` above 1 the workers are dealt out by speed, and the
    number of groups is the one with the highest sum of 1 / bottleneck. Workers left over are
    spares of their group. Raises CannotPlan.
    """
    if not 1 <= min_stages <= max_stages <= MAX_STAGES or max_groups < 1:
        raise CannotPlan(
            f"stages from {min_stages} to {max_stages} in up to {max_groups} groups: ask for "
            f"1 to {MAX_STAGES} stages and at least one group"
        )
    best = [_group(candidates, links, needs, min_stages, max_stages, seed)]
    everyone = Costs(candidates, links, needs, seed)
    by_speed = sorted(range(len(everyone.candidates)), key=lambda i: everyone.speeds[i])
    for count in range(2, min(max_groups, len(by_speed) // min_stages) + 1):
        hands: list[list[Candidate]] = [[] for _ in range(count)]
        for rank, index in enumerate(by_speed):
            lap, seat = divmod(rank, count)
            hands[seat if lap % 2 == 0 else count - 1 - seat].append(everyone.candidates[index])
        try:
            groups = [_group(hand, links, needs, min_stages, max_stages, seed) for hand in hands]
        except CannotPlan:
            continue
        if _throughput(groups) > _throughput(best):
            best = groups
    return PoolPlan(tuple(best))


def replan(
    plan: GroupPlan,
    lost: AbstractSet[str],
    candidates: Sequence[Candidate],
    links: LinkTable,
    needs: ModelNeeds,
    *,
    min_stages: int = 1,
    max_stages: int = MAX_STAGES,
    seed: int = 0,
) -> GroupPlan:
    """A plan for a group that lost members, over `candidates` (survivors and free workers).

    Members that are in `lost`, or not among `candidates`, are gone. Where free workers can take all
    the lost ranges, everyone else keeps place and layers (and so its loaded weights); otherwise the
    layers are split anew over all candidates left. Raises CannotPlan.
    """
    left = [candidate for candidate in candidates if candidate.peer_id not in lost]
    costs = Costs(left, links, needs, seed)
    index = {candidate.peer_id: i for i, candidate in enumerate(costs.candidates)}
    stages = _substituted(plan.stages, costs, index)
    if stages is None or not min_stages <= len(stages) <= max_stages:
        return _group(left, links, needs, min_stages, max_stages, seed)
    latency = costs.ring_latency([index[stage.peer_id] for stage in stages])
    return _with_spares(ring_of(stages, latency), costs)


def _substituted(
    stages: Sequence[StagePlan], costs: Costs, index: dict[str, int]
) -> tuple[StagePlan, ...] | None:
    """Every stage's member if it is still there and fits, else the fastest free worker that does.

    The stage with the greatest need chooses first: whoever can hold it can hold any other, so if
    there are workers for all, this finds them.
    """
    if not stages or stages[-1].last_layer != costs.needs.layers:
        return None
    taken: dict[int, int] = {}
    for stage_index, stage in enumerate(stages):
        member = index.get(stage.peer_id)
        if member is not None and costs.fits(member, stage.first_layer, stage.last_layer):
            taken[stage_index] = member
    vacant = [stage_index for stage_index in range(len(stages)) if stage_index not in taken]
    kept = set(taken.values())
    free = [i for i in range(len(costs.candidates)) if i not in kept]
    for stage_index in sorted(
        vacant, key=lambda p: -costs.memory(stages[p].first_layer, stages[p].last_layer)
    ):
        first, last = stages[stage_index].first_layer, stages[stage_index].last_layer
        able = [i for i in free if costs.fits(i, first, last)]
        if not able:
            return None
        taken[stage_index] = min(able, key=lambda i: costs.speeds[i])
        free.remove(taken[stage_index])
    return tuple(
        StagePlan(
            costs.candidates[taken[stage_index]].peer_id,
            stage.first_layer,
            stage.last_layer,
            costs.memory(stage.first_layer, stage.last_layer),
            costs.seconds(taken[stage_index], stage.first_layer, stage.last_layer),
        )
        for stage_index, stage in enumerate(stages)
    )


def _group(
    candidates: Sequence[Candidate],
    links: LinkTable,
    needs: ModelNeeds,
    min_stages: int,
    max_stages: int,
    seed: int,
    search: SearchLimits = DEFAULT_LIMITS,
) -> GroupPlan:
    costs = Costs(candidates, links, needs, seed)
    choice = best_choice(costs, min_stages, max_stages, search)
    if choice is None:
        raise _why_not(costs, min_stages, max_stages, search)
    return _with_spares(build_ring(costs, choice), costs)


def _with_spares(group: GroupPlan, costs: Costs) -> GroupPlan:
    used = set(group.peers)
    spares = [i for i, c in enumerate(costs.candidates) if c.peer_id not in used]
    spares.sort(key=lambda i: (costs.speeds[i], -costs.candidates[i].memory_bytes))
    return replace(group, spares=tuple(costs.candidates[i].peer_id for i in spares))


def _throughput(groups: Sequence[GroupPlan]) -> float:
    return math.fsum(1 / group.bottleneck_seconds for group in groups)


def _why_not(costs: Costs, min_stages: int, max_stages: int, search: SearchLimits) -> CannotPlan:
    needs, count = costs.needs, len(costs.candidates)
    if count < min_stages:
        return CannotPlan(
            f"{min_stages} stages wanted and {count} workers ready: start "
            f"{min_stages - count} more or ask for fewer stages"
        )
    if min_stages > needs.layers:
        return CannotPlan(
            f"{min_stages} stages wanted and the model has {needs.layers} layers: ask for fewer"
        )
    reached = min(furthest(costs, max_stages, search), needs.layers - 1)
    missing = costs.memory(reached, needs.layers)
    kv = sum(needs.kv_bytes_per_token) * needs.kv_tokens
    whole = costs.memory(0, needs.layers)
    offered = sum(max(0, c.memory_bytes) for c in costs.candidates)
    obstacle = (
        f"the {count} workers offer {_size(offered)}"
        if offered < whole
        else f"no cut into {min_stages} to {min(max_stages, count)} stages fits the {count} workers"
    )
    return CannotPlan(
        f"not enough memory: the model needs {_size(whole)} ({_size(whole - kv)} of weights and "
        f"{_size(kv)} of KV cache for {needs.kv_tokens} tokens) and {obstacle}. Add a worker with "
        f"at least {_size(missing)}, raise the workers' memory limits, or ask for fewer KV tokens",
        missing_bytes=missing,
    )


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.1f} {unit}" if unit != "B" else f"{count} B"
        value /= 1024
    return f"{value:.1f} GiB"
