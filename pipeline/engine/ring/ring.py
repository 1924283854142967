"""One generation of a ring at one stage: its edges and the threads that work on them.

Threads of a ring with several stages:

- *compute*: stage 0 takes a batch from the head, runs it and passes the step frame on; any other
  stage receives a step frame, runs it and passes it on (the last one: a token frame to stage 0);
- *send*: sends what compute leaves in the outbox, so that a stage works on while a frame goes out;
- *tokens* (stage 0): receives token frames and hands them to the head. It never waits for compute,
  and at most `micro_batches` frames are under way, so the ring cannot lock itself up however full
  it is;
- *watch*: waits on the outgoing edge, on which nothing may arrive, to learn at once that it broke.

Edges receive into their own buffers meanwhile, so moving a frame overlaps with computing the last.
With one stage there is no edge and one thread.

The first thing that goes wrong ends the ring: both edges are closed, so that the neighbours end
too, and the owner hears once which edge it was and why. Errors of the edges and violations by a
neighbour are such reasons; anything else in a thread is a bug and ends the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.dataplane import Edge, EdgeClosed, EdgeError
from pipeline.engine.errors import EngineError, StageViolation
from pipeline.engine.ring import frames
from pipeline.engine.ring.head import RingHead
from pipeline.engine.ring.outbox import Outbox, OutFrame
from pipeline.engine.schedule.batch import Batch
from pipeline.engine.schedule.pace import Leg

if TYPE_CHECKING:
    from pipeline.engine.ring.stage import Stage, StepOutcome

Side = Literal["upstream", "downstream"]
OnDown = Callable[[Side, str, bool], None]
"""Told which edge, why, and whether the neighbour itself closed it in good order."""
OnFailed = Callable[[tuple[bytes, ...], str], None]
"""Told which sequences this stage cannot work on, and why; the ring goes on without them."""


@dataclass(frozen=True)
class Edges:
    """Connections to both neighbours of a stage; frames go from upstream to downstream."""

    upstream: Edge
    downstream: Edge


@dataclass(frozen=True)
class Place:
    """Which `stage` of how many a ring of that generation has here."""

    generation: int
    stage: int
    stages: int


class RingThreads:
    """Runs until `stop` or the first failure; `on_down` is called at most once, `on_failed` before
    anything of the step goes on."""

    def __init__(
        self,
        place: Place,
        stage: Stage,
        head: RingHead | None,
        edges: Edges | None,
        on_down: OnDown,
        on_failed: OnFailed,
    ) -> None:
        self._place = place
        self._stage = stage
        self._head = head
        self._edges = edges
        self._on_down = on_down
        self._on_failed = on_failed
        self._lock = threading.Lock()
        self._over = False
        self._outbox = Outbox()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads. At stage 0 the head must be up already."""
        targets: dict[str, Callable[[], None]] = {"compute": self._forward}
        if self._head is not None:
            targets["compute"] = self._alone if self._edges is None else self._lead
            if self._edges is not None:
                targets["tokens"] = self._take_tokens
        if self._edges is not None:
            targets["watch"] = self._watch
            targets["send"] = self._send
        for name, target in targets.items():
            thread = threading.Thread(target=target, name=f"ring-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the ring in good order and wait for its threads. Not from a ring thread."""
        if self._claim_end():
            self._close_edges()
        for thread in self._threads:
            thread.join()
        self._stage.close()

    # --- thread bodies ------------------------------------------------------------------------

    def _alone(self) -> None:
        assert self._head is not None
        try:
            while taken := self._head.wait_batch():
                batch, tokens = taken
                outcome, leg = self._run(batch, tokens, time.monotonic())
                self._head.returned(batch.step, outcome.tokens, (leg,))
        except EngineError as exc:
            self._fail("upstream", exc)

    def _lead(self) -> None:
        assert self._head is not None
        assert self._edges is not None
        try:
            while taken := self._head.wait_batch():
                batch, tokens = taken
                outcome, leg = self._run(batch, tokens, time.monotonic())
                header = frames.encode_step(self._place.generation, batch)
                header += frames.encode_legs([leg])
                if not self._outbox.put(OutFrame(header, outcome.payload)):
                    return
        except EngineError as exc:
            self._fail("upstream", exc)

    def _take_tokens(self) -> None:
        assert self._head is not None
        assert self._edges is not None
        try:
            while True:
                header, payload = self._edges.upstream.recv()
                if payload:
                    raise StageViolation("token frame with a payload")
                self._head.returned_frame(header)
        except (EdgeError, EngineError) as exc:
            self._fail("upstream", exc)

    def _forward(self) -> None:
        assert self._edges is not None
        while True:
            try:
                frame, payload = self._edges.upstream.recv()
                header, trail = frames.split_trail(frame, self._place.stage)
                batch = frames.decode_step(header, self._place.generation)
                outcome, leg = self._run(batch, payload, self._edges.upstream.arrived)
            except (EdgeError, EngineError) as exc:
                return self._fail("upstream", exc)
            if outcome.payload is None:
                header = frames.encode_tokens(self._place.generation, batch.step, outcome.tokens)
            header += trail + frames.encode_legs([leg])
            if not self._outbox.put(OutFrame(header, outcome.payload)):
                return None

    def _send(self) -> None:
        assert self._edges is not None
        try:
            while frame := self._outbox.take():
                self._edges.downstream.send(frame.header, frame.payload)
        except EdgeError as exc:
            self._fail("downstream", exc)

    def _watch(self) -> None:
        assert self._edges is not None
        try:
            self._edges.downstream.recv()
            self._fail("downstream", StageViolation("a frame came against the ring's direction"))
        except EdgeError as exc:
            self._fail("downstream", exc)

    def _run(
        self, batch: Batch, inputs: Sequence[int] | memoryview, arrived: float
    ) -> tuple[StepOutcome, Leg]:
        started = time.monotonic()
        outcome = self._stage.run(batch, inputs)
        if outcome.failed:
            self._on_failed(outcome.failed, outcome.reason)
        return outcome, Leg(started - arrived, time.monotonic() - started)

    # --- the end ------------------------------------------------------------------------------

    def _fail(self, side: Side, error: EdgeError | EngineError) -> None:
        """Report the first failure, then close; closing may wait for a slow neighbour."""
        if self._claim_end():
            reason = error.reason if isinstance(error, EdgeError) else error.message
            self._on_down(side, reason, isinstance(error, EdgeClosed))
            self._close_edges()

    def _claim_end(self) -> bool:
        """True for the first caller; no batch is given out any more."""
        with self._lock:
            if self._over:
                return False
            self._over = True
        self._outbox.close()
        if self._head is not None:
            self._head.ring_down()
        return True

    def _close_edges(self) -> None:
        if self._edges is not None:
            self._edges.downstream.close()
            self._edges.upstream.close()
