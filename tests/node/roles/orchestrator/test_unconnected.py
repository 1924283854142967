"""Two workers that do not connect to one another are planned apart, and not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.roles.orchestrator.coordinator.commands import BuildGroup
from node.roles.orchestrator.coordinator.events import GroupBroken, GroupUp, QueueRead, Tick
from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.unconnected import ApartTerms, Unconnected
from node.roles.orchestrator.snapshot import waits_for
from tests.node.roles.orchestrator.coordination import Pool, unit

TERMS = ApartTerms()


class Divided(Pool):
    """A pool in which some pairs of workers do not connect: a ring in which two such are neighbours
    fails after half a minute, any other comes up."""

    def __init__(self, *pairs: str, stages: int = 3) -> None:
        super().__init__(stages=stages)
        self.pairs = [set(pair.split("-")) for pair in pairs]
        self.builds: list[tuple[str, ...]] = []

    def run(self, seconds: float, step: float = 0.5) -> None:
        """Carry out builds until so much time has passed."""
        until = self.now + seconds
        while self.now < until:
            self.now += step
            self.feed(Tick())
            while self.commands:
                command = self.commands.pop(0)
                if isinstance(command, BuildGroup):
                    self._build(command)

    def _build(self, build: BuildGroup) -> None:
        ring = tuple(stage.peer_id for stage in build.plan.stages)
        self.builds.append(ring)
        for peer, following in zip(ring, ring[1:] + ring[:1], strict=True):
            if {peer, following} in self.pairs:
                self.now += 30.0
                names = (peer, following)
                reason = f"ring of stage 0: {peer} has no connection to {following}"
                self.feed(GroupBroken(build.group_id, build.generation, reason, "", names, names))
                return
        self.feed(GroupUp(build.group_id, build.generation))

    @property
    def group(self) -> Group:
        (group,) = self.pool.groups.values()
        return group


@pytest.mark.parametrize("pair", ["w1-w2", "w2-w3", "w1-w3"])
def test_after_two_failed_builds_a_worker_that_stands_by_takes_the_place_of_one(pair: str) -> None:
    pool = Divided(pair)
    for name in ("w1", "w2", "w3", "w4"):
        pool.join(name)
    pool.run(120.0)
    assert pool.builds[:2] == [("w1", "w2", "w3")] * 2
    assert len(pool.builds) == 3
    assert "w4" in pool.builds[2]
    assert len(pool.builds[2]) == 3
    assert pool.group.state is GroupState.RUNNING
    assert [m.strikes for m in pool.pool.members.values()] == [0] * 4


def test_without_a_substitute_a_smaller_ring_does_the_work() -> None:
    pool = Divided("w1-w2")
    for name in ("w1", "w2", "w3"):
        pool.join(name)
    pool.run(120.0)
    assert pool.builds == [("w1", "w2", "w3")] * 2 + [("w1", "w3")]
    assert pool.group.state is GroupState.RUNNING


def test_where_nobody_else_is_there_the_reason_is_told_and_builds_end() -> None:
    pool = Divided("w1-w2", stages=2)
    pool.feed(QueueRead((unit(1),)))
    pool.join("w1")
    pool.join("w2")
    pool.run(600.0)
    assert pool.builds == [("w1", "w2")] * 2
    said = waits_for(pool.pool)
    assert "work waits for workers: w1 and w2 do not connect to one another" in said
    assert "w1 has no connection to w2" in said
    pool.join("w3")
    pool.run(10.0)
    assert pool.group.state is GroupState.RUNNING
    assert pool.builds[2] == ("w1", "w3")
    assert waits_for(pool.pool) == ""


def test_it_is_forgotten_and_a_pair_that_fails_again_is_known() -> None:
    pool = Divided("w1-w2", stages=2)
    pool.join("w1")
    pool.join("w2")
    pool.run(4 * TERMS.forget, step=10.0)
    assert len(pool.builds) == 4  # two at first, then one after each forgetting
    pool.pairs.clear()
    pool.run(8 * TERMS.forget, step=10.0)
    assert pool.group.state is GroupState.RUNNING
    assert len(pool.builds) == 5


def test_several_pairs_at_once() -> None:
    pool = Divided("w1-w2", "w1-w3", "w2-w4")
    for name in ("w1", "w2", "w3", "w4", "w5", "w6"):
        pool.join(name)
    pool.run(600.0)
    rings = [group.peers for group in pool.pool.groups.values()]
    assert all(group.state is GroupState.RUNNING for group in pool.pool.groups.values())
    assert sorted(len(ring) for ring in rings) == [2, 3]
    assert len(pool.builds) <= 2 * len(pool.pairs) + len(rings)


def test_a_build_that_comes_up_clears_the_pair_whatever_failed_once() -> None:
    table = Unconnected()
    table.note(("a", "b"), "no", 0.0)
    table.connected(("a", "c", "b"))  # of three, all are neighbours
    table.note(("a", "b"), "no", 1.0)
    assert table.within(("a", "b"), 2.0) is None
    table.note(("b", "a"), "no", 3.0)
    assert table.within(("a", "b"), 4.0) == ("a", "b")
    assert table.within(("c", "b", "x", "a"), 4.0) is None
    assert table.within(("b", "x", "a"), 4.0) == ("a", "b")
    assert table.within(("a",), 4.0) is None
    table.note(("a",), "a lone stage has no edge", 4.0)


@given(st.lists(st.floats(0.0, 3 * TERMS.longest), max_size=40))
def test_a_pair_is_never_apart_for_longer_than_the_longest(pauses: list[float]) -> None:
    table, now = Unconnected(), 0.0
    for pause in pauses:
        now += pause
        table.note(("a", "b"), "no", now)
        assert table.within(("a", "b"), now + TERMS.longest + 1.0) is None
    if len(pauses) >= 2:
        table.note(("a", "b"), "no", now)
        assert table.within(("a", "b"), now) == ("a", "b")
