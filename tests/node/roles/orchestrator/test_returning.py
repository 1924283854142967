"""A validator that returns is asked at once about all that it has not judged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from structlog import get_logger

from node.metrics import NodeMetrics
from node.retry import Backoff
from node.roles.orchestrator.bundling.commit_block import NoCommitBlock
from node.roles.orchestrator.bundling.making import BundleMaker
from node.roles.orchestrator.coordinator.commands import VerifyUnit
from node.roles.orchestrator.coordinator.events import (
    BundleMissed,
    Event,
    PeerAppeared,
    PeerValidates,
    QueueRead,
    Tick,
)
from node.roles.orchestrator.coordinator.intake.verdicts import AGAIN
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.workers.stakes import Stakes
from node.roles.orchestrator.workers.validator_watch import ValidatorWatch
from p2p.errors import P2PError, PeerUnreachable, RemoteRefused, RequestTimeout
from tests.node.roles.orchestrator.coordination import Pool, unit

PATIENCE = 15.0
"""Seconds within which whoever returns has what it missed."""


def verifying(count: int = 3, **weights: int) -> tuple[Pool, tuple[Unit, ...]]:
    """Units that these validators were asked about."""
    pool, works = Pool(), tuple(unit(n) for n in range(1, count + 1))
    pool.feed(QueueRead(works))
    pool.validators(**(weights or {"v1": 1, "v2": 1, "v3": 1}))
    pool.up()
    for work in works:
        pool.produce(work)
        assert pool.state(work) is UnitState.VERIFYING
    pool.now += 20.0
    return pool, works


def asked_now(commands: list[Any]) -> list[tuple[bytes, str]]:
    return [(c.unit_id, c.validator) for c in commands if isinstance(c, VerifyUnit)]


def test_whoever_connects_again_is_asked_about_what_it_has_not_judged() -> None:
    pool, (first, second, third) = verifying()
    pool.verdict(first, judge="v2")
    commands = pool.feed(PeerAppeared("v2", connected=True))
    assert asked_now(commands) == [(second.unit_id, "v2"), (third.unit_id, "v2")]
    assert pool.feed(Tick()) == []
    assert pool.unit(second).asked == ("v1", "v2", "v3")


def test_whoever_was_gone_and_validates_again_as_well() -> None:
    pool, works = verifying()
    pool.feed(PeerValidates("v2", 0))
    pool.now += 60.0
    commands = pool.feed(PeerValidates("v2", 1))
    assert {unit_id for unit_id, _ in asked_now(commands)} == {w.unit_id for w in works}
    assert asked_now(pool.feed(PeerValidates("v2", 2))) == []  # its stake grew: it was here


def test_to_be_asked_again_is_no_reason_to_decide_without_it() -> None:
    """Its word is still awaited where the others have rejected the unit."""
    pool, (work,) = verifying(1)
    pool.verdict(work, accepted=False, judge="v1")
    pool.verdict(work, accepted=False, judge="v2")
    pool.feed(PeerAppeared("v3", connected=True))
    assert pool.state(work) is UnitState.VERIFYING
    pool.verdict(work, accepted=False, judge="v3")
    assert pool.unit(work).attempt == 1


@pytest.mark.parametrize(
    ("error", "missed"),
    [
        (PeerUnreachable("gone"), True),
        (RequestTimeout("it hangs"), True),
        (RemoteRefused("busy", "later"), False),
    ],
)
async def test_whoever_is_not_reached_has_missed_it_and_whoever_refuses_has_not(
    tmp_path: Path,
    error: P2PError,
    missed: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    pool, (work,) = verifying(1)
    bundle_id = pool.bundle(work)
    (tmp_path / f"{bundle_id.hex()}.bundle").write_bytes(b"bundle")
    fed: list[Event] = []

    class Nobody:
        async def request(self, *args: Any, **options: Any) -> bytes:
            raise error

    async def feed(event: Event) -> None:
        fed.append(event)

    context: Any = SimpleNamespace(
        log=get_logger(),
        blobs=tmp_path,
        network=Nobody(),
        metrics=NodeMetrics(),
        now=trio.current_time,
    )
    maker = BundleMaker(
        context,
        pool.pool,
        NoCommitBlock(),
        feed,
        pool_id=0,
        model_id=bytes(32),
        backoff=Backoff.every(2.0, most=5),
    )
    await maker.verify(VerifyUnit(work.unit_id, "v2"))
    assert fed == ([BundleMissed(work.unit_id, "v2")] if missed else [])


def test_a_connection_that_comes_and_goes_makes_no_work() -> None:
    pool, works = verifying()
    asked = 0
    for _ in range(70):
        pool.now += AGAIN / 20
        asked += len(asked_now(pool.feed(PeerAppeared("v2", connected=True))))
    assert asked == len(works) * 4  # in 35 s
    assert asked_now(pool.feed(PeerAppeared("stranger", connected=True))) == []


def test_what_could_not_be_given_is_offered_with_the_next_sign_of_life() -> None:
    """It connected before it served, so offers came to nothing; its record says that it does."""
    pool, (first, _, third) = verifying()
    pool.feed(PeerAppeared("v2", connected=True))
    pool.now += 8.0
    pool.feed(BundleMissed(first.unit_id, "v2"))
    pool.feed(BundleMissed(third.unit_id, "v2"))
    pool.feed(BundleMissed(third.unit_id, "nobody"))
    commands = pool.feed(PeerAppeared("v2", connected=False))
    assert asked_now(commands) == [(first.unit_id, "v2"), (third.unit_id, "v2")]
    assert asked_now(pool.feed(PeerAppeared("v2", connected=False))) == []
    pool.verdict(third, judge="v2")
    pool.feed(BundleMissed(third.unit_id, "v2"))  # late: it has it after all
    assert asked_now(pool.feed(PeerAppeared("v2", connected=False))) == []


class Away:
    """A validator that serves from `back` on; `took` is when it was given which unit."""

    def __init__(self, back: float) -> None:
        self.back = back
        self.took: dict[bytes, float] = {}


@pytest.mark.parametrize("serves_after", [0.0, 6.0, 12.0, 29.0])
async def test_within_fifteen_seconds_of_serving_again_it_has_all(
    serves_after: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Two of three validators are needed, and one was away for a minute. It connects, and serves
    some seconds later, when it sends its record: each offer until then is tried as the orchestrator
    does, five times two seconds apart."""
    pool, works = verifying(10)
    start = trio.current_time() - pool.now
    away = Away(back=pool.now + 60.0 + serves_after)

    async def feed(event: Event) -> None:
        pool.now = trio.current_time() - start
        for command in pool.feed(event):
            if isinstance(command, VerifyUnit) and command.validator == "v2":
                nursery.start_soon(offer, command.unit_id)

    async def offer(unit_id: bytes) -> None:
        for _ in range(5):
            if trio.current_time() - start >= away.back:
                away.took.setdefault(unit_id, trio.current_time() - start)
                return
            await trio.sleep(2.0)
        await feed(BundleMissed(unit_id, "v2"))

    class Stake:
        async def of(self, announced: Any) -> Stakes:
            return Stakes(dict.fromkeys(announced, 1), None)

    async with trio.open_nursery() as nursery:
        for work in works:
            nursery.start_soon(offer, work.unit_id)  # as it was asked while it was away
        watch = ValidatorWatch(Stake(), feed, get_logger())
        await watch.look({"v1", "v2", "v3"})
        await watch.renewed({"v2": 1})
        await trio.sleep(60.0)
        await watch.connected("v2")
        await trio.sleep(serves_after)
        await watch.renewed({"v2": 2})
    assert set(away.took) == {work.unit_id for work in works}
    assert max(away.took.values()) - away.back <= PATIENCE
