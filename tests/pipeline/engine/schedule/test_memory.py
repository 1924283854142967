"""Memory on demand: who is admitted, who grows, who gives way, and who is overtaken how often."""

from __future__ import annotations

from pipeline.engine.control.messages import SequenceSpec
from pipeline.engine.schedule.batch import Batch, Close, Grow
from pipeline.engine.schedule.costs import Load
from pipeline.engine.schedule.events import EmitToken, Returned, RingUp, Submit
from pipeline.engine.schedule.memory import MemoryPolicy
from pipeline.engine.schedule.scheduler import Scheduler
from pipeline.engine.schedule.sequence import State
from tests.pipeline.engine.schedule.simulated import SimulatedRing
from tests.pipeline.engine.sequences import make_spec

POLICY = MemoryPolicy(chunk=4, headroom=0.0, overtaken=3)


def sid(number: int) -> bytes:
    return number.to_bytes(16, "big")


def spec(
    number: int, prompt: int = 3, max_tokens: int = 20, priority: str = "batch"
) -> SequenceSpec:
    made = make_spec(sid(number), tuple(range(10, 10 + prompt)), max_tokens=max_tokens)
    return made.model_copy(update={"priority": priority})


def scheduler(*specs: SequenceSpec, kv: int, policy: MemoryPolicy = POLICY) -> Scheduler:
    made = Scheduler(memory=policy)
    made.handle(RingUp(kv, 1000, 1, 1000))
    for each in specs:
        made.handle(Submit(each))
    return made


def step(made: Scheduler) -> Batch:
    """One batch there and back."""
    taken = made.next_batch()
    assert taken is not None
    batch, _ = taken
    made.handle(Returned(batch.step, tuple((20, False) for _ in batch.samples)))
    return batch


def test_what_is_reserved_grows_with_a_sequence() -> None:
    made = scheduler(spec(1, prompt=3, max_tokens=6), kv=100)
    seen = [step(made) for _ in range(6)]
    assert [o.capacity for o in seen[0].opens] == [4]
    assert [b.grows for b in seen[1:]] == [(), (Grow(sid(1), 8),), (), (), ()]
    assert step(made).closes[0].outputs == 6


def test_the_youngest_gives_way_and_comes_back() -> None:
    made = scheduler(spec(1, max_tokens=9), spec(2, max_tokens=9), kv=12)
    first = step(made)
    assert [o.sequence_id for o in first.opens] == [sid(1), sid(2)]
    step(made)
    third = step(made)  # the older one grows to 8, and the younger one would, too
    assert third.grows == (Grow(sid(1), 8),)
    assert [i.sequence_id for i in third.items] == [sid(1)]
    assert third.closes == (Close(sid(2), 0),)
    assert made.state(sid(2)) is State.PREEMPTED
    for _ in range(7):
        last = step(made)
    assert [o.sequence_id for o in last.opens] == [sid(2)]
    assert last.items[0].count == 5  # its prompt and what it had


def test_interactive_sequences_do_not_give_way_to_those_of_batches() -> None:
    made = scheduler(spec(1, max_tokens=9), spec(2, max_tokens=9, priority="interactive"), kv=12)
    for _ in range(3):
        step(made)
    assert made.state(sid(1)) is State.PREEMPTED
    assert made.state(sid(2)) is State.RUNNING


def test_a_token_on_its_way_is_kept_and_its_sequence_waits_for_it() -> None:
    made = Scheduler(memory=POLICY)
    made.handle(RingUp(12, 1000, 2, 1000, stages=2))
    for number in (1, 2):
        made.handle(Submit(spec(number, max_tokens=9)))
    flights = []
    for _ in range(40):
        if made.state(sid(2)) is State.PREEMPTED:
            break
        while taken := made.next_batch():
            flights.append(taken[0])
        batch = flights.pop(0)
        made.handle(Returned(batch.step, tuple((20, False) for _ in batch.samples)))
    assert made.state(sid(2)) is State.PREEMPTED
    late = [b for b in flights if any(i.sequence_id == sid(2) for i in b.samples)]
    commands = []
    for batch in flights:
        assert all(o.sequence_id != sid(2) for o in batch.opens)
        commands += made.handle(Returned(batch.step, tuple((21, False) for _ in batch.samples)))
    told = [c for c in commands if isinstance(c, EmitToken) and c.sequence_id == sid(2)]
    assert len(told) == len(late)


def test_the_head_of_the_queue_is_overtaken_a_few_times_only() -> None:
    large = spec(2, prompt=11, max_tokens=1)
    small = [spec(n, prompt=1, max_tokens=2) for n in range(3, 13)]
    made = scheduler(spec(1, prompt=5, max_tokens=8), large, *small, kv=16)
    order: list[bytes] = []
    for _ in range(40):
        if made.unfinished():
            order += [opened.sequence_id for opened in step(made).opens]
    assert order[0] == sid(1)
    assert order.index(sid(2)) == 1 + POLICY.overtaken
    assert len(order) == 12
    assert made.unfinished() == ()


def test_short_answers_do_not_pay_for_what_they_might_have_been() -> None:
    """Requests that allow 4,000 tokens and end after 20, in memory for four such reservations."""

    def run(policy: MemoryPolicy) -> float:
        made = SimulatedRing(
            RingUp(16_384, 8192, 0, 1024), [lambda load: 0.02 * (load != Load(0))], 0.0
        )
        made.scheduler = Scheduler(memory=policy)
        made.scheduler.handle(RingUp(16_384, 8192, 0, 1024))
        made.stop_after = 20
        made.many(60, 64, 4000)
        made.run(100.0)
        assert len(made.finished) == 60
        return max(made.finished.values())

    assert run(MemoryPolicy()) < run(MemoryPolicy(chunk=1 << 20)) / 3
