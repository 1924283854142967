"""From chosen workers to a ring: their order and their layers.

Order: of all orders that keep within the time limit, the one in which a token spends least time on
the wire; every order is looked at for up to BRUTE_FORCE workers, beyond that pairs are swapped and
segments reversed while it helps. Layers: of all cuts within the limit, the one with the least sum
of squared stage times, so that no stage is nearer to the limit than it must be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from pipeline.planner.costs import Costs
from pipeline.planner.search import Choice, bits, extend
from pipeline.planner.types import GroupPlan, StagePlan

BRUTE_FORCE = 8

Cuts = tuple[int, ...]
"""Ends of the stages' ranges; the last is the number of layers."""


def build_ring(costs: Costs, choice: Choice) -> GroupPlan:
    """The best ring of the chosen workers; without spares."""
    order = _best_order(costs, choice)
    cuts = balanced_cuts(costs, order, choice.limit)
    assert cuts is not None
    stages = tuple(
        StagePlan(
            costs.candidates[index].peer_id,
            first,
            last,
            costs.memory(first, last),
            costs.seconds(index, first, last),
        )
        for index, first, last in zip(order, (0, *cuts[:-1]), cuts, strict=True)
    )
    return ring_of(stages, costs.ring_latency(order))


def ring_of(stages: tuple[StagePlan, ...], latency: float) -> GroupPlan:
    """A group plan with its derived figures; `latency` is seconds on the wire around the ring."""
    slowest = max(stage.seconds for stage in stages)
    around = math.fsum(stage.seconds for stage in stages) + latency
    return GroupPlan(
        stages=stages,
        bottleneck_seconds=slowest,
        ring_seconds=around,
    )


def balanced_cuts(costs: Costs, order: Sequence[int], limit: float) -> Cuts | None:
    """The most even cut of the layers over workers in this order; None if none fits `limit`.

    Dynamic programming over (stages placed, layers covered): O(stages · layers²).
    """
    layers, k = costs.needs.layers, len(order)
    best: dict[int, tuple[float, Cuts]] = {0: (0.0, ())}
    for placed, index in enumerate(order, start=1):
        ends = range(placed, layers - (k - placed) + 1) if placed < k else (layers,)
        following: dict[int, tuple[float, Cuts]] = {}
        for end in ends:
            for start, (cost, cuts) in best.items():
                if not costs.fits(index, start, end, limit):
                    continue
                total = cost + costs.seconds(index, start, end) ** 2
                if end not in following or (total, cuts) < (
                    following[end][0],
                    following[end][1][:-1],
                ):
                    following[end] = (total, (*cuts, end))
        best = following
    return best[layers][1] if layers in best else None


def _best_order(costs: Costs, choice: Choice) -> tuple[int, ...]:
    tables = {index: costs.reaches(index, choice.limit) for index in choice.order}
    if len(choice.order) > BRUTE_FORCE:
        return _improved(costs, choice.order, tables)
    chosen = costs.ring_latency(choice.order)
    ranked = sorted(
        (latency, order)
        for order in permutations(sorted(choice.order))
        if (latency := costs.ring_latency(order)) < chosen
    )
    return next((order for _, order in ranked if _feasible(costs, order, tables)), choice.order)


def _improved(
    costs: Costs, order: tuple[int, ...], tables: Mapping[int, Sequence[int]]
) -> tuple[int, ...]:
    """Local search from the given order: take any feasible reversal or swap that is faster."""
    latency = costs.ring_latency(order)
    improved = True
    while improved:
        improved = False
        for other in _neighbours(order):
            faster = costs.ring_latency(other)
            if faster < latency and _feasible(costs, other, tables):
                order, latency, improved = other, faster, True
                break
    return order


def _neighbours(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for i in range(len(order)):
        for j in range(i + 1, len(order)):
            yield (*order[:i], *reversed(order[i : j + 1]), *order[j + 1 :])
            swapped = list(order)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            yield tuple(swapped)


def _feasible(costs: Costs, order: Sequence[int], tables: Mapping[int, Sequence[int]]) -> bool:
    layers = costs.needs.layers
    ends = 1
    for index in order[:-1]:
        ends = extend(ends, tables[index], layers)
    return any(tables[order[-1]][at] == layers for at in bits(ends))
