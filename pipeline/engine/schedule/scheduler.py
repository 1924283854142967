"""The scheduler of stage 0: continuous batching over a ring, as a pure state machine.

    sequence   WAITING → RUNNING ⇄ PREEMPTED → FINISHED / ABORTED

A ring of stages holds so many batches in flight; each comes back to stage 0 once, with one token
for every item that asked for one, and with what every stage took for it. `next_batch` builds the
next batch whenever there is a free slot:

- *Admission*: interactive sequences before batch ones, each class first come, first served, as long
  as prompt + max_tokens positions of KV cache can be reserved. The head of the queue is never
  overtaken, so nothing starves.
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
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.engine.errors import IllegalTransition
from pipeline.engine.schedule.batch import MAX_CLOSES, MAX_ITEMS, Batch, Close, Item, Open
from pipeline.engine.schedule.costs import Load
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
from pipeline.engine.schedule.pace import Forecast, Pace, Pacing
from pipeline.engine.schedule.sequence import DONE, Sequence, State
from proofs.evidence.ring_terms import ending_digest

MAX_FLIGHTS = 160
"""Batches in flight at most, whatever they are."""


@dataclass(frozen=True)
class _Flight:
    """A batch under way, with the sequences (not ids: an id may be used again) that it concerns."""

    step: int
    sampled: tuple[Sequence, ...]
    sealed: tuple[Sequence, ...]
    load: Load
    decodes: bool
    prefills: bool
    sent: float


@dataclass
class _Ring:
    """`held` sequences have KV reserved. Of these, `prompts` (by rank) have more to compute than
    their newest token, `ready` ones just that."""

    limits: RingUp
    pace: Pace
    step: int = 0
    flights: deque[_Flight] = field(default_factory=deque)
    held: set[Sequence] = field(default_factory=set)
    prompts: list[Sequence] = field(default_factory=list)
    ready: deque[Sequence] = field(default_factory=deque)
    closing: list[tuple[Sequence, int]] = field(default_factory=list)

    @property
    def micro_batches(self) -> int:
        return self.limits.micro_batches or self.pace.micro_batches

    @property
    def decoding(self) -> int:
        return len(self.held) - len(self.prompts)

    def takes(self, pacing: Pacing) -> tuple[bool, bool]:
        """Whether there is a slot for a batch of sequences that decode, and for one of slices
        alone. Those have slots of their own, so that neither keeps the other waiting."""
        working = [flight for flight in self.flights if flight.load.rows]
        if self.limits.micro_batches:
            return (len(working) < self.limits.micro_batches,) * 2
        decoding = sum(flight.decodes for flight in working)
        beside = 1 if self.decoding else min(self.limits.stages, pacing.most)
        return decoding < self.micro_batches, len(working) - decoding < beside

    def share(self, sequences: int) -> int:
        """An equal part of so many sequences."""
        return min(MAX_ITEMS, -(-sequences // self.micro_batches))

    def decode_load(self) -> Load | None:
        """A batch of sequences as they decode now; None where none does."""
        prompts = set(self.prompts)
        lengths = [len(s.token_ids) for s in self.held if s not in prompts]
        share = self.share(len(lengths))
        return Load(share, sum(lengths) * share // len(lengths)) if lengths else None


class _Draft:
    """A batch as it is put together."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.items: list[Item] = []
        self.opens: list[Open] = []
        self.tokens: list[int] = []
        self.sampled: list[Sequence] = []
        self.load = Load(0)
        self.prefills = False

    def take(self, sequence: Sequence, count: int) -> Item:
        """Take the next `count` tokens of a sequence; one is wanted after the last known one."""
        if not sequence.num_computed_tokens:
            self.opens.append(_open(sequence))
        start = sequence.num_computed_tokens
        sequence.num_computed_tokens += count
        wanted = not sequence.num_uncomputed_tokens and sequence.reason is None
        item = Item(sequence.spec.sequence_id, start, count, wanted)
        self.items.append(item)
        self.tokens += sequence.token_ids[start : start + count]
        self.budget -= count
        self.load = Load.of(self.items) if count > 1 else self.load.plus_read(start)
        if wanted:
            self.sampled.append(sequence)
        return item


class Scheduler:
    """See the module's docstring. Not thread-safe: the caller holds a lock."""

    def __init__(self, pacing: Pacing | None = None) -> None:
        self._sequences: dict[bytes, Sequence] = {}
        self._queue: list[Sequence] = []  # by rank
        self._serial = 0
        self._ring: _Ring | None = None
        self._pacing = pacing or Pacing()

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
            (sequence.spec.sequence_id, sequence.state is State.RUNNING)
            for sequence in flight.sampled
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
                self._ring = _Ring(event, Pace(event.stages, self._pacing))
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
        commands: list[Command] = []
        for sequence, (token, stopped) in zip(flight.sampled, event.tokens, strict=True):
            if sequence.state is not State.RUNNING:
                continue  # aborted meanwhile
            commands.append(EmitToken(sequence.spec.sequence_id, sequence.outputs, token))
            sequence.token_ids.append(token)
            sequence.reason = sequence.complete(stopped)
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

    def _measure(self, ring: _Ring, flight: _Flight, event: Returned) -> None:
        pace, now = ring.pace, event.at
        pace.observe(flight.load, event.legs, now - flight.sent, now)
        prompts = flight.prefills or any(other.prefills for other in ring.flights)
        pace.count(len(event.tokens), ring.decoding, prompts or bool(ring.prompts), now)
        if pace.due(now):
            load = ring.decode_load()
            pace.review(ring.decoding, 0 if load is None else load.reads // load.rows, now)

    def _release(self, ring: _Ring, sequence: Sequence, outputs: int) -> None:
        """Give back the KV cache; the next batch tells the stages, before anything takes it."""
        ring.held.remove(sequence)
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
        for sequence in self._running():
            sequence.move(State.PREEMPTED)
            sequence.num_computed_tokens = 0
            self._enqueue(sequence)
        self._ring = None

    # --- batches ------------------------------------------------------------------------------

    def next_batch(self, now: float = 0.0) -> tuple[Batch, tuple[int, ...]] | None:
        """The next batch and the token ids of its rows; None while there is nothing to send."""
        ring = self._ring
        if ring is None or len(ring.flights) >= MAX_FLIGHTS:
            return None
        self._admit(ring)
        # What a slice of this batch completes is closed by the next one: closes come before items.
        closing, ring.closing = ring.closing[:MAX_CLOSES], ring.closing[MAX_CLOSES:]
        draft = _Draft(ring.limits.max_batch_tokens)
        may_decode, may_slice = ring.takes(self._pacing)
        if may_decode:
            self._take_ready(ring, draft)
        decodes = bool(draft.items)
        if ring.prompts and (decodes or may_slice):
            self._take_slices(ring, draft)
        if not draft.items and not closing:
            return None
        closes = tuple(_close(sequence, outputs) for sequence, outputs in closing)
        batch = Batch(ring.step, tuple(draft.items), tuple(draft.opens), closes)
        sealed = tuple(sequence for sequence, outputs in closing if outputs)
        ring.flights.append(
            _Flight(
                ring.step, tuple(draft.sampled), sealed, draft.load, decodes, draft.prefills, now
            )
        )
        ring.step += 1
        return batch, tuple(draft.tokens)

    def _take_ready(self, ring: _Ring, draft: _Draft) -> None:
        share = ring.share(ring.decoding)
        while ring.ready and len(draft.items) < share and draft.budget:
            draft.take(ring.ready.popleft(), 1)

    def _take_slices(self, ring: _Ring, draft: _Draft) -> None:
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

    def _admit(self, ring: _Ring) -> None:
        used = sum(sequence.needs for sequence in ring.held)
        while self._queue and used + self._queue[0].needs <= ring.limits.kv_tokens:
            sequence = self._queue.pop(0)
            sequence.move(State.RUNNING)
            used += sequence.needs
            ring.held.add(sequence)
            insort(ring.prompts, sequence, key=lambda each: each.rank)


def _open(sequence: Sequence) -> Open:
    request = sequence.spec.request
    return Open(
        request.sequence_id,
        len(request.prompt_ids),
        sequence.needs,
        request.sampling,
        ending_digest(request),
    )


def _close(sequence: Sequence, outputs: int) -> Close:
    return Close(sequence.spec.sequence_id, outputs, sequence.token_ids[-1] if outputs else 0)
