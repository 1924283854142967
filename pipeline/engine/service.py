"""What the engine does on request: the state behind the requests and the rules between them.

State is a loaded slice, at most one ring on it, stage 0's head, and sealed evidence; the port where
neighbours connect is `data_port.py`'s. Changing the slice or the ring takes a new *attempt* number
first; whatever an older attempt finishes later (a neighbour that connects after the group was
rebuilt without it) finds its number outdated and is undone. One lock guards the pointers and is
never held while something waits.

Torch and what needs it are imported on first use: an engine answers `status` within a fraction of a
second after its start.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import structlog

from pipeline.dataplane import Recall
from pipeline.engine.composition import conduct_of, load_engine_model
from pipeline.engine.control.messages import (
    Bench,
    Benched,
    EdgeDown,
    Empty,
    EngineStatus,
    Evidence,
    Failed,
    JoinRing,
    Listen,
    Listening,
    Load,
    Loaded,
    Message,
    SequenceIds,
    Submit,
)
from pipeline.engine.control.operations import (
    ABORT,
    BENCH,
    EVIDENCE,
    FORGET,
    JOIN_RING,
    LISTEN,
    LOAD,
    REPLAY,
    STATUS,
    SUBMIT,
    UNLOAD,
    Handlers,
)
from pipeline.engine.control.replay_messages import Replay, Replayed
from pipeline.engine.counters import Counters
from pipeline.engine.data_port import DataPort
from pipeline.engine.errors import EngineError
from pipeline.engine.evidence.held import HeldRows
from pipeline.engine.evidence.rows import RowsStore
from pipeline.engine.evidence.store import EvidenceStore
from pipeline.engine.loading import LoadedModel
from pipeline.engine.ring.head import RingHead
from pipeline.engine.ring.joining import check_join
from pipeline.engine.ring.ring import Edges, Place, RingThreads, Side
from proofs.evidence.ring_terms import ring_digest

if TYPE_CHECKING:
    from pipeline.engine.replay import Replayer

log = structlog.get_logger("pipeline.engine")

Emit = Callable[[str, Message], None]


class EngineService:
    """Thread-safe; `emit` sends an event to the control process."""

    def __init__(self, edge_socket: str, threads: int, emit: Emit) -> None:
        self._port = DataPort(edge_socket)
        self._threads = threads
        self._emit = emit
        self._lock = threading.Lock()
        self._attempt = 0
        self._recall = Recall()
        self._model: LoadedModel | None = None
        self._ring: RingThreads | None = None
        self._head: RingHead | None = None
        self._evidence = EvidenceStore()
        self._counters = Counters()
        self._replayer: Replayer | None = None  # used by the audit lane alone

    def handlers(self) -> Handlers:
        """The handler of every operation but `SHUTDOWN`. Raises LookupError if one is missing."""
        handlers = Handlers()
        handlers.on(STATUS, self.status)
        handlers.on(LOAD, self.load)
        handlers.on(UNLOAD, self.unload)
        handlers.on(LISTEN, self.listen)
        handlers.on(JOIN_RING, self.ring)
        handlers.on(SUBMIT, self.submit)
        handlers.on(ABORT, self.abort)
        handlers.on(EVIDENCE, self.evidence)
        handlers.on(FORGET, self.forget)
        handlers.on(REPLAY, self.replay)
        handlers.on(BENCH, self.bench)
        handlers.check_complete()
        return handlers

    def close(self) -> None:
        """End the ring and the listener, so that neighbours hear at once. The process ends next."""
        self._end_ring()
        self._port.close()

    # --- slice --------------------------------------------------------------------------------

    def load(self, body: Load) -> Loaded:
        """Load a slice; the ring, its evidence and waiting sequences go. Raises `EngineError`."""
        attempt = self._end_ring()
        with self._lock:
            self._model = None
        self._use_threads()
        model = load_engine_model(body)
        with self._lock:
            self._check_current(attempt)
            self._model = model
            # Nothing of an earlier generation may survive: its evidence is about other boundaries,
            # and its tokens may come from a stage that has been convicted since. The orchestrator
            # resubmits what should continue.
            self._evidence.clear()
            self._head = None
            if model.tokenizer is not None:
                vocab = model.slice.vocab_size
                self._head = RingHead(
                    body.model_id, model.tokenizer, model.context, vocab, self._emit
                )
        log.info(
            "slice loaded",
            layers=[body.first_layer, body.last_layer],
            seconds=round(model.seconds, 3),
            weights_bytes=model.runner.weights_bytes,
        )
        return Loaded(
            weights_bytes=model.runner.weights_bytes,
            kv_bytes=model.runner.kv_bytes,
            seconds=model.seconds,
        )

    def unload(self, _body: Empty) -> Empty:
        """Give up ring and slice; idempotent."""
        self._end_ring()
        with self._lock:
            self._model = None
            self._head = None
        return Empty()

    def _use_threads(self) -> None:
        import torch

        torch.set_num_threads(self._threads)

    # --- ring ---------------------------------------------------------------------------------

    def listen(self, body: Listen) -> Listening:
        """Open the data port's listener (`DataPort.listen`). Raises `EngineError` (edge)."""
        return self._port.listen(body)

    def ring(self, body: JoinRing) -> Empty:
        """Leave the present ring and join another; returns once both edges are up.

        Raises `EngineError`: not_loaded, bad_request for a cut that the slice does not fit,
        upstream or downstream where there is no edge to that neighbour, edge where a later request
        replaced this one.
        """
        attempt = self._end_ring()
        with self._lock:
            model = self._model
            head = self._head if body.stage == 0 else None
        if model is None:
            raise EngineError("not_loaded", "load a slice before joining a ring")
        check_join(body, model)
        edges = None
        if body.stages > 1:
            edges = self._port.connect(body, model, self._recall_of(attempt))
        try:
            with self._lock:
                self._check_current(attempt)
                self._ring = self._start_ring(body, model, head, edges)
        except EngineError:
            if edges is not None:
                edges.downstream.close()
                edges.upstream.close()
            raise
        log.info("ring is up", group=body.group_id.hex()[:12], generation=body.generation)
        return Empty()

    def _start_ring(
        self, body: JoinRing, model: LoadedModel, head: RingHead | None, edges: Edges | None
    ) -> RingThreads:
        from pipeline.engine.ring.stage import Stage

        def down(side: Side, reason: str, farewell: bool) -> None:
            log.warning("ring is down", generation=body.generation, edge=side, reason=reason)
            self._emit(
                "edge_down",
                EdgeDown(
                    group_id=body.group_id,
                    generation=body.generation,
                    edge=side,
                    reason=reason[:4096],
                    farewell=farewell,
                ),
            )

        def failed(sequence_ids: tuple[bytes, ...], reason: str) -> None:
            log.warning("sequences failed", generation=body.generation, reason=reason)
            self._emit(
                "failed",
                Failed(generation=body.generation, sequence_ids=sequence_ids, reason=reason[:4096]),
            )

        request = model.request
        rows = None
        if request.rows_dir:
            folder = Path(request.rows_dir)
            rows = RowsStore(folder, request.rows_bytes, HeldRows(folder, request.rows_age))
        digest = ring_digest(request.model_id, body.group_id, body.generation, body.boundaries)
        conduct = conduct_of(request.fault)
        stage = Stage(model, self._evidence, self._counters, digest, rows, conduct)
        place = Place(body.generation, body.stage, body.stages)
        threads = RingThreads(place, stage, head, edges, down, failed)
        if head is not None:
            head.ring_up(body, model.request.kv_tokens)
        threads.start()
        return threads

    def _end_ring(self) -> int:
        """Stop the ring, if any, and outdate whoever is still building one."""
        with self._lock:
            self._attempt += 1
            attempt = self._attempt
            ring, self._ring = self._ring, None
            self._recall.give()
            self._recall = Recall()
        if ring is not None:
            ring.stop()
        return attempt

    def _recall_of(self, attempt: int) -> Recall:
        """What ends the waits of this attempt once a later one replaces it. Raises `EngineError`
        where that has happened already."""
        with self._lock:
            self._check_current(attempt)
            return self._recall

    def _check_current(self, attempt: int) -> None:
        if attempt != self._attempt:
            raise EngineError("edge", "a later request replaced this one")

    # --- sequences ----------------------------------------------------------------------------

    def submit(self, body: Submit) -> Empty:
        """Queue sequences. Raises `EngineError`: not_loaded without stage 0, bad_request."""
        head = self._head
        if head is None:
            raise EngineError("not_loaded", "only an engine that has stage 0 loaded takes work")
        head.submit(body.sequences)
        return Empty()

    def abort(self, body: SequenceIds) -> Empty:
        """Stop generating these sequences; unknown ones are ignored."""
        head = self._head
        if head is not None:
            head.abort(body.sequence_ids)
        return Empty()

    def evidence(self, body: SequenceIds) -> Evidence:
        """Evidence of finished sequences. Raises `EngineError` (unknown_sequence)."""
        return Evidence(items=self._evidence.get(body.sequence_ids))

    def forget(self, body: SequenceIds) -> Empty:
        """Drop these sequences and their evidence; kept rows stay."""
        head = self._head
        if head is not None:
            head.forget(body.sequence_ids)
        self._evidence.forget(body.sequence_ids)
        return Empty()

    # --- others -------------------------------------------------------------------------------

    def replay(self, body: Replay) -> Replayed:
        """Measure finished sequences. Raises `EngineError` (model, bad_request, out_of_memory)."""
        self._use_threads()
        from pipeline.engine.replay import Replayer

        self._replayer = self._replayer or Replayer()
        return self._replayer.replay(body)

    def bench(self, body: Bench) -> Benched:
        """Time one layer. Raises `EngineError` (bad_request, model)."""
        self._use_threads()
        from pipeline.engine.bench import bench_layer

        return bench_layer(body)

    def status(self, _body: Empty) -> EngineStatus:
        """A snapshot; never waits for a load, a replay or a step."""
        with self._lock:
            model, head = self._model, self._head
        micro_batches, forecast = (0, None) if head is None else head.pace
        return EngineStatus(
            pid=os.getpid(),
            rss=psutil.Process().memory_info().rss,
            kv_tokens_used=0 if model is None else model.runner.kv_tokens_used,
            running=0 if head is None else head.running,
            compute_seconds=self._counters.compute_seconds,
            rows=self._counters.rows,
            threads=self._threads,
            micro_batches=micro_batches,
            promised=0.0 if forecast is None else forecast.promised,
            came=0.0 if forecast is None else forecast.came,
        )
