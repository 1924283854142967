"""Repairs: spares take lost places and members keep theirs, or the layers are split anew."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.planner import Candidate, CannotPlan, ModelNeeds, plan_groups, replan

from .conftest import NO_LINKS, any_needs, any_workers, check, uniform, workers


@settings(max_examples=150, deadline=None)
@given(any_workers(6), any_needs(), st.sets(st.integers(0, 5), max_size=3))
def test_repairs_are_sound_and_keep_members_where_spares_suffice(
    candidates: list[Candidate], needs: ModelNeeds, gone: set[int]
) -> None:
    try:
        (group,) = plan_groups(candidates, NO_LINKS, needs, max_stages=3).groups
    except CannotPlan:
        assume(False)
    lost = {f"w{i}" for i in gone}
    left = [c for c in candidates if c.peer_id not in lost]
    try:
        repaired = replan(group, lost, candidates, NO_LINKS, needs, max_stages=3)
    except CannotPlan:
        with pytest.raises(CannotPlan):
            plan_groups(left, NO_LINKS, needs, max_stages=3)
        return
    check(repaired, left, needs)
    vacant = [s for s in group.stages if s.peer_id in lost]
    spares = [c for c in left if c.peer_id in group.spares]
    if any(
        all(c.memory_bytes >= s.memory_bytes for c, s in zip(order, vacant, strict=True))
        for order in permutations(spares, len(vacant))
    ):
        for before, after in zip(group.stages, repaired.stages, strict=True):
            assert (before.first_layer, before.last_layer) == (after.first_layer, after.last_layer)
            assert before.peer_id == after.peer_id or before.peer_id in lost


def test_a_spare_takes_the_lost_place_and_without_one_the_layers_are_split_anew() -> None:
    candidates = workers(1.0, 1.0, 1.0, 1.5)
    (group,) = plan_groups(candidates, NO_LINKS, uniform(), min_stages=3, max_stages=3).groups
    assert group.spares == ("w3",)
    lost = group.peers[1]
    survivors = [c for c in candidates if c.peer_id != lost]  # absence is loss enough
    repaired = replan(group, set(), survivors, NO_LINKS, uniform())
    assert repaired.peers == (group.peers[0], "w3", group.peers[2])
    assert repaired.bottleneck_seconds == 15.0
    assert repaired.spares == ()
    again = replan(repaired, {"w3"}, survivors, NO_LINKS, uniform())
    assert [s.last_layer - s.first_layer for s in again.stages] == [15, 15]
    assert set(again.peers) == {group.peers[0], group.peers[2]}
    with pytest.raises(CannotPlan, match="0 workers ready"):
        replan(again, {"w3", *again.peers}, survivors, NO_LINKS, uniform())


def test_a_plan_for_another_model_is_made_anew() -> None:
    (group,) = plan_groups(workers(1.0, 1.0), NO_LINKS, uniform(30)).groups
    repaired = replan(group, set(), workers(1.0, 1.0), NO_LINKS, uniform(12))
    assert repaired.stages[-1].last_layer == 12
