"""A bundle's life as a table, and the queue against a model of it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from node.roles.validator.bundle_state import (
    OVER,
    TRANSITIONS,
    BundleQueue,
    BundleState,
    Command,
    IllegalTransition,
    Judge,
    Moved,
    Prepare,
    QueuedBundle,
    QueueLimits,
    Taken,
)

S = BundleState
LEGAL = {(before, after) for before, afters in TRANSITIONS.items() for after in afters}
LIMITS = QueueLimits(total=6, sender_total=4, sender_preparing=2, sender_inquiries=1)


@pytest.mark.parametrize("before", list(S))
@pytest.mark.parametrize("after", list(S))
def test_the_table_alone_says_which_steps_are_legal(before: S, after: S) -> None:
    bundle = QueuedBundle(b"b", "sender", 7, state=before)
    if (before, after) in LEGAL:
        assert bundle.to(after) == QueuedBundle(b"b", "sender", 7, state=after)
    else:
        with pytest.raises(IllegalTransition):
            bundle.to(after)


def test_every_state_is_reached_and_left_until_it_is_over() -> None:
    assert {after for _, after in LEGAL} == set(S) - {S.TAKEN}
    assert {state for state in S if not TRANSITIONS[state]} == OVER


def take(queue: BundleQueue, name: str, sender: str = "a") -> list[Command]:
    return queue.handle(Taken(name.encode(), sender, 5))


def move(queue: BundleQueue, name: str, *states: BundleState) -> list[Command]:
    commands: list[Command] = []
    for state in states:
        commands = queue.handle(Moved(name.encode(), state))
    return commands


def told(commands: list[Command]) -> list[tuple[type[Command], str]]:
    return [(type(command), command.bundle.bundle_id.decode()) for command in commands]


def test_a_bundle_alone_goes_all_the_way() -> None:
    queue = BundleQueue()
    preparing = QueuedBundle(b"x", "a", 5, state=S.PREPARING)
    assert queue.handle(Taken(b"x", "a", 5)) == [Prepare(preparing)]
    assert told(move(queue, "x", S.PREPARED)) == [(Judge, "x")]
    assert move(queue, "x", S.INQUIRING, S.INQUIRING, S.JUDGED, S.DELIVERED) == []
    assert len(queue) == 0


def test_one_bundle_is_judged_at_a_time_the_oldest_first() -> None:
    queue = BundleQueue()
    for name in "xyz":
        take(queue, name)
    assert told(move(queue, "z", S.PREPARED)) == [(Judge, "z")]
    assert move(queue, "y", S.PREPARED) == []
    assert move(queue, "x", S.PREPARED) == []
    assert told(move(queue, "z", S.SET_ASIDE)) == [(Judge, "x")]
    assert told(move(queue, "x", S.JUDGED)) == [(Judge, "y")]


def test_while_a_stage_is_asked_for_rows_others_go_first_but_not_all_of_its_sender() -> None:
    queue = BundleQueue(LIMITS)
    take(queue, "slow", "a")
    take(queue, "mine", "a")
    take(queue, "theirs", "b")
    for name in ("slow", "mine", "theirs"):
        move(queue, name, S.PREPARED)
    assert told(move(queue, "slow", S.INQUIRING)) == [(Judge, "theirs")]
    assert move(queue, "theirs", S.JUDGED) == []
    assert told(move(queue, "slow", S.JUDGED)) == [(Judge, "mine")]


def test_a_sender_prepares_few_bundles_at_once_and_holds_up_no_other() -> None:
    queue = BundleQueue(LIMITS)
    assert told([c for name in "123" for c in take(queue, name)]) == [
        (Prepare, "1"),
        (Prepare, "2"),
    ]
    assert told(take(queue, "4", "b")) == [(Prepare, "4")]
    assert told(move(queue, "2", S.PREPARED)) == [(Prepare, "3"), (Judge, "2")]


def test_room_is_bounded_for_each_sender_and_for_all() -> None:
    queue = BundleQueue(LIMITS)
    for name in "1234":
        assert queue.has_room("a")
        take(queue, name)
    assert not queue.has_room("a")
    assert queue.has_room("b")
    take(queue, "5", "b")
    take(queue, "6", "b")
    assert not queue.has_room("c")
    move(queue, "1", S.SET_ASIDE)
    assert queue.has_room("c")


def test_what_the_queue_decides_no_event_says() -> None:
    queue = BundleQueue()
    take(queue, "x")
    take(queue, "y")
    before = queue.bundles
    for event in (
        Taken(b"x", "a"),
        Moved(b"x", S.PREPARING),
        Moved(b"x", S.JUDGING),
        Moved(b"x", S.JUDGED),
        Moved(b"x", S.DELIVERED),
        Moved(b"nobody's", S.PREPARED),
    ):
        with pytest.raises(IllegalTransition):
            queue.handle(event)
        assert queue.bundles == before


class QueueModel(RuleBasedStateMachine):
    """Any order of events, legal or not. The model is the list of commands that are under way."""

    known = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.queue = BundleQueue(LIMITS)
        self.next = 0
        self.preparing: list[QueuedBundle] = []
        self.judging: QueuedBundle | None = None

    def handle(self, event: Taken | Moved) -> None:
        commands = self.queue.handle(event)
        if isinstance(event, Moved):
            self.preparing = [b for b in self.preparing if b.bundle_id != event.bundle_id]
            if self.judging is not None and self.judging.bundle_id == event.bundle_id:
                self.judging = None
        for command in commands:
            match command:
                case Prepare(bundle=bundle):
                    self.preparing.append(bundle)
                case Judge(bundle=bundle):
                    assert self.judging is None, "one at a time"
                    self.judging = bundle

    @rule(target=known, sender=st.sampled_from("abc"))
    def take(self, sender: str) -> object:
        if not self.queue.has_room(sender):
            return multiple()
        self.next += 1
        bundle_id = self.next.to_bytes(2, "big")
        self.handle(Taken(bundle_id, sender))
        return bundle_id

    @rule(bundle_id=known, state=st.sampled_from(list(S)))
    def move(self, bundle_id: bytes, state: BundleState) -> None:
        before = {b.bundle_id: b for b in self.queue.bundles}
        known = before.get(bundle_id)
        legal = (
            known is not None
            and state in TRANSITIONS[known.state]
            and state not in (S.PREPARING, S.JUDGING)
        )
        if legal:
            self.handle(Moved(bundle_id, state))
        else:
            with pytest.raises(IllegalTransition):
                self.queue.handle(Moved(bundle_id, state))
            assert {b.bundle_id: b for b in self.queue.bundles} == before

    @invariant()
    def limits_hold(self) -> None:
        bundles = self.queue.bundles
        assert len(bundles) == len(self.queue) <= LIMITS.total
        for state, most in (
            (S.PREPARING, LIMITS.sender_preparing),
            (S.INQUIRING, LIMITS.sender_inquiries),
        ):
            senders = Counter(b.sender for b in bundles if b.state is state)
            assert all(count <= most for count in senders.values())
        assert all(n <= LIMITS.sender_total for n in Counter(b.sender for b in bundles).values())
        assert sum(b.state is S.JUDGING for b in bundles) <= 1

    @invariant()
    def commands_are_what_is_under_way(self) -> None:
        bundles = self.queue.bundles
        assert {b.bundle_id for b in self.preparing} == {
            b.bundle_id for b in bundles if b.state is S.PREPARING
        }
        judging = [b for b in bundles if b.state is S.JUDGING]
        assert ([] if self.judging is None else [self.judging]) == judging

    @invariant()
    def nobody_waits_who_could_go(self) -> None:
        bundles = self.queue.bundles
        preparing = Counter(b.sender for b in bundles if b.state is S.PREPARING)
        inquiring = Counter(b.sender for b in bundles if b.state is S.INQUIRING)
        for bundle in bundles:
            if bundle.state is S.TAKEN:
                assert preparing[bundle.sender] == LIMITS.sender_preparing
            if bundle.state is S.PREPARED and self.judging is None:
                assert inquiring[bundle.sender] == LIMITS.sender_inquiries


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
