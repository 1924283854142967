"""What an operator is told of a pool: a line for every change worth one, and the metrics."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from node.metrics import NodeMetrics
from node.roles.orchestrator.coordinator.events import (
    ClaimsFailed,
    Event,
    PeerDeclined,
    PeerFinished,
    PeerGone,
    PeerVerdict,
    UnitsFailed,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.orchestrator.coordinator.view import PoolView
from node.roles.orchestrator.snapshot import fewer_stages, waits_for

PATIENCE = 10.0
"""Seconds that work may stand before the log says so."""


class Reporter:
    """Compares the tables with what it told last. `window` is how many meterings the rate of
    tokens is taken over; `ended` counts the output tokens of units that have left the tables, and
    `shown` all those that are on disk, which never falls."""

    def __init__(
        self,
        pool: PoolView,
        ended: Callable[[], int],
        shown: Callable[[], int],
        metrics: NodeMetrics,
        log: Any,
        *,
        window: int,
    ) -> None:
        self._pool = pool
        self._ended = ended
        self._shown = shown
        self._metrics = metrics
        self._log = log
        self._most = 0
        self._rate: deque[tuple[float, int]] = deque(maxlen=max(window, 2))
        self._groups: dict[bytes, GroupState] = {}
        self._obstacle = ""
        self._waits = ("", 0.0)
        self._told = False

    @property
    def tokens(self) -> int:
        """Output tokens of all units, as far as they are on disk."""
        return self._shown()

    @property
    def tokens_per_second(self) -> float:
        """New tokens a second over the last meterings."""
        if not self._rate:
            return 0.0
        (first, before), (last, now) = self._rate[0], self._rate[-1]
        return (now - before) / (last - first) if last > first else 0.0

    def meter(self, now: float) -> None:
        """Bring the metrics up to what the tables say at `now` (seconds, monotonic)."""
        self._most = max(self._most, self._pool.tokens + self._ended())
        self._rate.append((now, self._most))
        self._report_waiting(now)
        groups = self._pool.groups.values()
        self._metrics.set_groups(Counter(group.state.value for group in groups))

    def report(self, events: Iterable[Event], states: Iterable[UnitState]) -> None:
        """Log these events, which the tables have taken in, and what has changed there; `states`
        are those that units came to."""
        self._report_groups()
        for state in states:
            self._metrics.unit(state.value)
        for event in events:
            self._report_event(event)

    def _report_waiting(self, now: float) -> None:
        """Once for each reason, when it has lasted a while."""
        waits = waits_for(self._pool)
        if waits != self._waits[0]:
            self._waits, self._told = (waits, now), False
        if waits and not self._told and now - self._waits[1] >= PATIENCE:
            self._told = True
            self._log.warning("work stands", reason=waits)

    def _report_groups(self) -> None:
        obstacle = self._pool.unplannable
        if obstacle not in ("", self._obstacle):
            self._log.warning("no group can be planned", reason=obstacle)
        self._obstacle = obstacle
        for gone in self._groups.keys() - self._pool.groups.keys():
            del self._groups[gone]
            self._log.warning("group given up", group=gone.hex()[:12])
        for group in self._pool.groups.values():
            if group.group_id not in self._groups:
                few = fewer_stages(self._pool.policy.stages, len(group.plan.stages))
                if few:
                    self._log.warning("fewer stages than asked for", reason=few)
            if self._groups.get(group.group_id) != group.state:
                self._groups[group.group_id] = group.state
                self._log.info(
                    "group",
                    group=group.group_id.hex()[:12],
                    state=group.state.value,
                    generation=group.generation,
                    reason=group.reason,
                )

    def _report_event(self, event: Event) -> None:
        match event:
            case PeerFinished():
                self._metrics.prompts.inc()
                self._metrics.tokens.inc(len(event.ids))
            case PeerVerdict(accepted=False):
                self._log.warning(
                    "unit rejected",
                    unit=event.unit_id.hex()[:12],
                    reason=event.reason,
                    faulty=event.faulty,
                )
            case ClaimsFailed():
                self._log.warning(
                    "unit not proven",
                    unit=event.unit_id.hex()[:12],
                    reason=event.reason,
                    suspects=event.suspects,
                )
            case UnitsFailed():
                self._log.warning(
                    "work failed",
                    units=[unit_id.hex()[:12] for unit_id in event.unit_ids],
                    stage=event.stage,
                    reason=event.reason,
                )
            case PeerGone():
                self._log.warning("worker is gone", peer=event.peer_id, reason=event.reason)
            case PeerDeclined():
                self._log.warning("invite failed", peer=event.peer_id, reason=event.reason)
