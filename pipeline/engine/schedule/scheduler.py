"""The scheduler of stage 0: continuous batching over a ring, as a pure state machine.

    sequence   WAITING → RUNNING ⇄ PREEMPTED → FINISHED / ABORTED

A ring of stages holds so many batches in flight; each comes back to stage 0 once, with one token
for every item that asked for one, and with what every stage took for it. `next_batch` builds the
next batch whenever there is a free slot:

- *Admission*: interactive sequences before batch ones, each class first come, first served, as
  memory allows (`memory`); the head of the queue is overtaken a few times at most, so nothing
  starves.
- *Memory*: a sequence's share of the KV cache grows with it. Where nothing is left, the youngest
  gives way, batch ones first: its cache is dropped, its tokens are kept, and it is computed anew
  when there is room. The oldest never gives way, so there is always one that comes to its end.
- *Batching*: sequences that decode come first, in the order in which they became ready, at most an
  equal share of them, so that the ring stays full of equal batches; never waiting for more: a ring
  short of ready sequences runs what it has. `pace` says how many batches make the ring fastest.
- *Prefill*: known tokens that are not in the KV cache yet are computed in slices, interactive
  sequences' first. `pace` says how much of a prompt a batch takes without making tokens wait, and
  few slices are in flight. A batch of slices alone may go beside the slots of those that decode.
  A next slice need not wait for the one before, since stages work in order.

Completion takes one more trip: the batch that carries a sequence's close comes back once every
stage has sealed its evidence, and only then is the sequence FINISHED. So whatever breaks earlier
leaves it PREEMPTED, and the next ring rebuilds cache and evidence by prefilling prompt + generated
tokens (without sampling if the output was complete already).

Ugly: stop strings need text, and text needs a tokenizer. The caller looks at each returned token
first and says `stopped`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

from pipeline.engine.errors import IllegalTransition
from pipeline.engine.schedule.batch import MAX_CLOSES, MAX_ITEMS, Batch, Grow
from pipeline.engine.schedule.events import (
    Abort,
    Command,
    EmitFailed,
    EmitFinished,
    EmitToken,
    Event,
    Forget,
    Returned,
    RingDown,
    RingUp,
    Submit,
)
from pipeline.engine.schedule.memory import Ledger, MemoryPolicy
from pipeline.engine.schedule.pace import Forecast, Pace, Pacing
from pipeline.engine.schedule.sequence import DONE, Sequence, State
from pipeline.engine.schedule.state import Draft, Flight, RingState, close_of

LOOK_AHEAD = 64
"""Waiting sequences that are looked at for an admission."""
MAX_FLIGHTS = 160
"""Batches in flight at most, whatever they are."""


class Scheduler:
    """See the module's docstring. Not thread-safe: the caller holds a lock."""

    def __init__(self, pacing: Pacing | None = None, memory: MemoryPolicy | None = None) -> None:
        self._sequences: dict[bytes, Sequence] = {}
        self._queue: list[Sequence] = []  # by rank
        self._serial = 0
        self._ring: RingState | None = None
        self._pacing = pacing or Pacing()
        self._memory = memory or MemoryPolicy()

    # --- queries ------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Sequences that hold no KV cache: new or preempted."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Sequences that hold KV cache in the present ring."""
        return 0 if self._ring is None else len(self._running())

    @property
    def micro_batches(self) -> int:
        """Batches that the present ring keeps in flight; 0 without one."""
        return 0 if self._ring is None else self._ring.micro_batches

    @property
    def forecast(self) -> Forecast | None:
        """What the present ring was last predicted to bring, and what it brought."""
        return None if self._ring is None else self._ring.pace.forecast

    def state(self, sequence_id: bytes) -> State | None:
        """The state of a sequence, None if it is unknown."""
        sequence = self._sequences.get(sequence_id)
        return None if sequence is None else sequence.state

    def unfinished(self) -> tuple[bytes, ...]:
        """Ids of the sequences that are neither finished nor aborted, oldest first."""
        return tuple(i for i, sequence in self._sequences.items() if sequence.state not in DONE)

    def expected(self) -> tuple[int, tuple[tuple[bytes, bool], ...]] | None:
        """What must come back next: the oldest step in flight and, for each of its samples, the
        sequence and whether its token will still be used."""
        if self._ring is None or not self._ring.flights:
            return None
        flight = self._ring.flights[0]
        return flight.step, tuple(
            (sequence.spec.sequence_id, sequence.state not in DONE) for sequence in flight.sampled
        )

    def _running(self) -> list[Sequence]:
        return [s for s in self._sequences.values() if s.state is State.RUNNING]

    # --- events -------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Command]:
        """Apply one event. Raises `IllegalTransition` and leaves the state as it was."""
        match event:
            case Submit():
                return self._submit(event)
            case Returned():
                return self._returned(event)
            case Abort(sequence_id):
                self._abort(sequence_id)
                return []
            case Forget(sequence_id):
                self._abort(sequence_id)
                self._sequences.pop(sequence_id, None)
                return []
            case RingUp():
                if self._ring is not None:
                    raise IllegalTransition("a ring is up already")
                ledger = Ledger(event.kv_tokens, self._memory)
                self._ring = RingState(event, Pace(event.stages, self._pacing), ledger)
                return self._reject_oversized(list(self._queue))
            case RingDown():
                self._ring_down()
                return []

    def _submit(self, event: Submit) -> list[Command]:
        spec = event.spec
        if spec.sequence_id in self._sequences:
            return []
        if len(spec.generated) > spec.request.max_tokens:
            raise IllegalTransition("more tokens were generated than max_tokens allows")
        sequence = Sequence(spec, self._serial, [*spec.request.prompt_ids, *spec.generated])
        sequence.reason = sequence.complete(event.stopped)
        self._serial += 1
        self._sequences[spec.sequence_id] = sequence
        self._enqueue(sequence)
        return self._reject_oversized([sequence])

    def _enqueue(self, sequence: Sequence) -> None:
        insort(self._queue, sequence, key=lambda each: each.rank)

    def _reject_oversized(self, sequences: Iterable[Sequence]) -> list[Command]:
        if self._ring is None:
            return []
        limits = self._ring.limits
        room = min(limits.kv_tokens, limits.context)
        commands: list[Command] = []
        for sequence in sequences:
            if sequence.needs > room:
                request = sequence.spec.request
                reason = (
                    f"{len(request.prompt_ids)} prompt tokens + "
                    f"max_tokens {request.max_tokens} exceed "
                    f"the {room} positions that this ring has for one sequence"
                )
                self._abort(request.sequence_id)
                commands.append(EmitFailed(request.sequence_id, reason))
        return commands

    def _returned(self, event: Returned) -> list[Command]:
        ring = self._ring
        if ring is None or not ring.flights or ring.flights[0].step != event.step:
            raise IllegalTransition(f"step {event.step} is not the oldest in flight")
        if len(event.tokens) != len(ring.flights[0].sampled):
            raise IllegalTransition(f"step {event.step} came back with a wrong number of tokens")
        flight = ring.flights.popleft()
        for sequence in flight.members:
            sequence.in_flight -= 1
        commands: list[Command] = []
        for sequence, (token, stopped) in zip(flight.sampled, event.tokens, strict=True):
            if sequence.state in DONE:
                continue  # aborted meanwhile
            commands.append(EmitToken(sequence.spec.sequence_id, sequence.outputs, token))
            sequence.token_ids.append(token)
            sequence.reason = sequence.complete(stopped)
            if sequence.state is State.PREEMPTED:
                continue
            if sequence.reason is None:
                ring.ready.append(sequence)
            else:
                self._release(ring, sequence, sequence.outputs)
        for sequence in flight.sealed:
            if sequence.state is State.RUNNING and sequence.reason is not None:
                sequence.move(State.FINISHED)
                ids = tuple(sequence.token_ids[len(sequence.spec.request.prompt_ids) :])
                commands.append(EmitFinished(sequence.spec.sequence_id, sequence.reason, ids))
        if event.legs and flight.load.rows:
            self._measure(ring, flight, event)
        return commands

    def _measure(self, ring: RingState, flight: Flight, event: Returned) -> None:
        pace, now = ring.pace, event.at
        pace.observe(flight.load, event.legs, now - flight.sent, now)
        prompts = flight.prefills or any(other.prefills for other in ring.flights)
        pace.count(len(event.tokens), ring.decoding, prompts or bool(ring.prompts), now)
        if pace.due(now):
            load = ring.decode_load()
            pace.review(ring.decoding, 0 if load is None else load.reads // load.rows, now)

    def _release(self, ring: RingState, sequence: Sequence, outputs: int) -> None:
        """Give back the KV cache; the next batch tells the stages, before anything takes it."""
        ring.held.remove(sequence)
        ring.memory.take_back(sequence)
        if sequence.num_computed_tokens:
            ring.closing.append((sequence, outputs))

    def _abort(self, sequence_id: bytes) -> None:
        sequence = self._sequences.get(sequence_id)
        if sequence is None or sequence.state in DONE:
            return
        if self._ring is not None and sequence in self._ring.held:
            self._release(self._ring, sequence, 0)
            if sequence in self._ring.ready:
                self._ring.ready.remove(sequence)
            if sequence in self._ring.prompts:
                self._ring.prompts.remove(sequence)
        elif sequence in self._queue:
            self._queue.remove(sequence)
        sequence.move(State.ABORTED)

    def _ring_down(self) -> None:
        if self._ring is None:
            return
        for sequence in self._sequences.values():
            sequence.in_flight = sequence.capacity = 0
        for sequence in self._running():
            self._preempt(sequence)
        self._ring = None

    def _preempt(self, sequence: Sequence) -> None:
        sequence.move(State.PREEMPTED)
        sequence.num_computed_tokens = 0
        self._enqueue(sequence)

    # --- batches ------------------------------------------------------------------------------

    def next_batch(self, now: float = 0.0) -> tuple[Batch, tuple[int, ...]] | None:
        """The next batch and the token ids of its rows; None while there is nothing to send."""
        ring = self._ring
        if ring is None or len(ring.flights) >= MAX_FLIGHTS:
            return None
        self._admit(ring)
        # What a slice of this batch completes is closed by the next one: closes come before items.
        closing, ring.closing = ring.closing[:MAX_CLOSES], ring.closing[MAX_CLOSES:]
        draft = Draft(ring.limits.max_batch_tokens)
        may_decode, may_slice = ring.takes(self._pacing)
        if may_decode:
            self._take_ready(ring, draft)
        decodes = bool(draft.items)
        if ring.prompts and (decodes or may_slice):
            self._take_slices(ring, draft)
        if not draft.items and not closing and not draft.preempted:
            return None
        closing += draft.preempted
        closes = tuple(close_of(sequence, outputs) for sequence, outputs in closing)
        batch = Batch(ring.step, tuple(draft.items), tuple(draft.opens), closes, tuple(draft.grows))
        sealed = tuple(sequence for sequence, outputs in closing if outputs)
        ring.flights.append(
            Flight(
                ring.step,
                tuple(draft.members),
                tuple(draft.sampled),
                sealed,
                draft.load,
                decodes,
                draft.prefills,
                now,
            )
        )
        ring.step += 1
        return batch, tuple(draft.tokens)

    def _take_ready(self, ring: RingState, draft: Draft) -> None:
        share = ring.share(ring.decoding)
        while ring.ready and len(draft.items) < share and draft.budget:
            sequence = ring.ready.popleft()
            if self._has_room(ring, draft, sequence):
                draft.take(sequence, 1)
            elif sequence in ring.held:
                ring.ready.appendleft(sequence)
                return

    def _has_room(self, ring: RingState, draft: Draft, sequence: Sequence) -> bool:
        """Whether the next token has a place in the cache, after making one if need be: others give
        way to an older one, and the youngest itself to others. Where those that should give way are
        in this batch already, the next one will do."""
        before = sequence.capacity
        if before >= len(sequence.token_ids):
            return True
        while not ring.memory.give(sequence):
            younger = [each for each in ring.held if each.rank > sequence.rank]
            outside = [each for each in younger if each not in draft.members]
            if len(draft.preempted) >= MAX_ITEMS or (younger and not outside):
                return False
            self._give_way(ring, draft, max(outside or [sequence], key=lambda each: each.rank))
            if not outside:
                return False
        draft.grows.append(Grow(sequence.spec.sequence_id, sequence.capacity))
        return True

    def _give_way(self, ring: RingState, draft: Draft, sequence: Sequence) -> None:
        ring.held.remove(sequence)
        ring.memory.take_back(sequence)
        for waiting in (ring.ready, ring.prompts):
            if sequence in waiting:
                waiting.remove(sequence)
        if sequence.num_computed_tokens:
            draft.preempted.append((sequence, 0))
        self._preempt(sequence)

    def _take_slices(self, ring: RingState, draft: Draft) -> None:
        pacing, pace = self._pacing, ring.pace
        ahead = sum(1 for flight in ring.flights if flight.prefills)
        if ahead >= ring.limits.stages + pacing.slices_ahead:
            return
        decode = ring.decode_load()
        share = ring.share(len(ring.held))
        for sequence in tuple(ring.prompts):
            if len(draft.items) >= share:
                return
            start = sequence.num_computed_tokens
            most = min(sequence.num_uncomputed_tokens, draft.budget)
            count = pace.slice_of(draft.load, decode, start, most)
            if not draft.prefills:
                count = max(count, min(pacing.least_slice, most))
            if not count:
                return
            draft.prefills = True
            draft.take(sequence, count)
            if not sequence.num_uncomputed_tokens:
                ring.prompts.remove(sequence)
                if sequence.reason is not None:
                    self._release(ring, sequence, sequence.outputs)

    def _admit(self, ring: RingState) -> None:
        first: Sequence | None = None
        for sequence in self._queue[:LOOK_AHEAD]:
            if sequence.in_flight:
                continue  # gave way a moment ago; its token is still on its way
            if not ring.memory.admits(sequence, ring.held):
                first = first or sequence
                continue
            if first is not None and not ring.memory.overtakes(first):
                return
            self._queue.remove(sequence)
            sequence.move(State.RUNNING)
            ring.memory.give(sequence)
            sequence.overtaken = 0
            ring.held.add(sequence)
            insort(ring.prompts, sequence, key=lambda each: each.rank)
