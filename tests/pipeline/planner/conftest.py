"""Strategies, the definitions of a stage's cost written out once more, and brute force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, permutations

from hypothesis import strategies as st

from pipeline.planner import Candidate, GroupPlan, LinkTable, ModelNeeds

NO_LINKS = LinkTable()
GIB = 1 << 30


def uniform(layers: int = 30, **changes: float) -> ModelNeeds:
    return ModelNeeds((10,) * layers, (1,) * layers, 0, **changes)  # type: ignore[arg-type]


def workers(*speeds: float, memory: int = GIB) -> list[Candidate]:
    return [Candidate(f"w{i}", memory, speed) for i, speed in enumerate(speeds)]


@st.composite
def any_needs(draw: st.DrawFn, like_layers: bool = False) -> ModelNeeds:
    layers = draw(st.integers(1, 6))
    sizes = st.integers(1, 9)
    some = (
        (draw(sizes),) * layers
        if like_layers
        else tuple(draw(st.lists(sizes, min_size=layers, max_size=layers)))
    )
    return ModelNeeds(
        layer_bytes=some,
        kv_bytes_per_token=(draw(st.integers(0, 2)),) * layers,
        kv_tokens=draw(st.integers(0, 3)),
        embed_bytes=draw(st.integers(0, 6)),
        head_bytes=draw(st.integers(0, 6)),
        tied=draw(st.booleans()),
        embed_cost=draw(st.sampled_from([0.0, 0.5])),
        head_cost=draw(st.sampled_from([0.0, 1.0, 2.5])),
    )


def any_workers(most: int) -> st.SearchStrategy[list[Candidate]]:
    one = st.tuples(st.integers(0, 60), st.sampled_from([1.0, 1.5, 2.0, 3.0, 7.0]))
    return st.lists(one, min_size=1, max_size=most).map(
        lambda rows: [Candidate(f"w{i}", memory, speed) for i, (memory, speed) in enumerate(rows)]
    )


def stage_memory(needs: ModelNeeds, first: int, last: int) -> int:
    """The definition, written out once more."""
    weights = sum(needs.layer_bytes[first:last])
    kv = sum(needs.kv_bytes_per_token[first:last]) * needs.kv_tokens
    ends = (needs.embed_bytes if first == 0 else 0) + (
        needs.head_bytes if last == needs.layers else 0
    )
    if needs.tied and first == 0 and last == needs.layers:
        ends = max(needs.embed_bytes, needs.head_bytes)
    return weights + kv + ends


def stage_seconds(needs: ModelNeeds, speed: float, first: int, last: int) -> float:
    units = last - first + (needs.embed_cost if first == 0 else 0.0)
    return speed * (units + (needs.head_cost if last == needs.layers else 0.0))


def brute_force(
    candidates: Sequence[Candidate], needs: ModelNeeds, low: int, high: int
) -> tuple[float, int] | None:
    """(slowest stage, stages) of the best plan over every order and every cut."""
    best: tuple[float, int] | None = None
    for k in range(low, min(high, len(candidates), needs.layers) + 1):
        for order in permutations(candidates, k):
            for inner in combinations(range(1, needs.layers), k - 1):
                ranges = list(zip((0, *inner), (*inner, needs.layers), strict=True))
                if all(
                    stage_memory(needs, a, b) <= c.memory_bytes
                    for c, (a, b) in zip(order, ranges, strict=True)
                ):
                    slowest = max(
                        stage_seconds(needs, c.layer_seconds, a, b)
                        for c, (a, b) in zip(order, ranges, strict=True)
                    )
                    best = min(best or (math.inf, 0), (slowest, k))
    return best


def check(group: GroupPlan, candidates: Sequence[Candidate], needs: ModelNeeds) -> None:
    """What every plan must satisfy."""
    known = {candidate.peer_id: candidate for candidate in candidates}
    assert group.stages[0].first_layer == 0
    assert group.stages[-1].last_layer == needs.layers
    for one, other in zip(group.stages, group.stages[1:], strict=False):
        assert one.last_layer == other.first_layer
    for stage in group.stages:
        assert stage.first_layer < stage.last_layer
        assert stage.memory_bytes == stage_memory(needs, stage.first_layer, stage.last_layer)
        assert stage.memory_bytes <= known[stage.peer_id].memory_bytes
        speed = known[stage.peer_id].layer_seconds
        assert stage.seconds == stage_seconds(needs, speed, stage.first_layer, stage.last_layer)
    assert group.bottleneck_seconds == max(stage.seconds for stage in group.stages)
    assert len(set(group.peers)) == len(group.peers)
    assert set(group.spares) == set(known) - set(group.peers)
