"""The head of a ring: stage 0's sequences, shared between the threads that deal with them.

The IPC thread submits and aborts, the ring's compute thread takes batches, the ring's token thread
brings tokens back. One lock guards the scheduler; a condition wakes the compute thread. Events are
sent after the lock is released, so a slow control process delays tokens but blocks no one else.

The head outlives rings: sequences of a broken ring wait here for the next one. It does not outlive
the slice; after a `load` the owner resubmits whatever should continue. Text lives here and not in
the scheduler: every returned token goes through its sequence's stream decoder, which says whether a
stop string came.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from pipeline.engine.control.messages import (
    Failed,
    Finished,
    JoinRing,
    Message,
    SequenceSpec,
    Tokens,
)
from pipeline.engine.errors import EngineError, StageViolation
from pipeline.engine.ring.frames import decode_legs, decode_tokens, split_trail
from pipeline.engine.schedule.batch import Batch
from pipeline.engine.schedule.events import (
    Abort,
    Command,
    EmitFailed,
    EmitFinished,
    EmitToken,
    Forget,
    Returned,
    RingDown,
    RingUp,
    Submit,
)
from pipeline.engine.schedule.pace import Forecast, Leg
from pipeline.engine.schedule.scheduler import Scheduler
from pipeline.models.stop_strings import StopStringWatch
from pipeline.models.tokenizer import ChatTokenizer

EmitEvent = Callable[[str, Message], None]

MAX_SEQUENCES = 16384


class RingHead:
    """Thread-safe. `context` is the model's longest sequence, `vocab` its vocabulary size."""

    def __init__(
        self, model_id: bytes, reader: ChatTokenizer, context: int, vocab: int, emit: EmitEvent
    ) -> None:
        self.model_id = model_id
        self._reader = reader
        self._context = context
        self._vocab = vocab
        self._emit = emit
        self._changed = threading.Condition()
        self._scheduler = Scheduler()
        self._watches: dict[bytes, StopStringWatch] = {}
        self._generation = 0
        self._stages = 1
        self._up = False

    @property
    def running(self) -> int:
        """Sequences that hold KV cache in the present ring."""
        with self._changed:
            return self._scheduler.running

    @property
    def pace(self) -> tuple[int, Forecast]:
        """Batches in flight at most, and the last prediction beside what came of it."""
        with self._changed:
            forecast = self._scheduler.forecast or Forecast(0.0, 0.0)
            return self._scheduler.micro_batches, forecast

    # --- the control process's side -----------------------------------------------------------

    def submit(self, specs: Iterable[SequenceSpec]) -> None:
        """Queue new sequences, ignore known ones. Raises `EngineError` before any is queued."""
        specs = tuple(specs)
        watches = [self._watch(spec) for spec in specs]
        commands: list[Command] = []
        with self._changed:
            fresh = [spec for spec in specs if spec.sequence_id not in self._watches]
            if len(self._watches) + len(fresh) > MAX_SEQUENCES:
                raise EngineError(
                    "bad_request",
                    f"{len(self._watches)} sequences are held; forget finished ones first",
                )
            for spec, watch in zip(specs, watches, strict=True):
                if spec.sequence_id not in self._watches:
                    self._watches[spec.sequence_id] = watch
                    commands += self._scheduler.handle(Submit(spec, watch.stopped))
            self._changed.notify_all()
        self._tell(commands)

    def abort(self, sequence_ids: Iterable[bytes]) -> None:
        """Stop generating; ids that are unknown or done already are ignored."""
        with self._changed:
            for sequence_id in sequence_ids:
                self._scheduler.handle(Abort(sequence_id))
            self._changed.notify_all()

    def forget(self, sequence_ids: Iterable[bytes]) -> None:
        """Abort if need be, and drop all memory of these sequences."""
        with self._changed:
            for sequence_id in sequence_ids:
                self._scheduler.handle(Forget(sequence_id))
                self._watches.pop(sequence_id, None)
            self._changed.notify_all()

    def _watch(self, spec: SequenceSpec) -> StopStringWatch:
        request, limit = spec.request, self._context
        if len(request.prompt_ids) + request.max_tokens > limit:
            raise EngineError(
                "bad_request",
                f"{len(request.prompt_ids)} prompt tokens + max_tokens {request.max_tokens} exceed "
                f"the model's context of {limit}",
            )
        if len(spec.generated) > request.max_tokens:
            raise EngineError("bad_request", "more tokens were generated than max_tokens allows")
        if max((*request.prompt_ids, *spec.generated)) >= self._vocab:
            raise EngineError("bad_request", f"a token id is not below {self._vocab}")
        return StopStringWatch(self._reader, request.stop, spec.generated)

    # --- the ring's side ----------------------------------------------------------------------

    def ring_up(self, ring: JoinRing, kv_tokens: int) -> None:
        """From now on batches may be taken for this ring."""
        with self._changed:
            self._generation, self._stages = ring.generation, ring.stages
            self._up = True
            commands = self._scheduler.handle(
                RingUp(
                    kv_tokens,
                    self._context,
                    ring.micro_batches,
                    ring.max_batch_tokens,
                    ring.stages,
                )
            )
            self._changed.notify_all()
        self._tell(commands)

    def ring_down(self) -> None:
        """Stop; whoever waits for a batch gets None. Idempotent."""
        with self._changed:
            self._up = False
            self._scheduler.handle(RingDown())
            self._changed.notify_all()

    def wait_batch(self) -> tuple[Batch, tuple[int, ...]] | None:
        """Block until there is a batch to run; None once the ring is down."""
        with self._changed:
            while self._up:
                if batch := self._scheduler.next_batch(time.monotonic()):
                    return batch
                self._changed.wait()
        return None

    def returned_frame(self, frame: bytes) -> None:
        """Take in a token frame's header. Raises `StageViolation`."""
        with self._changed:
            expected = self._scheduler.expected() if self._up else None
            generation = self._generation
        if expected is None:
            raise StageViolation("tokens came back while no batch was in flight")
        step, sampled = expected
        header, trail = split_trail(frame, self._stages)
        tokens = decode_tokens(header, generation, step, len(sampled), self._vocab)
        self.returned(step, tokens, decode_legs(trail))

    def returned(self, step: int, tokens: Iterable[int], legs: tuple[Leg, ...]) -> None:
        """Take in the tokens of the oldest batch in flight, in the order of its samples, and what
        the stages took for it."""
        now = time.monotonic()
        with self._changed:
            expected = self._scheduler.expected()
            if not self._up or expected is None or expected[0] != step:
                return  # the ring went down meanwhile
            pairs = []
            for (sequence_id, live), token in zip(expected[1], tokens, strict=True):
                stopped = live and self._watches[sequence_id].push(token)
                pairs.append((token, stopped))
            commands = self._scheduler.handle(Returned(step, tuple(pairs), now, legs))
            self._changed.notify_all()
        self._tell(commands)

    def _tell(self, commands: Iterable[Command]) -> None:
        generation = self._generation
        for command in commands:
            match command:
                case EmitToken(sequence_id, offset, token):
                    body: Message = Tokens(
                        generation=generation,
                        sequence_id=sequence_id,
                        offset=offset,
                        ids=(token,),
                    )
                    self._emit("tokens", body)
                case EmitFinished(sequence_id, reason, ids):
                    body = Finished(
                        generation=generation,
                        sequence_id=sequence_id,
                        reason=reason,
                        ids=ids,
                    )
                    self._emit("finished", body)
                case EmitFailed(sequence_id, reason):
                    self._emit(
                        "failed",
                        Failed(generation=generation, sequence_ids=(sequence_id,), reason=reason),
                    )
