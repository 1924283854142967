"""The scheduler of stage 0: continuous batching over a ring, as a pure state machine.

    sequence   WAITING → RUNNING ⇄ PREEMPTED → FINISHED / ABORTED

A ring of stages holds at most `micro_batches` batches in flight; each comes back to stage 0 once,
with one token for every item that asked for one. `next_batch` builds the next batch whenever there
is a free slot:

- *Admission*: first come, first served, as long as prompt + max_tokens positions of KV cache can be
  reserved. The head of the queue is never overtaken, so nothing starves.
- *Batching*: sequences are taken in the order in which they became ready, at most
  ceil(running / micro_batches) of them, so that the ring stays full of equal batches, and never
  waiting for more: a ring short of ready sequences runs what it has.
- *Prefill*: known tokens that are not in the KV cache yet are computed in chunks of at most
  `max_batch_tokens`.
  A next chunk need not wait for the one before, since stages work in order.

Completion takes one more trip: the batch that carries a sequence's close comes back once every
stage has sealed its evidence, and only then is the sequence FINISHED. So whatever breaks earlier
leaves it PREEMPTED, and the next ring rebuilds cache and evidence by prefilling prompt + generated
tokens (without sampling if the output was complete already).

Ugly: stop strings need text, and text needs a tokenizer. The caller looks at each returned token
first and says `stopped`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.engine.errors import IllegalTransition
from pipeline.engine.ring.batch import MAX_CLOSES, MAX_ITEMS, Batch, Close, Item, Open
from pipeline.engine.ring.events import (
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
from pipeline.engine.ring.sequence import DONE, Sequence, State
from proofs.evidence.ring_terms import ending_digest


@dataclass(frozen=True)
class _Flight:
    """A batch under way, with the sequences (not ids: an id may be used again) that it concerns."""

    step: int
    sampled: tuple[Sequence, ...]
    sealed: tuple[Sequence, ...]


@dataclass
class _Ring:
    """`held` sequences have KV reserved; `ready` ones of them have tokens to compute."""

    limits: RingUp
    step: int = 0
    flights: deque[_Flight] = field(default_factory=deque)
    held: set[Sequence] = field(default_factory=set)
    ready: deque[Sequence] = field(default_factory=deque)
    closing: list[tuple[Sequence, int]] = field(default_factory=list)


class Scheduler:
    """See the module's docstring. Not thread-safe: the caller holds a lock."""

    def __init__(self) -> None:
        self._sequences: dict[bytes, Sequence] = {}
        self._queue: deque[Sequence] = deque()
        self._serial = 0
        self._ring: _Ring | None = None

    # --- queries ------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Sequences that hold no KV cache: new or preempted."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Sequences that hold KV cache in the present ring."""
        return 0 if self._ring is None else len(self._running())

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
                self._ring = _Ring(event)
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
        self._queue.append(sequence)
        return self._reject_oversized([sequence])

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
        return commands

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
        elif sequence in self._queue:
            self._queue.remove(sequence)
        sequence.move(State.ABORTED)

    def _ring_down(self) -> None:
        if self._ring is None:
            return
        running = sorted(self._running(), key=lambda sequence: sequence.serial)
        for sequence in running:
            sequence.move(State.PREEMPTED)
            sequence.num_computed_tokens = 0
        self._queue.extendleft(reversed(running))
        self._ring = None

    # --- batches ------------------------------------------------------------------------------

    def next_batch(self) -> tuple[Batch, tuple[int, ...]] | None:
        """The next batch and the token ids of its rows; None while there is nothing to send."""
        ring = self._ring
        if ring is None or len(ring.flights) >= ring.limits.micro_batches:
            return None
        self._admit(ring)
        if not ring.ready and not ring.closing:
            return None
        closing, ring.closing = ring.closing[:MAX_CLOSES], ring.closing[MAX_CLOSES:]
        items: list[Item] = []
        opens: list[Open] = []
        tokens: list[int] = []
        sampled: list[Sequence] = []
        unfinished: list[Sequence] = []
        budget = ring.limits.max_batch_tokens
        share = min(MAX_ITEMS, -(-len(ring.held) // ring.limits.micro_batches))
        while ring.ready and len(items) < share and budget:
            sequence = ring.ready.popleft()
            if not sequence.num_computed_tokens:
                opens.append(_open(sequence))
            item = _take(sequence, budget)
            budget -= item.count
            items.append(item)
            tokens += sequence.token_ids[item.start : item.start + item.count]
            if item.sample:
                sampled.append(sequence)
            elif sequence.num_uncomputed_tokens:
                unfinished.append(sequence)
            else:
                self._release(ring, sequence, sequence.outputs)
        ring.ready.extend(unfinished)
        closes = tuple(_close(sequence, outputs) for sequence, outputs in closing)
        batch = Batch(ring.step, tuple(items), tuple(opens), closes)
        sealed = tuple(sequence for sequence, outputs in closing if outputs)
        ring.flights.append(_Flight(ring.step, tuple(sampled), sealed))
        ring.step += 1
        return batch, tuple(tokens)

    def _admit(self, ring: _Ring) -> None:
        used = sum(sequence.needs for sequence in ring.held)
        while self._queue and used + self._queue[0].needs <= ring.limits.kv_tokens:
            sequence = self._queue.popleft()
            sequence.move(State.RUNNING)
            used += sequence.needs
            ring.held.add(sequence)
            ring.ready.append(sequence)


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


def _take(sequence: Sequence, budget: int) -> Item:
    """Take up to `budget` positions to compute; a token is wanted after the last known one."""
    start, count = sequence.num_computed_tokens, min(sequence.num_uncomputed_tokens, budget)
    sequence.num_computed_tokens += count
    wanted = not sequence.num_uncomputed_tokens and sequence.reason is None
    return Item(sequence.spec.sequence_id, start, count, wanted)
