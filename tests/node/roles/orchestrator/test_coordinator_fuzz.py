"""Any order of events: the books stay straight."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq

from hypothesis import given, settings
from hypothesis import strategies as st

from node.roles.orchestrator.coordinator.commands import RecordUnit
from node.roles.orchestrator.coordinator.events import (
    BundleMissed,
    ChainQuorum,
    ClaimsFailed,
    EngineEnded,
    Event,
    GroupBroken,
    GroupUp,
    PeerAnnounced,
    PeerAppeared,
    PeerClaimed,
    PeerDeclined,
    PeerFinished,
    PeerGone,
    PeerJoined,
    PeerPinged,
    PeerTokens,
    PeerValidates,
    PeerVerdict,
    QueueRead,
    Tick,
    UnitRefused,
    UnitsFailed,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.tables import AT_WORK
from node.roles.orchestrator.coordinator.units import ENDED, Unit, UnitState
from proofs.evidence.sequence import FinishReason
from tests.node.roles.orchestrator.coordination import WORKERS, Pool, unit

PEER_EVENTS = ["announce", "join", "decline", "miss", "pong", "gone", "tokens", "finish", "claim"]
OTHER_EVENTS = ["up", "broken", "claims_failed", "refused", "failed", "accept", "reject", "tick"]
OTHER_EVENTS += ["ended"]
JUDGE_EVENTS = ["validates", "quorum", "appears", "missed"]
JUDGES = ("v1", "v2", "v3")
EVENTS = st.sampled_from([*PEER_EVENTS, *OTHER_EVENTS, *JUDGE_EVENTS])


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=120), st.integers(0, 2**32))
def test_any_order_of_events_keeps_the_books_straight(names: list[str], seed: int) -> None:
    """Whatever happens: no illegal step, no worker in two rings, and nothing is paid twice."""
    choose = random.Random(seed)
    pool = Pool(stages=choose.choice([0, 2, 3]))
    works = tuple(unit(n) for n in range(1, 4))
    pool.feed(QueueRead(works))
    pool.validators(v1=3, v2=2, v3=1)
    accepted: list[bytes] = []
    for name in names:
        pool.now += choose.random() * 5
        for command in pool.feed(_event(name, pool, works, choose)):
            if isinstance(command, RecordUnit) and command.unit.state is UnitState.ACCEPTED:
                accepted.append(command.unit.unit_id)
        _check_stake(pool)
        _check_counts(pool)
        live = list(pool.pool.groups.values())
        peers = [p for g in live if g.state is not GroupState.REPAIRING for p in g.peers]
        assert len(peers) == len(set(peers))
        assert len(accepted) == len(set(accepted))
        for work in works:
            for s in pool.unit(work).sequences:
                assert len(s.output_ids) <= s.request.max_tokens


def _check_counts(pool: Pool) -> None:
    """What the table of units counts as it goes is what counting anew would give."""
    table = pool.coordinator._applier._tables.units
    units = list(table.values())
    for at_work in table.in_state(*AT_WORK):  # no unit runs again where it has failed
        assert at_work.generation not in {f.generation for f in at_work.failures}
        assert len(at_work.failures) < pool.pool.policy.attempts
    assert not any(u.state in ENDED for u in units)
    assert dict(pool.pool.units) == dict(table)
    for state in UnitState:
        assert {u.unit_id for u in table.in_state(state)} == {
            u.unit_id for u in units if u.state is state
        }
    for group_id in {u.group_id for u in units} | set(pool.pool.groups):
        mine = [u for u in units if u.group_id == group_id]
        assert {u.unit_id for u in mine if group_id} == {
            u.unit_id for u in table.in_group(group_id)
        }
        at_work = [u for u in mine if u.state in AT_WORK]
        unfinished = sum(not s.finished for u in at_work for s in u.sequences)
        assert table.load.get(group_id, 0) == unfinished
    assert table.tokens == sum(len(s.output_ids) for u in units for s in u.sequences)
    assert table.reserved == sum(u.reserved for u in units)


def _check_stake(pool: Pool) -> None:
    """A unit waits as long as the stake that was heard decides nothing, and no longer."""
    tables = pool.pool
    spare = tables.total_weight - tables.needed_weight
    for current in tables.units.values():
        heard = current.opinions.items()
        pro = sum(tables.weights.get(p, 0) for p, o in heard if o.accepted)
        con = sum(tables.weights.get(p, 0) for p, o in heard if not o.accepted)
        if current.state is UnitState.VERIFYING:
            assert pro < tables.needed_weight
            awaited = any(peer_id in tables.validators for peer_id in current.pending_validators)
            assert con <= spare or awaited


def _event(name: str, pool: Pool, works: Seq[Unit], choose: random.Random) -> Event:
    peer = choose.choice([*WORKERS, "w4"])
    current = pool.unit(choose.choice(works))
    groups = list(pool.pool.groups.values())
    group = choose.choice(groups) if groups else None
    group_id = group.group_id if group else b""
    generation = group.generation if group and choose.random() < 0.9 else 1
    seq = choose.choice(current.sequences)
    ids = tuple(choose.randrange(9) for _ in range(choose.randint(1, 9)))
    offset = choose.randint(0, len(seq.output_ids))
    grown = (seq.output_ids + ids)[:8]
    match name:
        case "ended":
            return EngineEnded(group_id, generation, choose.randint(0, 3), "engine exited")
        case "announce":
            return PeerAnnounced(peer, 1, 0.0, None, "")
        case "join":
            return PeerJoined(peer, "0x", "0x")
        case "decline":
            return PeerDeclined(peer, "no")
        case "miss" | "pong":
            return PeerPinged(peer, name == "pong")
        case "gone":
            return PeerGone(peer, "gone")
        case "up":
            return GroupUp(group_id, generation)
        case "broken":
            return GroupBroken(group_id, generation, "broke", choose.choice([peer, ""]))
        case "tokens":
            return PeerTokens(generation, current.unit_id, seq.sequence_id, offset, ids)
        case "finish":
            return PeerFinished(
                generation, current.unit_id, seq.sequence_id, FinishReason.LENGTH, grown
            )
        case "claim":
            return PeerClaimed(current.unit_id, generation, choose.randrange(3), b"c")
        case "claims_failed":
            return ClaimsFailed(current.unit_id, generation, "late")
        case "refused":
            return UnitRefused(current.unit_id, generation, "absurd")
        case "failed":
            stage = choose.randrange(3)
            return UnitsFailed(group_id, generation, stage, (current.unit_id,), "not finite")
        case "accept" | "reject":
            if current.state is UnitState.VERIFYING:
                pool.bundle(current)
            bundle_id = pool.unit(current).bundle_id
            faulty = peer if name == "reject" and choose.random() < 0.3 else ""
            judge = choose.choice(JUDGES)
            return PeerVerdict(
                judge, current.unit_id, bundle_id, name == "accept", faulty, name, {}
            )
        case "validates":
            return PeerValidates(choose.choice(JUDGES), choose.randrange(4))
        case "appears":
            return PeerAppeared(choose.choice(JUDGES), choose.random() < 0.5)
        case "missed":
            return BundleMissed(current.unit_id, choose.choice(JUDGES))
        case "quorum":
            return ChainQuorum(choose.randrange(12), choose.choice([5001, 6667, 10_000]))
    return Tick()
