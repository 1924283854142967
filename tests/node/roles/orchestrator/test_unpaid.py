"""The ring that finishes a unit is paid for all of it; what others had done of it is told."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from node.roles.orchestrator.coordinator.events import (
    PeerGone,
    PeerTokens,
    QueueRead,
    Tick,
)
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from tests.node.roles.orchestrator.coordination import LAYERS, Pool, sequence, unit

PROMPT = 3


def unpaid(pool: Pool) -> dict[str, int]:
    return {m.peer_id: m.unpaid for m in pool.pool.members.values() if m.unpaid}


def nearly_done(pool: Pool, work: Unit) -> None:
    """All but the last token of its sequences are there when the third stage dies."""
    current = pool.pool.units[work.unit_id]
    for s in current.sequences:
        ids = (5,) * 7
        pool.feed(PeerTokens(current.generation, work.unit_id, s.sequence_id, 0, ids))
    pool.feed(PeerGone("w3", "it died"))
    pool.now += 1.0
    pool.feed(Tick())
    pool.build_done()


def test_whoever_died_at_nine_tenths_is_told_what_it_did_for_nothing() -> None:
    pool, work = Pool(), unit(1)
    pool.validators(v1=1)
    pool.feed(QueueRead((work,)))
    pool.up()
    nearly_done(pool, work)
    pool.produce(work)
    assert unpaid(pool) == {}  # it may be rejected yet, and pay nobody
    pool.verdict(work)
    assert pool.state(work) is UnitState.ACCEPTED
    assert unpaid(pool) == {"w3": LAYERS // 3 * 2 * (PROMPT + 7)}


def test_whoever_is_in_the_ring_that_finishes_is_paid_for_all_of_it() -> None:
    """Whatever it did in rings before: its evidence is about the whole unit."""
    pool, work = Pool(), unit(1)
    pool.validators(v1=1)
    pool.feed(QueueRead((work,)))
    pool.up()
    pool.produce(work)
    pool.verdict(work)
    assert unpaid(pool) == {}


def test_it_adds_up_over_units_and_outlives_the_workers_return() -> None:
    pool, works = Pool(), (unit(1), unit(2))
    pool.validators(v1=1)
    pool.feed(QueueRead(works))
    pool.up()
    current = pool.pool.units[works[1].unit_id]
    first = current.sequences[0].sequence_id
    pool.feed(PeerTokens(current.generation, works[1].unit_id, first, 0, (5, 5)))
    nearly_done(pool, works[0])
    pool.join("w3")
    for work in works:
        pool.produce(work)
        pool.verdict(work)
    assert unpaid(pool) == {"w3": LAYERS // 3 * (2 * (PROMPT + 7) + PROMPT + 2)}


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), max_size=6))
def test_every_token_is_one_generations(runs: list[tuple[int, int]]) -> None:
    made = sequence(1)
    made = replace(made, request=made.request.model_copy(update={"max_tokens": 64}))
    expected: dict[int, int] = {}
    for count, generation in runs:
        known = len(made.output_ids)
        made = made.extended(generation, known, (7,) * count)
        prompt = 0 if known else PROMPT
        expected[generation] = expected.get(generation, 0) + prompt + count
    assert made.tokens_by_generation() == expected
