"""Who sent bad rows, and who garbled good ones: whoever is accused shows what it received."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.validator.bundle_state import QueueLimits
from node.roles.validator.journal_events import AskedStage, RowsAsked, VerdictSigned
from node.roles.validator.settlement.convictions import conviction_of
from node.wire.messages.settlement import FetchedChunk, FetchRequest
from node.wire.messages.verification import Countersigned, CountersignRequest
from node.wire.methods import COUNTERSIGN, FETCH
from node.wire.rpc import serve
from p2p.errors import Refused
from proofs.encoding.signing import sign_digest
from proofs.evidence.bundle import StageClaim, UnitBundle
from proofs.verdict.message import SignedVerdict
from tests.adversarial.harness import VALIDATOR_TIMING, Node, eventually, until
from tests.adversarial.standins import DOMAIN, POOL, rows_of
from tests.adversarial.validator_scenario import ValidatorScenario, ring_bundle

OnFetch = Callable[[str, FetchRequest], Awaitable[FetchedChunk]]


def banned(network: Any) -> set[str]:
    members = network.orchestrator.pool.members.values()
    return {m.peer_id for m in members if m.state is MemberState.BANNED}


def off(network: Any, *stages: int) -> None:
    """These stages' proofs are not what the validators compute."""
    for engine in network.judge_engines:
        engine.mismatches = 128
        engine.off = frozenset(stages)


async def convicted(network: Any, stage: int) -> None:
    """`stage` and nobody else is banned, and has its provider slashed."""
    cheat = network.stage(stage)
    await network.submit()
    await eventually(lambda: banned(network))
    assert banned(network) == {cheat.peer_id}
    await eventually(lambda: network.ledger.convictions)
    assert {c.node for c in network.ledger.convictions} == {cheat.address}
    assert network.ledger.roots == {}


async def inquiries(judge: Node) -> list[AskedStage]:
    """What the judge's only verdict rests on."""
    events = await judge.context.journal.replay(RowsAsked)
    (verdict,) = await judge.context.journal.replay(VerdictSigned)
    assert [event.key for event in events] == [verdict.key]
    return list(events[0].stages)


async def test_who_sent_bad_rows_and_signed_for_them_is_named(net) -> None:
    async with net() as network:
        network.engine(0).ring.bad = frozenset({0})
        off(network, 1)  # the first stage's proof is right
        await convicted(network, 0)
        (asked,) = await inquiries(network.judge)
        assert (asked.stage, asked.index, asked.error) == (1, 0, 9.0)
        kept = network.judge.context.blobs / f"{asked.digest.hex()}.rows"
        assert kept.read_bytes().startswith(b"0 1 ")
        answer = await network.mallory.ask(
            network.judge.peer_id, FETCH, FetchRequest(digest=asked.digest, offset=0)
        )
        assert answer["data"] == kept.read_bytes()  # other judges find it here


async def test_who_garbles_good_rows_is_named_by_showing_them(net) -> None:
    async with net(judges=(40, 35, 25)) as network:
        off(network, 1)
        await convicted(network, 1)
        for judge in network.judges[:2]:
            await eventually(lambda judge=judge: list(judge.context.blobs.glob("*.rows")))


async def test_who_shows_nothing_is_named(net) -> None:
    async with net() as network:
        network.engine(1).keeps = False
        network.engine(0).ring.bad = frozenset({0})
        off(network, 1)
        await convicted(network, 1)
        assert [asked.error for asked in await inquiries(network.judge)] == [None]


async def other_bytes(peer_id: str, request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"x" * 18, total=18)


async def other_length(peer_id: str, request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"", total=2**40)


async def refuses(peer_id: str, request: FetchRequest) -> FetchedChunk:
    raise Refused("not_here", "so I say")


@pytest.mark.parametrize("on_fetch", [other_bytes, other_length, refuses])
async def test_who_shows_something_else_is_named(net, on_fetch: OnFetch) -> None:
    async with net() as network:
        off(network, 1)
        serve(network.stage(1).network, FETCH, on_fetch)
        await convicted(network, 1)
        assert [asked.error for asked in await inquiries(network.judge)] == [None]
        assert not list(network.judge.context.blobs.glob("*.rows"))


async def test_who_countersigned_what_it_contradicts_is_named(net) -> None:
    """It takes the other stage's money or favour, and signs whatever that one asks for."""
    async with net() as network:
        network.engine(0).says["sent"] = b"r" * 32
        cheat = network.stage(1)

        async def on_countersign(peer_id: str, request: CountersignRequest) -> Countersigned:
            receipt = StageClaim.from_bytes(request.claim).receipt
            return Countersigned(signature=sign_digest(cheat.context.key, receipt.digest(DOMAIN)))

        serve(cheat.network, COUNTERSIGN, on_countersign)
        await convicted(network, 1)
        assert await network.judge.context.journal.replay(RowsAsked) == []


def repairing(network: Any) -> bool:
    groups = network.orchestrator.pool.groups.values()
    return any(group.state is GroupState.REPAIRING for group in groups)


async def test_who_sends_other_rows_than_it_signs_for_gets_no_pay_and_convicts_nobody(net) -> None:
    async with net() as network:
        network.engine(0).says["sent"] = b"r" * 32
        await network.submit()
        await until(network.orchestrator, lambda: repairing(network))
        assert banned(network) == set()
        assert not network.orchestrator.rejections
        assert network.ledger.convictions == []


@pytest.mark.parametrize(
    ("stage", "says", "suspects"),
    [
        (0, {"received": b"r" * 32}, {0}),  # it reported other tokens than it embedded
        (1, {"sequence_id": b"?" * 16}, {0, 1}),
    ],
)
async def test_claims_that_would_make_the_bundle_a_lie_go_into_none(
    net, stage: int, says: dict[str, Any], suspects: set[int]
) -> None:
    async with net() as network:
        network.engine(stage).says.update(says)
        members = network.orchestrator.pool.members
        (unit,) = await network.submit()
        await until(network.orchestrator, lambda: repairing(network))
        struck = {s for s in (0, 1) if members[network.stage(s).peer_id].strikes}
        assert struck <= suspects
        assert (await network.current(unit)).state is UnitState.PRODUCED


# -- a validator by itself --------------------------------------------------------------------


def accuse(c: ValidatorScenario, unit: bytes = b"u", **options: Any) -> UnitBundle:
    """A ring's bundle whose last stage, the pool owner's own node, is off."""
    c.may_reject = True
    c.engine.mismatches, c.engine.off = 128, frozenset({1})
    return ring_bundle((c.rival, c.owner), unit, **options)


def shows(unit: UnitBundle, *, bad: bool = False) -> OnFetch:
    content = rows_of(0, unit.sequences[0].sequence_id, bad=bad)

    async def on_fetch(peer_id: str, request: FetchRequest) -> FetchedChunk:
        return FetchedChunk(data=content[request.offset :], total=len(content))

    return on_fetch


async def test_a_stage_that_is_slow_to_show_rows_holds_no_other_up(scenario) -> None:
    timing = replace(VALIDATOR_TIMING, queue=QueueLimits(sender_inquiries=2))
    async with scenario(timing=timing) as c, c.session():
        slow = [accuse(c, bytes([number])) for number in range(3)]
        answers, asked = trio.Event(), set()

        async def on_fetch(peer_id: str, request: FetchRequest) -> FetchedChunk:
            asked.add(request.digest)
            await answers.wait()
            digests = {u.stages[1].evidence[0].received: u for u in slow}
            return await shows(digests[request.digest])(peer_id, request)

        serve(c.owner.network, FETCH, on_fetch)
        await c.verify(slow[0])
        await eventually(lambda: len(asked) == 1)
        good = c.bundle(b"good")
        await c.verify(good)
        await c.judged(good)
        for unit in slow[1:]:
            await c.verify(unit)
        await eventually(lambda: len(asked) == 2)
        mine, theirs = c.bundle(b"mine"), c.bundle(b"theirs", pool_id=POOL + 1)
        await c.verify(mine)
        await c.verify(theirs, c.rival)
        await c.judged(theirs)
        assert mine.content_id not in c.verdicts  # its sender has inquiries enough
        assert len(asked) == 2
        answers.set()
        await c.judged(mine)
        await eventually(lambda: len(c.rejected) == 3)
        assert {v.first_faulty for v in c.rejected.values()} == {1}


async def test_killed_while_it_waits_for_rows_the_next_run_asks_again(scenario) -> None:
    async with scenario() as c:
        unit = accuse(c, bad=frozenset({0}))
        asked = trio.Event()

        async def silent(peer_id: str, request: FetchRequest) -> FetchedChunk:
            asked.set()
            await trio.sleep_forever()
            raise AssertionError

        serve(c.owner.network, FETCH, silent)
        async with c.session():
            accuse(c)
            await c.verify(unit)
            await asked.wait()
        serve(c.owner.network, FETCH, shows(unit, bad=True))
        async with c.session():
            accuse(c)
            await eventually(lambda: c.rejected)
            assert c.rejected[unit.content_id].first_faulty == 0
            assert [a.error for a in await inquiries(c.judge)] == [9.0]


async def test_an_engine_that_fails_on_shown_rows_is_held_against_nobody(scenario) -> None:
    async with scenario() as c, c.session():
        unit = accuse(c)
        honest = shows(unit)

        async def on_fetch(peer_id: str, request: FetchRequest) -> FetchedChunk:
            c.engine.refuse["replay"] = "internal"
            return await honest(peer_id, request)

        serve(c.owner.network, FETCH, on_fetch)
        await c.verify(unit)
        await eventually(lambda: "replay" in c.engine.refuse and c.validator.queued == 0)
        assert await c.judge.context.journal.replay(VerdictSigned) == []
        c.engine.refuse.clear()
        serve(c.owner.network, FETCH, refuses)  # the rows are here by now
        await c.verify(unit)
        await eventually(lambda: c.rejected)
        assert c.rejected[unit.content_id].first_faulty == 1
        assert "did not reveal" not in c.rejected[unit.content_id].reason


async def test_a_stage_that_passes_on_what_it_got_is_named_and_not_the_one_before(scenario) -> None:
    """The same rows are right where they came in, and off where they went out."""
    async with scenario() as c, c.session():
        c.may_reject = True
        c.engine.mismatches, c.engine.off = 128, frozenset({2})
        honest = ring_bundle((c.rival, c.judge, c.owner), b"u")
        same = honest.stages[1].evidence[0].received
        unit = ring_bundle(
            (c.rival, c.judge, c.owner), b"u", says={1: {"sent": same}, 2: {"received": same}}
        )
        serve(c.owner.network, FETCH, shows(unit))
        await c.verify(unit)
        await eventually(lambda: c.rejected)
        assert c.rejected[unit.content_id].first_faulty == 1
        assert [a.error for a in await inquiries(c.judge)] == [9.0, 0.0]


async def test_claims_of_another_build_cannot_be_mixed_in(scenario) -> None:
    """A stage's rows differ a little from build to build, and so do its statements."""
    async with scenario() as c, c.session():
        unit = ring_bundle((c.rival, c.owner), b"u").model_copy(update={"generation": 2})
        assert await c.refused(unit) == "bad_bundle"


async def test_without_both_signatures_a_verdict_convicts_nobody(scenario) -> None:
    async with scenario() as c, c.session():
        unit = accuse(c)
        serve(c.owner.network, FETCH, refuses)
        await c.verify(unit)
        await eventually(lambda: c.rejected)
        (event,) = await c.judge.context.journal.replay(VerdictSigned)
        verdict = SignedVerdict.from_bytes(event.verdict).verdict
        found = conviction_of(unit, verdict, DOMAIN)
        assert found is not None
        assert found.node == c.owner.address
        for lost in ("receipt", "receipt_signature", "counter_signature"):
            claims = tuple(claim.model_copy(update={lost: None}) for claim in unit.stages)
            unsigned = unit.model_copy(update={"stages": claims})
            assert conviction_of(unsigned, verdict, DOMAIN) is None
