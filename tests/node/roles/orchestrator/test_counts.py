"""What an operator is shown of tokens never falls, whatever becomes of the units."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import structlog
from hypothesis import given
from hypothesis import strategies as st

from node.metrics import NodeMetrics
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.coordinator.view import PoolView
from node.roles.orchestrator.ledger.job import Job
from node.roles.orchestrator.reporting import Reporter
from node.roles.orchestrator.snapshot import job_snapshot

METRICS = NodeMetrics()


@dataclass
class Tables:
    """As much of a `PoolView` as is counted."""

    units: dict[bytes, Unit] = field(default_factory=dict)
    tokens: int = 0
    groups: dict[bytes, Any] = field(default_factory=dict)
    unplannable: str = ""


def with_tokens(count: int) -> Unit:
    """A unit under way; only the lengths of its outputs count here."""
    sequence = SimpleNamespace(output_ids=(5,) * count, finished=False)
    made = SimpleNamespace(
        job_id="job", state=UnitState.ASSIGNED, attempt=0, bundle_id=b"", sequences=(sequence,)
    )
    return cast(Unit, made)


@given(st.lists(st.integers(0, 50)))
def test_counts_of_tokens_never_fall(course: list[int]) -> None:
    tables, job = Tables(), Job(1, "job", sampled=False)
    pool = cast(PoolView, tables)
    reporter = Reporter(pool, lambda: 0, METRICS, structlog.get_logger(), window=2)
    shown = []
    for now, tokens in enumerate(course):
        tables.units = {b"u": with_tokens(tokens)}
        tables.tokens = tokens
        reporter.meter(float(now))
        assert reporter.tokens_per_second >= 0
        shown.append((job_snapshot(job, pool).tokens, reporter.tokens))
    assert shown == [(max(course[: n + 1]),) * 2 for n in range(len(course))]
