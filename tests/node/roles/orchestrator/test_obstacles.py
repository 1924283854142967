"""An owner is told what work waits for: once, in words, and only when it lasts."""

from __future__ import annotations

import pytest
from structlog import get_logger
from structlog.testing import capture_logs

from node.metrics import NodeMetrics
from node.roles.orchestrator.coordinator.events import PeerValidates, QueueRead
from node.roles.orchestrator.reporting import PATIENCE, Reporter
from node.roles.orchestrator.snapshot import fewer_stages, waits_for
from tests.node.roles.orchestrator.coordination import Pool, unit


def with_work(pool: Pool) -> Pool:
    pool.feed(QueueRead((unit(1),)))
    return pool


def test_without_workers_or_work() -> None:
    pool = Pool()
    assert waits_for(pool.pool) == ""
    with_work(pool)
    assert "work waits for workers" in waits_for(pool.pool)


def test_without_a_validator() -> None:
    pool = Pool()
    pool.up()
    with_work(pool)
    assert waits_for(pool.pool) == ""
    pool.produce(unit(1))
    assert "a validator that has the role on chain and stake: none is connected" in waits_for(
        pool.pool
    )
    pool.feed(PeerValidates("v1", 1))
    assert waits_for(pool.pool) == ""


@pytest.mark.parametrize(("asked", "built", "said"), [(0, 1, False), (3, 3, False), (3, 2, True)])
def test_fewer_stages_than_asked_for(asked: int, built: int, said: bool) -> None:
    assert bool(fewer_stages(asked, built)) == said


def reporter_of(pool: Pool) -> Reporter:
    return Reporter(pool.pool, lambda: 0, lambda: 0, NodeMetrics(), get_logger(), window=2)


def test_the_log_says_it_once_and_when_it_lasts() -> None:
    pool = with_work(Pool())
    with capture_logs() as logs:
        reporter = reporter_of(pool)
        for second in range(100):
            reporter.meter(float(second))
            if second < PATIENCE:
                assert logs == []
    assert [line["event"] for line in logs] == ["work stands"]


def test_the_log_names_a_group_with_fewer_stages() -> None:
    pool = Pool(stages=3)
    pool.join("w1")
    pool.join("w2")
    pool.now = 11.0
    with capture_logs() as logs:
        reporter = reporter_of(pool)
        pool.up("w1", "w2")
        reporter.report((), ())
        reporter.report((), ())
    said = [line["reason"] for line in logs if line["event"] == "fewer stages than asked for"]
    assert said == [fewer_stages(3, 2)]
