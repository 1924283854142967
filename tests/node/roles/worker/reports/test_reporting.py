"""Reports end: taken in parts, or given up with a reason, and an honest sender breaks no rule."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from structlog.testing import capture_logs

from node.metrics import NodeMetrics
from node.roles.worker.reports.outbox import MOST_WAITING
from node.roles.worker.reports.reporting import MAX_TROUBLE, Reporter
from node.roles.worker.timing import WorkerTiming
from node.wire.codec import BadBody, decode, encode
from node.wire.messages.fields import Done, StageRef
from node.wire.messages.work import Assign, FinishedRun, Progress, TokenRun, Trouble
from node.wire.methods import ASSIGN, PROGRESS, TROUBLE, Method
from node.wire.rpc import call, serve
from p2p.errors import P2PError, PeerUnreachable, Refused, RemoteRefused, RequestTooLarge
from pipeline.engine.control.messages import (
    EdgeDown,
    Failed,
    Finished,
    Message,
    SequenceSpec,
    Tokens,
)
from proofs.evidence.sequence import FinishReason, SequenceRequest

BOSS = "boss"
REF = StageRef(group_id=b"g" * 32, generation=3, stage=0)
LONG = 32_768


class Boss:
    """The network, with an orchestrator at its other end: it reads as a served method does, and
    counts what would cost its sender its standing. `answers` says how the next requests fail."""

    def __init__(self) -> None:
        self.violations = 0
        self.reports: list[Progress] = []
        self.troubles: list[Trouble] = []
        self.answers: list[P2PError] = []
        self.always: P2PError | None = None
        self.asked = 0
        self.slow = 0.0

    async def request(
        self, peer_id: str, protocol: str, payload: bytes, *, timeout: float, max_response: int
    ) -> bytes:
        await trio.lowlevel.checkpoint()
        if protocol == TROUBLE.protocol:
            await trio.sleep(self.slow)
            self.troubles.append(decode(Trouble, payload))
            return encode(Done())
        self.asked += 1
        if len(payload) > PROGRESS.max_request:
            self.violations += 1
            raise RemoteRefused("too_large", "over the limit")
        if self.always is not None or self.answers:
            raise self.always or self.answers.pop(0)
        try:
            self.reports.append(decode(Progress, payload))
        except BadBody as exc:
            raise RemoteRefused("bad_request", str(exc)) from exc
        return encode(Done())

    @property
    def told(self) -> dict[bytes, int]:
        """How many tokens of each finished sequence have come."""
        counts: dict[bytes, int] = {}
        for report in self.reports:
            runs: list[TokenRun | FinishedRun] = [*report.tokens, *report.finished]
            for run in runs:
                counts[run.sequence_id] = counts.get(run.sequence_id, 0) + len(run.ids)
        ended = {end.sequence_id for report in self.reports for end in report.finished}
        return {key: count for key, count in counts.items() if key in ended}


class Stage:
    """A stage that is held, and the events of its engine."""

    def __init__(self) -> None:
        self.send, events = trio.open_memory_channel[tuple[str, Message]](4096)
        self.engine = SimpleNamespace(events=events)
        self.assignment: Any = None
        self.build(REF.generation)

    def build(self, generation: int) -> None:
        ref = REF.model_copy(update={"generation": generation})
        self.assignment = SimpleNamespace(order=SimpleNamespace(ref=ref))

    def engine_died(self, held: object) -> None:
        self.assignment = None


@asynccontextmanager
async def reporting(
    timing: WorkerTiming | None = None,
) -> AsyncIterator[tuple[Boss, Stage, Callable[..., Any]]]:
    """An orchestrator, a stage, and what emits events of its engine until they are dealt with."""
    boss, stage = Boss(), Stage()
    context: Any = SimpleNamespace(
        network=boss, metrics=NodeMetrics(), now=trio.current_time, log=structlog.get_logger()
    )
    membership: Any = SimpleNamespace(pool=SimpleNamespace(peer_id=BOSS))
    held: Any = stage
    reporter = Reporter(context, membership, held, timing or WorkerTiming())

    async def emit(*events: Message) -> None:
        for event in events:
            await stage.send.send(("event", event))
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(0.1)
        await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reporter.run)
        yield boss, stage, emit
        nursery.cancel_scope.cancel()


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def finished(number: int, ids: tuple[int, ...], generation: int = REF.generation) -> Finished:
    return Finished(
        generation=generation, sequence_id=key(number), reason=FinishReason.LENGTH, ids=ids
    )


async def test_64_long_outputs_at_once_reach_the_orchestrator(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ids = (2**31 - 1,) * LONG
    async with reporting() as (boss, _, emit):
        await emit(*(finished(number, ids) for number in range(64)))
        assert boss.told == {key(number): LONG for number in range(64)}
        assert boss.violations == 0
        assert boss.asked == len(boss.reports) > 8


async def test_a_report_that_was_not_answered_is_made_again_and_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with reporting() as (boss, _, emit):
        boss.answers = [
            PeerUnreachable("gone"),
            RemoteRefused("busy", "later"),
            RemoteRefused("no_storage", "the disk is full"),
        ]
        first = Tokens(generation=3, sequence_id=key(1), offset=0, ids=(1, 2))
        await emit(first, finished(1, (1, 2, 3)))
        await trio.sleep(30.0)
        assert boss.told == {key(1): 3}
        assert boss.asked == 4


@pytest.mark.parametrize(
    ("code", "told"), [("too_large", True), ("bad_request", True), ("stale", False)]
)
async def test_a_refusal_for_good_ends_the_reports_of_this_generation_and_of_no_other(
    code: str, told: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with reporting() as (boss, stage, emit):
        boss.always = RemoteRefused(code, "no")
        await emit(finished(1, (1,)))
        await emit(finished(2, (1,)))
        await trio.sleep(600.0)
        assert boss.asked == 1
        assert [trouble.kind for trouble in boss.troubles] == ["engine"] * told
        boss.always = None
        stage.build(4)
        await emit(finished(1, (1,)), finished(3, (1, 2), generation=4))
        assert boss.told == {key(3): 2}


async def test_what_an_orchestrator_always_fails_on_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with reporting(WorkerTiming(report_tries=5)) as (boss, _, emit):
        boss.always = RemoteRefused("internal", "the handler failed")
        await emit(finished(1, (1,)))
        await trio.sleep(3600.0)
        assert boss.asked == 5
        (trouble,) = boss.troubles
        assert "the handler failed" in trouble.reason


async def test_an_orchestrator_that_takes_nothing_does_not_fill_memory(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ids = (7,) * (1 << 20)
    async with reporting() as (boss, _, emit):
        boss.always = PeerUnreachable("gone")
        await emit(*(finished(number, ids) for number in range(MOST_WAITING // len(ids) - 1)))
        assert boss.troubles == []
        await emit(finished(98, ids), finished(99, ids))
        (trouble,) = boss.troubles
        assert "takes no reports" in trouble.reason


async def test_an_orchestrator_that_is_gone_is_told_of_once_and_asked_ever_more_rarely(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with capture_logs() as logs:
        async with reporting() as (boss, _, emit):
            boss.always = PeerUnreachable("gone")
            await emit(finished(1, (7,)))
            await trio.sleep(600.0)
            assert boss.asked < 600.0 / 15.0 + 6
            boss.always = None
            await trio.sleep(15.0)
            assert boss.told == {key(1): 1}
    said = [line for line in logs if line["event"] == "progress not delivered"]
    assert [line["log_level"] for line in said].count("warning") == 1


async def test_sequences_that_failed_are_named_and_nothing_more_is_told_of_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with reporting() as (boss, _, emit):
        tokens = Tokens(generation=3, sequence_id=key(1), offset=0, ids=(0,))
        failed = Failed(generation=3, sequence_ids=(key(1), key(2)), reason="not finite")
        await emit(tokens, failed, finished(9, (1,)))
        (trouble,) = boss.troubles
        assert (trouble.kind, trouble.reason) == ("work", "not finite")
        assert trouble.sequence_ids == (key(1), key(2))
        assert boss.told == {key(9): 1}
        many = Trouble(ref=REF, kind="work", reason="x" * 500, sequence_ids=(bytes(16),) * 1024)
        assert len(encode(many)) <= TROUBLE.max_request


async def test_a_storm_of_trouble_does_not_stop_the_engines_events(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with reporting() as (boss, _, emit):
        boss.slow = 10.0
        dropped = [
            Failed(generation=3, sequence_ids=(key(n),), reason="no room for it")
            for n in range(500)
        ]
        await emit(*dropped, finished(9, (1,)))
        assert boss.told == {key(9): 1}
        await trio.sleep(6000.0)
        assert len(boss.troubles) == MAX_TROUBLE + 1
        boss.troubles.clear()
        late = EdgeDown(group_id=REF.group_id, generation=2, edge="upstream", reason="broke")
        await emit(late, Failed(generation=2, sequence_ids=(key(1),), reason="no room"))
        await trio.sleep(60.0)
        assert boss.troubles == []  # of an older generation


async def test_nothing_over_its_limit_is_sent() -> None:
    context: Any = SimpleNamespace(network=None, metrics=NodeMetrics(), now=lambda: 0.0)
    request = SequenceRequest(sequence_id=key(1), prompt_ids=(2**31 - 1,) * (1 << 20), max_tokens=1)
    specs = (SequenceSpec(request=request),) * 2
    order = Assign(ref=REF, sequences=specs)
    with pytest.raises(RequestTooLarge, match="assign"):
        await call(context, BOSS, ASSIGN, order)


async def test_no_answer_over_its_limit_is_sent() -> None:
    served: dict[str, Any] = {}
    network: Any = SimpleNamespace(
        serve=lambda protocol, handler, **_: served.update({protocol: handler})
    )

    async def answer(peer_id: str, request: Trouble) -> Any:
        return Trouble(ref=REF, kind="engine", reason="x" * 500)

    method: Any = Method("trouble", Trouble, Trouble, max_answer=100)
    serve(network, method, answer)
    with pytest.raises(Refused, match="too_large"):
        await served[method.protocol]("peer", encode(Trouble(ref=REF, kind="engine", reason="")))
