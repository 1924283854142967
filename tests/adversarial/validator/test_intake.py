"""Who may send what to a validator, what it costs, and who waits for whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from node.retry import Backoff
from node.roles.validator.bundle_state import QueueLimits
from node.roles.validator.intake.offers import OfferLimits
from node.roles.validator.journal_events import BundleTaken
from node.roles.validator.judging.engine import ReplayTiming
from node.wire.messages.verification import BundleUpload
from node.wire.methods import BUNDLE, VERIFY
from pipeline.engine.control.replay_messages import Replay, Replayed
from pipeline.models.errors import ModelNotFound
from pipeline.models.prepared import PreparedModel
from proofs.evidence.bundle import UnitBundle
from tests.adversarial.harness import VALIDATOR_TIMING, eventually, named_model, open_node
from tests.adversarial.standins import MODEL, POOL
from tests.adversarial.validator_scenario import (
    ValidatorScenario,
    bundle_of,
    offer,
)

OTHER_MODEL = b"o" * 32
FORGIVING = replace(VALIDATOR_TIMING, offers=OfferLimits(penalty=0.0))


def only_ours(store: Path, which: str) -> PreparedModel:
    if which != MODEL.hex():
        raise ModelNotFound("not prepared here")
    return named_model(store, which)


def unsigned(unit: UnitBundle) -> UnitBundle:
    (claim,) = unit.stages
    blank = {"receipt_signature": bytes(65), "counter_signature": bytes(65)}
    return unit.model_copy(update={"stages": (claim.model_copy(update=blank),)})


def bundle_files(c: ValidatorScenario) -> list[str]:
    return sorted(p.name for p in (c.folder / "judge" / "blobs" / "bundles").glob("*.bundle"))


async def test_a_stranger_has_nothing_decoded_stored_or_looked_up_twice(scenario) -> None:
    async with scenario() as c, c.session(), open_node(70, c.folder / "x", boot=c.owner) as x:
        unit, judge = c.bundle(), c.judge.peer_id
        asked: list[int] = []
        info = c.judge.chain.pools.info

        async def counted(pool_id: int) -> Any:
            asked.append(pool_id)
            return await info(pool_id)

        c.judge.chain.pools.info = counted
        for _ in range(3):
            assert await c.refused(unit, x) == "not_your_pool"
        assert await c.refused(unit, x, pool_id=99) == "not_your_pool"
        assert await c.refused(unit, x, pool_id=99) == "not_your_pool"
        assert asked == [POOL, 99]
        # An upload that was not offered is refused before anybody looks at its bytes.
        for content in (b"\xdd" + (1 << 20).to_bytes(4, "big") + b"\x01" * (1 << 20), b""):
            assert await x.refused(judge, BUNDLE, content) == "not_offered"
            assert await c.owner.refused(judge, BUNDLE, content) == "not_offered"
        assert bundle_files(c) == []


async def test_a_bundle_must_be_what_was_offered(scenario) -> None:
    async with scenario(timing=FORGIVING) as c, c.session():
        unit = c.bundle()
        lies = {
            "unit_id": bytes(32),
            "tokens": offer(unit).tokens + 1,
            "bundle_id": bytes(32),
        }
        for name, value in lies.items():
            assert await c.refused(unit, **{name: value}) in ("bad_bundle", "not_offered"), name
        c.ledger.creators[POOL + 9] = c.owner.address
        assert await c.refused(unit, pool_id=POOL + 9) == "bad_bundle"
        assert (await c.owner.ask(c.judge.peer_id, VERIFY, offer(unit)))["wanted"]
        longer = BundleUpload(bundle_id=unit.content_id, bundle=unit.to_bytes() + b"\0")
        assert await c.owner.refused(c.judge.peer_id, BUNDLE, longer) == "bad_bundle"
        assert bundle_files(c) == []
        await c.verify(unit)
        await c.judged(unit)


async def test_who_lies_about_its_bundle_is_not_read_again_for_a_while(scenario) -> None:
    async with scenario() as c, c.session():
        assert await c.refused(c.bundle(), tokens=1) == "bad_bundle"
        assert await c.refused(c.bundle(b"another")) == "busy"
        theirs = c.bundle(b"theirs", pool_id=POOL + 1)
        await c.verify(theirs, c.rival)
        await c.judged(theirs)


async def test_unsigned_wrong_and_maximal_bundles_beside_an_honest_sender_and_over_a_restart(
    scenario,
) -> None:
    """Nothing of what the rival sends costs the owner more than the replay that runs."""
    limits = QueueLimits(quantum=64, bundle_tokens=4_000)
    async with scenario(timing=replace(FORGIVING, queue=limits), open_model=only_ours) as c:
        async with c.session():
            engine = gate(c)
            theirs = c.bundle(b"garbage", pool_id=POOL + 1)
            assert await c.refused(unsigned(theirs), c.rival) == "bad_bundle"
            wrong = theirs.model_copy(update={"model_id": OTHER_MODEL})
            assert await c.refused(wrong, c.rival) == "no_model"
            huge = maximal(c, 0, 5_000)
            assert await c.refused(huge, c.rival) == "too_large"
            assert bundle_files(c) == []
            large = [maximal(c, number, 3_000) for number in range(4)]
            for unit in large:
                await c.verify(unit, c.rival)
            await engine.asked.wait()
            honest = [c.bundle(bytes([number])) for number in range(3)]
            for unit in honest:
                await c.verify(unit)
            await eventually(lambda: prepared(c) == 6)
            engine.open.set()
            await c.judged(*honest)
            assert engine.order[0] > 1_000
            assert [tokens < 100 for tokens in engine.order[1:4]] == [True] * 3
            await c.judged(*large)
        async with c.session():
            engine = gate(c)
            again = [maximal(c, number, 3_000) for number in range(10, 13)]
            for unit in again:
                await c.verify(unit, c.rival)
            await engine.asked.wait()
            late = c.bundle(b"late")
            await c.verify(late)
        async with c.session():  # killed before any of them was judged
            await c.judged(late, *again)
            await eventually(lambda: c.validator.queued == 0)
            assert await c.judge.context.journal.replay(BundleTaken) == []


async def test_inquiries_and_failing_replays_of_one_sender_share_the_engine(scenario) -> None:
    timing = replace(
        FORGIVING,
        judging=replace(
            FORGIVING.judging, replays=ReplayTiming(attempts=Backoff.every(0.01, most=50))
        ),
    )
    async with scenario(timing=timing) as c, c.session():
        poison = c.bundle(b"poison", pool_id=POOL + 1)
        broken = breaks_on(c, poison)
        await c.verify(poison, c.rival)
        await eventually(lambda: broken)
        honest = c.bundle()
        await c.verify(honest)
        await c.judged(honest)
        assert poison.content_id not in c.verdicts


async def test_what_nobody_can_judge_is_over_after_some_tries_and_leaves_nothing(scenario) -> None:
    async with scenario(timing=FORGIVING) as c:
        unit = c.bundle(b"poison")
        for _ in range(VALIDATOR_TIMING.keep.attempts):
            async with c.session():
                c.engine.refuse["replay"] = "bad_request"
                await c.verify(unit)
                await eventually(lambda: c.validator.queued == 0)
                await eventually(lambda: bundle_files(c) == [])
        async with c.session():
            assert c.validator.queued == 0
            assert await c.refused(unit) == "unjudgeable"
            good = c.bundle(b"good")
            await c.verify(good)
            await c.judged(good)


async def test_a_bundle_that_ends_the_process_each_time_is_given_up(scenario) -> None:
    async with scenario() as c:
        unit = c.bundle()
        for number in range(VALIDATOR_TIMING.keep.attempts):
            async with c.session():
                engine = gate(c)
                if not number:
                    await c.verify(unit)
                await engine.asked.wait()  # and then it is killed
        async with c.session():
            await eventually(lambda: c.validator.queued == 0)
            assert c.engine.count("replay") == 0
            assert await c.refused(unit) == "unjudgeable"
            await eventually(lambda: bundle_files(c) == [])


async def test_bundles_without_a_verdict_leave_nothing_and_do_not_come_back(
    scenario,
) -> None:
    """Of old, bundles without a verdict stayed on disk and returned at each start."""
    async with scenario(timing=FORGIVING) as c:
        async with c.session():
            c.engine.refuse["replay"] = "bad_request"
            for number in range(40):
                unit = c.bundle(b"%d" % number, pool_id=POOL + 1)
                await c.verify(unit, c.rival)
            await eventually(lambda: c.validator.queued == 0)
            await eventually(lambda: bundle_files(c) == [])
        async with c.session():
            assert c.validator.queued == 0
            assert await c.judge.context.journal.replay(BundleTaken) == []


class Gate:
    """An engine that stops at its first replay until it is opened; `order` has each one's
    tokens."""

    def __init__(self) -> None:
        self.asked, self.open = trio.Event(), trio.Event()
        self.order: list[int] = []


def gate(c: ValidatorScenario) -> Gate:
    found, request = Gate(), c.engine.request

    async def wait_at_gate(operation: Any, body: Any, timeout: float) -> Any:
        if isinstance(body, Replay):
            found.order.append(sum(s.sequence.token_count for s in body.sequences))
            found.asked.set()
            await found.open.wait()
        return await request(operation, body, timeout)

    c.engine.request = wait_at_gate
    return found


def breaks_on(c: ValidatorScenario, unit: UnitBundle) -> list[bytes]:
    """The engine fails on this unit's sequence, and on nothing else; how often is in the list."""
    request, (sequence,) = c.engine.request, unit.sequences
    failed: list[bytes] = []

    async def fail(operation: Any, body: Any, timeout: float) -> Replayed:
        if isinstance(body, Replay) and body.sequences[0].sequence == sequence:
            failed.append(sequence.sequence_id)
            c.engine.refuse["replay"] = "internal"
        try:
            return await request(operation, body, timeout)
        finally:
            c.engine.refuse.pop("replay", None)

    c.engine.request = fail
    return failed


def maximal(c: ValidatorScenario, number: int, tokens: int) -> UnitBundle:
    """The rival's, and honest: a prompt of `tokens` tokens."""
    name, prompt = b"large %d" % number, (1,) * tokens
    return bundle_of(c.owner, c.rival, name, POOL + 1, 13, prompt=prompt)


def prepared(c: ValidatorScenario) -> int:
    return sum(b.state.value == "prepared" for b in c.validator._queue.bundles)
