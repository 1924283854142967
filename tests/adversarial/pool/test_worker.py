"""A worker among strangers, a dishonest orchestrator and a dishonest neighbour."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from node.roles.worker.journal_events import PoolJoined
from node.roles.worker.policy.engagement import Patience
from node.roles.worker.timing import WorkerTiming
from node.wire.messages.fields import StageRef
from node.wire.messages.verification import ClaimRequest
from node.wire.messages.work import Assign, EdgeRequest, Invite
from node.wire.methods import ASSIGN, CLAIM, COUNTERSIGN, EDGE, INVITE, LOAD
from proofs.evidence.bundle import StageClaim
from tests.adversarial.harness import WORKING, Node, make_worker, open_node, running
from tests.adversarial.ledger import Ledger
from tests.adversarial.standins import MODEL, POOL, Engine, Ring
from tests.adversarial.workbench import GROUP, SEQUENCE, TOKENS, Bench

IMPATIENT = replace(WORKING, countersign=0.05)


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    """A `Bench`; its workers' timing and memory may be chosen."""

    @asynccontextmanager
    async def open_bench(
        timing: WorkerTiming = WORKING, units_remembered: int = 4096
    ) -> AsyncIterator[Bench]:
        ledger, ring = Ledger(), Ring()
        async with AsyncExitStack() as stack:
            nodes: dict[str, Node] = {}
            for number, name in enumerate(("boss", "mallory", "first", "second"), start=10):
                nodes[name] = await stack.enter_async_context(
                    open_node(number, tmp_path / name, boot=nodes.get("boss"), ledger=ledger)
                )
            ledger.creators[POOL] = nodes["boss"].address
            engines = [Engine(ring), Engine(ring)]
            for name, engine in zip(("first", "second"), engines, strict=True):
                worker = make_worker(nodes[name], engine, timing, units_remembered)
                await stack.enter_async_context(running(nodes[name], worker=worker))
            yield Bench(nodes, ledger, engines)

    return open_bench


async def test_only_the_pools_owner_may_invite(bench) -> None:
    async with bench() as b:
        first = b.first.peer_id
        forged = await b.invite(b.mallory)
        assert await b.mallory.refused(first, INVITE, forged) == "bad_invite"
        replayed = await b.invite(b.boss)
        assert await b.mallory.refused(first, INVITE, replayed) == "bad_invite"
        b.ledger.open_pools.add(POOL)
        assert await b.mallory.refused(first, INVITE, forged) == "bad_invite"
        b.ledger.open_pools.clear()
        late = await b.invite(b.boss, seconds=-1)
        assert await b.boss.refused(first, INVITE, late) == "expired"
        unsigned = await b.invite(b.boss, signature=b"")
        assert await b.boss.refused(first, INVITE, unsigned) == "bad_invite"
        assert not b.ledger.members
        await b.boss.ask(first, INVITE, replayed)
        b.ledger.creators[POOL + 1] = b.mallory.address
        other = await b.invite(b.mallory, POOL + 1)
        assert await b.mallory.refused(first, INVITE, other) == "taken"


async def test_an_orchestrator_that_went_silent_loses_its_worker(bench) -> None:
    async with bench(replace(WORKING, patience=Patience(silent=0.0))) as b:
        await b.loaded()
        b.ledger.creators[POOL + 1] = b.mallory.address
        await b.mallory.ask(b.first.peer_id, INVITE, await b.invite(b.mallory, POOL + 1))
        assert (POOL, b.first.address) not in b.ledger.members
        order = b.order(0, 9)
        assert await b.boss.refused(b.first.peer_id, LOAD, order) == "not_my_orchestrator"


async def test_orders_that_would_not_be_paid_are_refused(bench) -> None:
    async with bench() as b:
        await b.employed()
        good = b.order(0)
        one, two = good.stages
        for changes in (
            {"pool_id": POOL + 1},
            {"model_id": b"m" * 32},
            {"stages": (one.model_copy(update={"address": two.address}), two)},
            {"stages": (one, two.model_copy(update={"address": one.address}))},
            {"stages": (one, two.model_copy(update={"peer_id": "not-a-peer-id"}))},
            {"stages": (one, two.model_copy(update={"first_layer": 11}))},
            {"stages": (one.model_copy(update={"last_layer": 0x7FFF}), two)},
            {"stages": (one, one.model_copy(update={"first_layer": 10, "last_layer": 11}))},
            {"stages": (two, one)},
            {"ref": good.ref.model_copy(update={"stage": 1})},
            {"ref": good.ref.model_copy(update={"stage": 200})},
        ):
            order = b.order(0, **changes)
            assert await b.boss.refused(b.first.peer_id, LOAD, order) == "bad_request", changes
        assert b.engines[0].count("load") == 0
        assert await b.mallory.refused(b.first.peer_id, LOAD, good) == "not_my_orchestrator"


async def test_older_builds_and_wrong_neighbours_are_turned_away(bench) -> None:
    async with bench() as b:
        await b.loaded()
        await b.boss.ask(b.first.peer_id, LOAD, b.order(0, generation=5))
        for generation in (5, 4, 1):
            order = b.order(0, generation)
            assert await b.boss.refused(b.first.peer_id, LOAD, order) == "stale"
        edge = EdgeRequest(ref=b.order(1).ref, certificate=b"c" * 64)
        assert await b.mallory.refused(b.second.peer_id, EDGE, edge) == "not_my_neighbour"
        assert await b.boss.refused(b.second.peer_id, EDGE, edge) == "not_my_neighbour"
        work = Assign(ref=b.order(1).ref, sequences=())
        assert await b.boss.refused(b.second.peer_id, ASSIGN, work) == "bad_request"


async def test_a_claim_asked_for_twice_is_the_same_and_never_another(bench) -> None:
    async with bench() as b:
        await b.loaded()
        second = b.second.peer_id
        b.engines[1].ring.outputs[SEQUENCE] = (10, 11, 12, 13)

        answers: list[Any] = []

        async def ask(node: Node, request: ClaimRequest) -> None:
            answers.append(await b.boss.ask(node.peer_id, CLAIM, request))

        for _ in range(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, b.first, b.claim(0))
                nursery.start_soon(ask, b.second, b.claim(1))
        claims = {StageClaim.from_bytes(a["claim"]).to_bytes() for a in answers}
        assert len(claims) == 2
        other = b.claim(1, token_count=TOKENS + 1)
        assert await b.boss.refused(second, CLAIM, other) == "conflict"
        unknown = b.claim(1, unit_id=b"n" * 32, sequence_ids=(b"?" * 16,))
        assert await b.boss.refused(second, CLAIM, unknown) == "unknown_sequence"
        stale = b.claim(1, ref=StageRef(group_id=GROUP, generation=2, stage=1))
        assert await b.boss.refused(second, CLAIM, stale) == "stale"
        misplaced = b.claim(0)
        assert await b.boss.refused(second, CLAIM, misplaced) == "bad_request"


async def test_a_countersignature_is_given_once_and_only_for_what_was_seen(bench) -> None:
    async with bench() as b:
        await b.loaded()
        second = b.second.peer_id

        async with trio.open_nursery() as nursery:  # tells the second stage of the unit
            nursery.start_soon(b.boss.ask, b.first.peer_id, CLAIM, b.claim(0))
            nursery.start_soon(b.boss.ask, second, CLAIM, b.claim(1))
        for changes in (
            {"units": 10 * TOKENS + 1},
            {"units": 2**127},
            {"stage": 1},
            {"pool_id": POOL + 1},
            {"seq": 2},
            {"worker": b.mallory.address},
            {"counterparty": b.mallory.address},
            {"commitment": b"d" * 32},
            {"claims": {"peer_id": b.second.peer_id}},
            {"claims": {"address": b.second.address}},
            {"claims": {"evidence": ()}},
            {"claims": {"receipt": None}},
            {"claims": {"receipt_signature": None}},
            {"epoch": 2},  # all well, but another one was countersigned
        ):
            request = b.countersign(**changes)
            code = await b.first.refused(second, COUNTERSIGN, request)
            assert code == "bad_receipt", changes
        forged = b.countersign(b.mallory)
        assert await b.first.refused(second, COUNTERSIGN, forged) == "bad_receipt"
        honest = b.countersign()
        assert await b.mallory.refused(second, COUNTERSIGN, honest) == "not_my_neighbour"
        cut = honest.model_copy(update={"claim": honest.claim[:-1]})
        assert await b.first.refused(second, COUNTERSIGN, cut) == "bad_receipt"
        await b.first.ask(second, COUNTERSIGN, honest)


@pytest.mark.parametrize(
    ("upstream", "says"),
    [
        (0, {"sequence_id": b"?" * 16}),
        (0, {"rows": 5}),
        (0, {"sent": b"r" * 32}),
        (0, {"terms": b"t" * 32}),
        (1, {"sent": b"r" * 32}),  # tokens that never came back to stage 0
        (1, {"sampled_from": 1}),
        (1, {"terms": b"t" * 32}),
    ],
)
async def test_what_differs_from_what_came_in_is_not_countersigned(
    bench, upstream: int, says: dict[str, Any]
) -> None:
    async with bench(IMPATIENT) as b:
        await b.loaded()
        asking, asked = (b.first, b.second) if upstream == 0 else (b.second, b.first)
        # The asked one learns of the unit; its neighbour does not, and signs nothing.
        request = b.claim(1 - upstream)
        assert await b.boss.refused(asked.peer_id, CLAIM, request) == "no_countersignature"
        differs = b.countersign(upstream=upstream, says=says)
        assert await asking.refused(asked.peer_id, COUNTERSIGN, differs) == "rows_differ"
        await asking.ask(asked.peer_id, COUNTERSIGN, b.countersign(upstream=upstream))


async def test_a_sequence_that_is_run_again_does_not_make_a_stage_contradict_itself(bench) -> None:
    """Stage 0 has the sequence run twice: after the claim, and before what it asks to sign."""
    async with bench(IMPATIENT) as b:
        await b.loaded()
        second = b.second.peer_id
        assert await b.boss.refused(second, CLAIM, b.claim(1)) == "no_countersignature"
        b.engines[1].says["received"] = b"r" * 32
        again = b.countersign(says={"sent": b"r" * 32})
        assert await b.first.refused(second, COUNTERSIGN, again) == "conflict"
        assert await b.boss.refused(second, CLAIM, b.claim(1)) == "conflict"
        b.engines[1].says.clear()
        await b.first.ask(second, COUNTERSIGN, b.countersign())


async def test_a_unit_that_nobody_spoke_of_is_not_countersigned(bench) -> None:
    async with bench(IMPATIENT, units_remembered=8) as b:
        await b.loaded()
        for number in range(20):
            request = b.countersign(job_id=bytes([number]) * 32)
            code = await b.first.refused(b.second.peer_id, COUNTERSIGN, request)
            assert code == "unknown_unit"


async def test_a_lone_stage_leaves_its_receipt_for_the_pools_owner_to_countersign(bench) -> None:
    async with bench() as b:
        await b.loaded()
        (one, _) = b.order(0).stages
        alone = (one.model_copy(update={"last_layer": 30}),)
        await b.boss.ask(b.first.peer_id, LOAD, b.order(0, generation=2, stages=alone))
        ref = StageRef(group_id=GROUP, generation=2, stage=0)
        answer = await b.boss.ask(b.first.peer_id, CLAIM, b.claim(0, ref=ref))
        claim = StageClaim.from_bytes(answer["claim"])
        assert claim.receipt.counterparty == b.boss.address
        assert claim.receipt.units == 30 * TOKENS
        assert claim.counter_signature is None


async def test_without_a_chain_an_invite_counts_unsigned_and_nothing_is_kept_of_it(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        boss = await stack.enter_async_context(open_node(20, tmp_path / "boss"))
        node = await stack.enter_async_context(open_node(21, tmp_path / "worker", boot=boss))
        worker = make_worker(node, Engine(Ring()))
        await stack.enter_async_context(running(node, worker=worker))
        invite = Invite(pool_id=0, model_id=MODEL, model_name="tiny", deadline=0, signature=b"")
        joined = await boss.ask(node.peer_id, INVITE, invite)
        assert joined["address"] == node.address
        assert worker.membership.pool is not None
        assert worker.membership.pool.address == boss.address
        assert await node.context.journal.replay(PoolJoined) == []
        await worker.drain()
        assert worker.membership.pool is None
