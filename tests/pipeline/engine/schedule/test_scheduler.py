"""The scheduler alone: admission, batching, completion, loss of the ring."""

from __future__ import annotations

import pytest

from pipeline.engine.control.messages import SequenceSpec
from pipeline.engine.errors import IllegalTransition
from pipeline.engine.schedule.batch import Batch, Close
from pipeline.engine.schedule.events import (
    Abort,
    EmitFailed,
    EmitFinished,
    EmitToken,
    Forget,
    Returned,
    RingDown,
    RingUp,
    Submit,
)
from pipeline.engine.schedule.scheduler import Scheduler
from pipeline.engine.schedule.sequence import State
from proofs.evidence.sequence import FinishReason
from tests.pipeline.engine.sequences import make_spec

EOS = 2


def sid(number: int) -> bytes:
    return number.to_bytes(16, "big")


def spec(
    number: int, prompt: int = 3, max_tokens: int = 4, generated: tuple[int, ...] = ()
) -> SequenceSpec:
    return make_spec(
        sid(number),
        tuple(range(10, 10 + prompt)),
        generated=generated,
        max_tokens=max_tokens,
        eos_ids=(EOS,),
    )


def ring(
    kv: int = 1000, micro_batches: int = 1, batch_tokens: int = 1000, context: int = 1000
) -> RingUp:
    return RingUp(kv, context, micro_batches, batch_tokens, stages=micro_batches)


def scheduler(*specs: SequenceSpec, up: RingUp | None = None) -> Scheduler:
    made = Scheduler()
    made.handle(up or ring())
    for each in specs:
        made.handle(Submit(each))
    return made


def take(made: Scheduler) -> tuple[Batch, tuple[int, ...]]:
    taken = made.next_batch()
    assert taken is not None
    return taken


def test_one_sequence_from_prompt_to_sealed_end() -> None:
    made = scheduler(spec(1, max_tokens=2))
    batch, tokens = take(made)
    assert tokens == (10, 11, 12)
    assert [(o.prompt, o.capacity) for o in batch.opens] == [(3, 5)]
    assert batch.items[0].sample
    assert made.next_batch() is None
    assert made.handle(Returned(0, ((20, False),))) == [EmitToken(sid(1), 0, 20)]

    batch, tokens = take(made)
    assert (batch.items[0].start, tokens) == (3, (20,))
    assert made.handle(Returned(1, ((21, False),))) == [EmitToken(sid(1), 1, 21)]
    assert made.state(sid(1)) is State.RUNNING

    batch, tokens = take(made)
    assert (batch.items, batch.closes, tokens) == ((), (Close(sid(1), 2, 21),), ())
    done = EmitFinished(sid(1), FinishReason.LENGTH, (20, 21))
    assert made.handle(Returned(2, ())) == [done]
    assert made.state(sid(1)) is State.FINISHED
    assert made.next_batch() is None


@pytest.mark.parametrize(
    ("token", "stopped", "reason"),
    [(EOS, False, FinishReason.EOS), (20, True, FinishReason.STOP), (EOS, True, FinishReason.EOS)],
)
def test_reasons_to_stop_early(token: int, stopped: bool, reason: FinishReason) -> None:
    made = scheduler(spec(1))
    take(made)
    made.handle(Returned(0, ((token, stopped),)))
    take(made)
    assert made.handle(Returned(1, ())) == [EmitFinished(sid(1), reason, (token,))]


def test_batches_share_the_running_sequences_over_the_ring() -> None:
    made = scheduler(*(spec(n) for n in range(7)), up=ring(micro_batches=3))
    sizes = []
    while taken := made.next_batch():
        sizes.append(len(taken[0].items))
    assert sizes == [3, 3, 1]
    made.handle(Returned(0, ((20, False),) * 3))
    batch, _ = take(made)
    assert [item.sequence_id for item in batch.items] == [sid(0), sid(1), sid(2)]


def test_a_long_prompt_is_fed_in_chunks_without_waiting_for_each() -> None:
    made = scheduler(spec(1, prompt=7), spec(2, prompt=2), up=ring(micro_batches=4, batch_tokens=3))
    seen = [take(made)[0].items[0] for _ in range(4)]
    assert [(i.sequence_id[-1], i.start, i.count, i.sample) for i in seen] == [
        (1, 0, 3, False),
        (1, 3, 3, False),
        (1, 6, 1, True),
        (2, 0, 2, True),
    ]


def test_a_finished_sequence_makes_room_in_the_very_next_batch() -> None:
    made = scheduler(spec(1, max_tokens=1), spec(2, max_tokens=1), up=ring(kv=4))
    take(made)
    assert made.waiting == 1
    made.handle(Returned(0, ((20, False),)))
    batch, _ = take(made)
    assert batch.closes == (Close(sid(1), 1, 20),)
    assert [opened.sequence_id for opened in batch.opens] == [sid(2)]


def test_a_lost_ring_is_rebuilt_from_prompt_and_generated_tokens() -> None:
    made = scheduler(spec(1), spec(2))
    take(made)
    made.handle(Returned(0, ((20, False), (30, False))))
    take(made)
    made.handle(RingDown())
    assert made.state(sid(1)) is State.PREEMPTED
    assert made.next_batch() is None
    made.handle(Submit(spec(3)))
    made.handle(ring())
    batch, tokens = take(made)
    assert [item.sequence_id for item in batch.items] == [sid(1), sid(2), sid(3)]
    assert tokens == (10, 11, 12, 20, 10, 11, 12, 30, 10, 11, 12)
    commands = made.handle(Returned(0, ((21, False), (31, False), (40, False))))
    assert commands[0] == EmitToken(sid(1), 1, 21)


def test_a_complete_output_is_sealed_again_without_sampling() -> None:
    made = scheduler(spec(1, max_tokens=2, generated=(20, EOS)))
    batch, tokens = take(made)
    assert tokens == (10, 11, 12, 20)
    assert not batch.items[0].sample
    assert made.handle(Returned(0, ())) == []
    assert take(made)[0].closes == (Close(sid(1), 2, EOS),)
    done = EmitFinished(sid(1), FinishReason.EOS, (20, EOS))
    assert made.handle(Returned(1, ())) == [done]


def test_a_ring_lost_before_the_seal_came_back_seals_again() -> None:
    made = scheduler(spec(1, max_tokens=1))
    take(made)
    made.handle(Returned(0, ((20, False),)))
    take(made)
    made.handle(RingDown())
    assert made.state(sid(1)) is State.PREEMPTED
    made.handle(ring())
    batch, tokens = take(made)
    assert tokens == (10, 11, 12)
    assert not batch.items[0].sample


def test_abort_in_every_state() -> None:
    made = scheduler(spec(1), spec(2), spec(3), up=ring(kv=14, batch_tokens=3))
    take(made)
    for number in (1, 2, 3):
        made.handle(Abort(sid(number)))
        assert made.state(sid(number)) is State.ABORTED
    assert made.handle(Returned(0, ((20, False),))) == []
    assert take(made)[0].closes == (Close(sid(1), 0),)
    assert made.handle(Returned(1, ())) == []
    assert made.next_batch() is None


def test_an_id_used_anew_does_not_get_the_old_tokens() -> None:
    made = scheduler(spec(1), up=ring(micro_batches=2))
    take(made)
    made.handle(Forget(sid(1)))
    assert made.state(sid(1)) is None
    made.handle(Submit(spec(1)))
    batch, _ = take(made)
    assert (batch.closes, len(batch.opens)) == ((Close(sid(1), 0),), 1)
    assert made.expected() == (0, ((sid(1), False),))
    assert made.handle(Returned(0, ((99, False),))) == []
    assert made.handle(Returned(1, ((20, False),))) == [EmitToken(sid(1), 0, 20)]


def test_too_large_for_the_ring_fails_at_once() -> None:
    made = scheduler(up=ring(kv=6))
    (failed,) = made.handle(Submit(spec(1)))
    assert isinstance(failed, EmitFailed)
    assert "exceed the 6 positions" in failed.reason
    made.handle(Submit(spec(2, max_tokens=3)))
    made.handle(RingDown())
    (failed,) = made.handle(ring(context=5))
    assert failed.sequence_id == sid(2)


def test_submitting_again_changes_nothing() -> None:
    made = scheduler(spec(1))
    made.handle(Submit(spec(1, max_tokens=9)))
    assert take(made)[0].opens[0].capacity == 7
    assert made.next_batch() is None


@pytest.mark.parametrize("event", [Returned(1, ((1, False),)), Returned(0, ()), ring()])
def test_illegal_events_leave_the_state_unchanged(event: Returned | RingUp) -> None:
    made = scheduler(spec(1))
    take(made)
    with pytest.raises(IllegalTransition):
        made.handle(event)
    assert made.handle(Returned(0, ((20, False),))) == [EmitToken(sid(1), 0, 20)]
