"""The scheduler against a ring that remembers everything: whatever happens, outputs are right.

The fake ring checks every batch with a `SequenceTable`, keeps the tokens that a KV cache would
hold, and "computes" each next token as a function of sequence and position. So a sequence's true
output is known beforehand, and any schedule, abort or loss of the ring must produce just that; and
both ends of the ring's seam must come to one sum over the tokens.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.engine.control.messages import SequenceSpec
from pipeline.engine.evidence.collecting import ReturnedTokens, token_bytes
from pipeline.engine.ring.table import SequenceTable
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
from pipeline.engine.schedule.memory import MemoryPolicy
from pipeline.engine.schedule.pace import Leg
from pipeline.engine.schedule.scheduler import MAX_FLIGHTS, Scheduler
from pipeline.engine.schedule.sequence import DONE, State
from proofs.evidence.sequence import FinishReason
from tests.pipeline.engine.sequences import make_spec

EOS = 1


def next_token(sequence_id: bytes, position: int) -> int:
    return (int.from_bytes(sequence_id, "big") * 31 + position * 7) % 13


def true_output(spec: SequenceSpec) -> tuple[int, ...]:
    ids = list(spec.generated)
    while len(ids) < spec.request.max_tokens and (not ids or ids[-1] != EOS):
        ids.append(next_token(spec.sequence_id, len(spec.request.prompt_ids) + len(ids)))
    return tuple(ids)


class FakeRing:
    def __init__(self, limits: RingUp) -> None:
        self.limits = limits
        self.table = SequenceTable(limits.kv_tokens)
        self.cache: dict[bytes, list[int]] = {}
        self.seam: dict[bytes, tuple[ReturnedTokens, list[bytes]]] = {}
        self.flights: deque[Batch] = deque()
        self.capacity: dict[bytes, int] = {}

    def send(self, batch: Batch, tokens: tuple[int, ...]) -> None:
        placed = self.table.apply(batch)
        assert batch.rows == len(tokens) <= self.limits.max_batch_tokens
        for close in batch.closes:
            del self.cache[close.sequence_id], self.capacity[close.sequence_id]
            returned, sent = self.seam.pop(close.sequence_id)
            if close.outputs:
                digest = hashlib.sha256(b"".join(sent)).digest()
                assert returned.finish(close.last_token) == digest
        for opened in batch.opens:
            self.cache[opened.sequence_id] = []
            self.capacity[opened.sequence_id] = opened.capacity
            self.seam[opened.sequence_id] = ReturnedTokens(), []
        for grown in batch.grows:
            self.capacity[grown.sequence_id] = grown.capacity
        assert sum(self.capacity.values()) <= self.limits.kv_tokens
        for rows in placed:
            fed = tokens[rows.first : rows.first + rows.count]
            cache = self.cache[rows.sequence_id]
            cache += fed
            assert len(cache) <= self.capacity[rows.sequence_id]
            drawn = next_token(rows.sequence_id, len(cache)) if rows.sample else None
            returned, sent = self.seam[rows.sequence_id]
            ids = memoryview(struct.pack(f"<{len(fed)}I", *fed))
            returned.feed(ids, rows.proven, rows.sample)
            sent.append(token_bytes(rows.proven, drawn))
        self.flights.append(batch)
        assert len(self.flights) <= MAX_FLIGHTS
        busy = sum(1 for each in self.flights if each.items)
        assert busy <= (self.limits.micro_batches or MAX_FLIGHTS)


class Schedules(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(memory=MemoryPolicy(chunk=3, headroom=0.0, overtaken=2))
        self.ring: FakeRing | None = None
        self.now = 0.0
        self.specs: dict[bytes, SequenceSpec] = {}
        self.output: dict[bytes, list[int]] = {}
        self.finished: set[bytes] = set()
        self.made = 0

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case EmitToken(sequence_id, offset, token):
                    assert offset == len(self.output[sequence_id])
                    self.output[sequence_id].append(token)
                case EmitFinished(sequence_id, reason, ids):
                    assert sequence_id not in self.finished
                    assert ids == tuple(self.output[sequence_id])
                    assert ids == true_output(self.specs[sequence_id])
                    assert (reason is FinishReason.EOS) == (ids[-1] == EOS)
                    self.finished.add(sequence_id)
                case EmitFailed(sequence_id, _):
                    assert self.scheduler.state(sequence_id) is State.ABORTED

    @rule(
        prompt=st.integers(1, 9),
        max_tokens=st.integers(1, 12),
        kept=st.integers(0, 6),
        priority=st.sampled_from(["interactive", "batch"]),
    )
    def submit(self, prompt: int, max_tokens: int, kept: int, priority: str) -> None:
        self.made += 1
        sequence_id = self.made.to_bytes(16, "big")
        spec = make_spec(
            sequence_id,
            tuple(range(prompt)),
            max_tokens=max_tokens,
            eos_ids=(EOS,),
        )
        spec = spec.model_copy(update={"generated": true_output(spec)[:kept], "priority": priority})
        self.specs[sequence_id] = spec
        self.output[sequence_id] = list(spec.generated)
        self.take(self.scheduler.handle(Submit(spec)))

    @precondition(lambda self: self.ring is None)
    @rule(kv=st.integers(8, 40), micro_batches=st.integers(0, 4), batch_tokens=st.integers(1, 10))
    def ring_up(self, kv: int, micro_batches: int, batch_tokens: int) -> None:
        limits = RingUp(kv, 100, micro_batches, batch_tokens, stages=2)
        self.ring = FakeRing(limits)
        self.take(self.scheduler.handle(limits))

    @precondition(lambda self: self.ring is not None)
    @rule()
    def ring_down(self) -> None:
        self.ring = None
        self.take(self.scheduler.handle(RingDown()))

    @precondition(lambda self: self.ring is not None)
    @rule()
    def send(self) -> None:
        assert self.ring is not None
        if taken := self.scheduler.next_batch(self.now):
            self.ring.send(*taken)

    @precondition(lambda self: self.ring is not None and self.ring.flights)
    @rule(worked=st.floats(0.0, 2.0), waited=st.floats(0.0, 2.0))
    def receive(self, worked: float = 0.1, waited: float = 0.0) -> None:
        assert self.ring is not None
        self.now += 0.3
        batch = self.ring.flights.popleft()
        tokens = tuple(
            (next_token(item.sequence_id, item.start + item.count), False) for item in batch.samples
        )
        legs = (Leg(0.0, worked), Leg(waited, worked))
        self.take(self.scheduler.handle(Returned(batch.step, tokens, self.now, legs)))

    @precondition(lambda self: self.specs)
    @rule(data=st.data(), forget=st.booleans())
    def drop(self, data: st.DataObject, forget: bool) -> None:
        sequence_id = data.draw(st.sampled_from(sorted(self.specs)))
        self.scheduler.handle(Forget(sequence_id) if forget else Abort(sequence_id))
        assert self.scheduler.state(sequence_id) in ({None} if forget else {*DONE, None})

    @invariant()
    def every_sequence_is_somewhere(self) -> None:
        held = self.scheduler.waiting + self.scheduler.running
        assert held == len(self.scheduler.unfinished())

    def teardown(self) -> None:
        """Whatever state we are in, a working ring finishes everything that is left."""
        if self.ring is not None:
            self.ring_down()
        self.ring_up(kv=40, micro_batches=3, batch_tokens=5)
        assert self.ring is not None
        requests = [each.request for each in self.specs.values()]
        for _ in range(4 * sum(len(r.prompt_ids) + r.max_tokens + 3 for r in requests)):
            self.send()
            self.send()
            if self.ring.flights:
                self.receive()
        assert self.scheduler.unfinished() == ()
        assert self.ring.cache == {}


Schedules.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestSchedules = Schedules.TestCase
