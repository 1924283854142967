"""A ring in virtual time: stages with cost curves, hops with latency and bandwidth, and the real
scheduler at its head.

Stages take batches one at a time, in order; a hop delivers a frame when its bytes have gone out
after those before it, plus its latency. Nothing here knows how the scheduler decides.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from pipeline.engine.control.messages import SequenceSpec
from pipeline.engine.schedule.batch import Batch
from pipeline.engine.schedule.costs import Load
from pipeline.engine.schedule.events import EmitFinished, EmitToken, Returned, RingUp, Submit
from pipeline.engine.schedule.pace import Leg
from pipeline.engine.schedule.scheduler import Scheduler
from tests.pipeline.engine.sequences import make_spec

Curve = Callable[[Load], float]


def cpu(speed: float = 1.0, batch: float = 12e-3) -> Curve:
    """Ten layers of a small model on one core: `batch` s for the weights, then by what is in it."""
    return lambda load: (
        speed
        * (
            (batch if load.rows else 0.0)
            + 0.7e-3 * load.rows
            + 2e-7 * load.reads
            + 1e-7 * load.pairs
        )
    )


@dataclass
class Hop:
    """From a stage to the next: seconds one way, bytes a second, bytes a row."""

    latency: float
    bandwidth: float = 1e9
    row: int = 2304
    free: float = 0.0


@dataclass
class _Frame:
    batch: Batch
    load: Load
    legs: list[Leg] = field(default_factory=list)
    arrived: float = 0.0


class SimulatedRing:
    """`curves[s]` are the stages' costs; `latency` that of every hop, the one back included."""

    def __init__(self, limits: RingUp, curves: list[Curve], latency: float) -> None:
        self.scheduler = Scheduler()
        self.scheduler.handle(limits)
        self.now = 0.0
        self.arrivals: dict[bytes, list[float]] = {}
        self.finished: dict[bytes, float] = {}
        self.stop_after = 10**9
        self.chosen: list[tuple[float, int]] = []
        self._curves = curves
        self.hops = [Hop(latency) for _ in curves]
        self._queues: list[deque[_Frame]] = [deque() for _ in curves]
        self._busy = [False] * len(curves)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def submit(self, spec: SequenceSpec, at: float = 0.0) -> None:
        """A sequence that comes at a time."""

        def come() -> None:
            self.arrivals[spec.sequence_id] = []
            self.scheduler.handle(Submit(spec))

        self._at(at, come)

    def many(self, number: int, prompt: int, new: int, first: int = 1) -> None:
        """So many alike sequences at once."""
        for i in range(first, first + number):
            self.submit(
                make_spec(i.to_bytes(16, "big"), tuple([7] * prompt), max_tokens=new), self.now
            )

    def run(self, until: float) -> None:
        """Go on until that time, or until nothing is left to do."""
        self._lead()
        while self._events and self._events[0][0] <= until:
            self.now, _, happens = heapq.heappop(self._events)
            happens()
            self._lead()
        self.now = max(self.now, until)

    def rate(self, since: float, until: float) -> float:
        """Tokens a second in an interval."""
        times = sorted(t for each in self.arrivals.values() for t in each if since < t <= until)
        return len(times) / (until - since)

    def _at(self, when: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happens))

    def _lead(self) -> None:
        if self._busy[0]:
            return
        if taken := self.scheduler.next_batch(self.now):
            batch, _ = taken
            self._work(0, _Frame(batch, Load.of(batch.items), arrived=self.now))

    def _work(self, stage: int, frame: _Frame) -> None:
        self._busy[stage] = True
        seconds = self._curves[stage](frame.load)
        frame.legs.append(Leg(self.now - frame.arrived, seconds))
        self._at(self.now + seconds, lambda: self._done(stage, frame))

    def _done(self, stage: int, frame: _Frame) -> None:
        self._busy[stage] = False
        hop, last = self.hops[stage], stage == len(self._curves) - 1
        size = 64 if last else frame.load.rows * hop.row
        hop.free = max(hop.free, self.now) + size / hop.bandwidth
        if len(self._curves) == 1:
            self._back(frame)
        elif last:
            self._at(hop.free + hop.latency, lambda: self._back(frame))
        else:
            self._at(hop.free + hop.latency, lambda: self._arrive(stage + 1, frame))
        if stage and self._queues[stage]:
            self._work(stage, self._queues[stage].popleft())

    def _arrive(self, stage: int, frame: _Frame) -> None:
        frame.arrived = self.now
        if self._busy[stage]:
            self._queues[stage].append(frame)
        else:
            self._work(stage, frame)

    def _back(self, frame: _Frame) -> None:
        tokens = tuple(
            (9, len(self.arrivals[item.sequence_id]) + 1 >= self.stop_after)
            for item in frame.batch.samples
        )
        returned = Returned(frame.batch.step, tokens, self.now, tuple(frame.legs))
        for command in self.scheduler.handle(returned):
            match command:
                case EmitToken(sequence_id, _, _):
                    self.arrivals[sequence_id].append(self.now)
                case EmitFinished(sequence_id, _, _):
                    self.finished[sequence_id] = self.now
        if not self.chosen or self.chosen[-1][1] != self.scheduler.micro_batches:
            self.chosen.append((self.now, self.scheduler.micro_batches))
