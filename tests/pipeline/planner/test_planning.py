"""Plans: covered, within memory, optimal against brute force, deterministic, and clear refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.models.layout import LayerTable
from pipeline.planner import Candidate, CannotPlan, LinkTable, ModelNeeds, plan_groups
from pipeline.planner.search import SearchLimits

from .conftest import GIB, NO_LINKS, any_needs, any_workers, brute_force, check, uniform, workers


@settings(max_examples=300, deadline=None)
@given(any_workers(4), any_needs(), st.integers(1, 3), st.integers(0, 3))
def test_plans_are_sound_and_as_fast_as_brute_force_finds(
    candidates: list[Candidate], needs: ModelNeeds, low: int, more: int
) -> None:
    expected = brute_force(candidates, needs, low, low + more)
    try:
        (group,) = plan_groups(
            candidates, NO_LINKS, needs, min_stages=low, max_stages=low + more
        ).groups
    except CannotPlan:
        assert expected is None
        return
    check(group, candidates, needs)
    assert (group.bottleneck_seconds, len(group.stages)) == expected


@settings(max_examples=200, deadline=None)
@given(any_workers(5), any_needs(like_layers=True), st.integers(1, 3), st.integers(0, 3))
def test_the_search_for_many_workers_is_exact_for_like_layers(
    candidates: list[Candidate], needs: ModelNeeds, low: int, more: int
) -> None:
    expected = brute_force(candidates, needs, low, low + more)
    try:
        (group,) = plan_groups(
            candidates,
            NO_LINKS,
            needs,
            min_stages=low,
            max_stages=low + more,
            search=SearchLimits(exact=0),
        ).groups
    except CannotPlan:
        assert expected is None
        return
    check(group, candidates, needs)
    assert (group.bottleneck_seconds, len(group.stages)) == expected


@settings(max_examples=50, deadline=None)
@given(any_workers(14), any_needs())
def test_the_search_for_many_workers_is_sound_for_unlike_layers(
    candidates: list[Candidate], needs: ModelNeeds
) -> None:
    few = SearchLimits(exact=0, shortlist=8)
    try:
        (group,) = plan_groups(candidates, NO_LINKS, needs, search=few).groups
    except CannotPlan:
        return
    check(group, candidates, needs)


@settings(max_examples=60, deadline=None)
@given(any_workers(6), any_needs(), st.randoms(use_true_random=False), st.integers(0, 5))
def test_the_order_of_candidates_makes_no_difference(
    candidates: list[Candidate], needs: ModelNeeds, random: object, seed: int
) -> None:
    def outcome(given_order: Sequence[Candidate]) -> object:
        try:
            return plan_groups(given_order, NO_LINKS, needs, max_groups=2, seed=seed)
        except CannotPlan as refusal:
            return refusal.reason

    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert outcome(shuffled) == outcome(candidates)


def test_the_seed_decides_between_equal_workers() -> None:
    plans = {
        plan_groups(workers(*[1.0] * 5), NO_LINKS, uniform(), max_stages=3, seed=seed).groups[0]
        for seed in range(20)
    }
    assert len({plan.peers for plan in plans}) > 1
    assert {plan.bottleneck_seconds for plan in plans} == {10.0}


def test_equal_workers_share_evenly_and_the_heads_cost_counts() -> None:
    (group,) = plan_groups(workers(1.0, 1.0, 1.0), NO_LINKS, uniform()).groups
    assert [s.last_layer - s.first_layer for s in group.stages] == [10, 10, 10]
    (group,) = plan_groups(workers(1.0, 1.0, 1.0), NO_LINKS, uniform(head_cost=6.0)).groups
    assert [s.last_layer - s.first_layer for s in group.stages] == [12, 12, 6]


def test_a_slow_worker_gets_fewer_layers_and_a_small_one_what_it_holds() -> None:
    candidates = [
        Candidate("fast", GIB, 1.0),
        Candidate("slow", GIB, 2.0),
        Candidate("small", 40, 0.1),
    ]
    (group,) = plan_groups(candidates, NO_LINKS, uniform()).groups
    got = {stage.peer_id: stage.last_layer - stage.first_layer for stage in group.stages}
    assert got == {"fast": 18, "slow": 8, "small": 4}


def test_fewer_stages_when_more_would_not_be_faster() -> None:
    (group,) = plan_groups(workers(1.0, 1.0, 1.0), NO_LINKS, uniform(2)).groups
    assert len(group.stages) == 2
    assert len(group.spares) == 1


def test_unknown_speeds_count_as_the_slowest_known() -> None:
    candidates = workers(1.0, 2.0, 0.0, -1.0, math.nan, math.inf)
    (group,) = plan_groups(candidates, NO_LINKS, uniform(60)).groups
    seconds = {s.peer_id: s.seconds / (s.last_layer - s.first_layer) for s in group.stages}
    assert seconds == {"w0": 1.0, "w1": 2.0, "w2": 2.0, "w3": 2.0, "w4": 2.0, "w5": 2.0}
    (group,) = plan_groups(workers(0.0, 0.0), NO_LINKS, uniform(10)).groups
    assert [s.last_layer for s in group.stages] == [5, 10]


@pytest.mark.parametrize("count", [4, 12])
def test_the_ring_follows_the_shortest_way_round(count: int) -> None:
    """Workers on a line, 10 ms apart: out and back is the shortest ring, whatever their names."""
    places = [(i * 7) % count for i in range(count)]
    links = LinkTable(
        {
            (f"w{i}", f"w{j}"): abs(places[i] - places[j]) * 0.010
            for i in range(count)
            for j in range(i)
        }
    )
    (group,) = plan_groups(
        workers(*[0.001] * count), links, uniform(3 * count), min_stages=count
    ).groups
    on_wire = group.ring_seconds - math.fsum(s.seconds for s in group.stages)
    assert on_wire == pytest.approx(0.010 * (count - 1))


def test_claimed_locations_stand_in_for_links_and_nonsense_is_ignored() -> None:
    cities = {
        "paris": (48.9, 2.4),
        "lyon": (45.8, 4.8),
        "tokyo": (35.7, 139.7),
        "osaka": (34.7, 135.5),
    }
    candidates = [Candidate(name, GIB, 1.0, place) for name, place in cities.items()]
    (group,) = plan_groups(candidates, NO_LINKS, uniform(), min_stages=4).groups
    ring = group.peers
    neighbours = {frozenset((ring[i], ring[i - 1])) for i in range(4)}
    assert {frozenset(("paris", "lyon")), frozenset(("tokyo", "osaka"))} <= neighbours
    lost = [
        Candidate(f"x{i}", GIB, 1.0, (bad, 0.0)) for i, bad in enumerate((math.nan, math.inf, 1e9))
    ]
    (group,) = plan_groups([*candidates, *lost], NO_LINKS, uniform(70)).groups
    assert math.isfinite(group.ring_seconds)


def test_several_groups_when_that_serves_more() -> None:
    """Two layers, four workers that hold one each: two rings of two are twice one."""
    plan = plan_groups(workers(1.0, 1.0, 1.0, 1.0, memory=10), NO_LINKS, uniform(2), max_groups=3)
    assert len(plan.groups) == 2
    peers = [peer for group in plan.groups for peer in group.peers]
    assert len(peers) == len(set(peers)) == 4
    assert len(plan_groups(workers(1.0, 1.0), NO_LINKS, uniform(2)).groups) == 1


def test_refusals_say_what_is_missing() -> None:
    needs = ModelNeeds((GIB,) * 10, (1024,) * 10, 1024, embed_bytes=GIB, head_bytes=GIB)
    small = workers(1.0, 1.0, memory=4 * GIB)
    with pytest.raises(CannotPlan, match=r"needs 12\.0 GiB .*offer 8\.0 GiB.*Add a worker") as info:
        plan_groups(small, NO_LINKS, needs)
    helper = Candidate("helper", info.value.missing_bytes, 1.0)
    check(plan_groups([*small, helper], NO_LINKS, needs).groups[0], [*small, helper], needs)
    with pytest.raises(CannotPlan, match="no cut into 1 to 30 stages fits the 30 workers"):
        plan_groups(workers(*[1.0] * 30, memory=GIB), NO_LINKS, needs)
    with pytest.raises(CannotPlan, match="3 stages wanted and 2 workers ready: start 1 more"):
        plan_groups(small, NO_LINKS, needs, min_stages=3)
    with pytest.raises(CannotPlan, match="0 workers ready"):
        plan_groups([], NO_LINKS, needs)
    with pytest.raises(CannotPlan, match="has 1 layers"):
        plan_groups(workers(1.0, 1.0), NO_LINKS, uniform(1), min_stages=2)
    with pytest.raises(CannotPlan, match="listed twice"):
        plan_groups([*small, small[0]], NO_LINKS, needs)
    for low, high, groups in ((0, 1, 1), (3, 2, 1), (1, 257, 1), (1, 2, 0)):
        with pytest.raises(CannotPlan, match="ask for"):
            plan_groups(small, NO_LINKS, needs, min_stages=low, max_stages=high, max_groups=groups)


def test_needs_come_from_a_layer_table() -> None:
    table = LayerTable(576, 4, (100, 300), (8, 8), 50, 400, True)
    needs = ModelNeeds.of(table, kv_tokens=7)
    assert (needs.layer_bytes, needs.kv_bytes_per_token, needs.hidden_bytes) == (
        (100, 300),
        (8, 8),
        2304,
    )
    assert needs.head_cost == 2.0
    (group,) = plan_groups(workers(1.0), NO_LINKS, needs).groups
    assert group.stages[0].memory_bytes == table.weights(0, 2) + table.kv(0, 2, 7)
    with pytest.raises(ValueError, match="one weight size"):
        ModelNeeds((), (), 1)
    with pytest.raises(ValueError, match="negative"):
        ModelNeeds((1,), (1,), -1)
