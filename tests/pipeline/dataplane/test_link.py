"""The link machine alone: credit, limits, liveness and farewell, with time as a plain number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.dataplane.errors import EdgeBroken, EdgeClosed, EdgeMisuse, EdgeViolation
from pipeline.dataplane.frames import EdgeLimits, FrameHead, Kind
from pipeline.dataplane.link import (
    Arrived,
    Beat,
    CloseAsked,
    Command,
    Ended,
    Grant,
    Heard,
    Link,
    Receive,
    Released,
    SayBye,
    Sending,
    State,
    Stop,
    Tick,
    Timing,
    Unsent,
    Wake,
    Wrote,
)

LIMITS = EdgeLimits(max_header=10, max_payload=100, window=4)


def link(window: int = 4) -> Link:
    own = EdgeLimits(max_header=10, max_payload=100, window=window)
    return Link(own, LIMITS, Timing(heartbeat=1.0, dead_after=5.0), now=0.0)


def arrived(kind: Kind, argument: int = 0, header_len: int = 0, payload_len: int = 0) -> Arrived:
    return Arrived(FrameHead(kind, argument, header_len, payload_len))


def stopped(commands: list[Command]) -> Exception:
    (command,) = commands
    assert isinstance(command, Stop)
    return command.error


def test_data_within_limits_is_received() -> None:
    assert link().handle(arrived(Kind.DATA, 0, 10, 100)) == [Receive(10, 100)]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (arrived(Kind.DATA, 0, 11, 0), "header of 11"),
        (arrived(Kind.DATA, 0, 0, 101), "payload of 101"),
        (arrived(Kind.DATA, 0, 2**32 - 1, 2**64 - 1), "header of"),
        (arrived(Kind.DATA, 1, 0, 0), "argument"),
        (arrived(Kind.CREDIT, 1), "exceeds the window"),
        (arrived(Kind.CREDIT, 0), "credit of 0"),
        (arrived(Kind.BEAT, 0, 1, 0), "with a body"),
        (arrived(Kind.BYE, 0, 0, 1), "with a body"),
        (arrived(Kind.HELLO), "HELLO frame on an open edge"),
        (arrived(Kind.WELCOME), "WELCOME frame on an open edge"),
        (arrived(Kind.REFUSE), "REFUSE frame on an open edge"),
    ],
)
def test_violations(event: Arrived, words: str) -> None:
    machine = link()
    error = stopped(machine.handle(event))
    assert isinstance(error, EdgeViolation)
    assert words in error.reason
    assert machine.state is State.BROKEN
    assert machine.credits == 0


def test_a_frame_more_than_the_window_is_a_violation() -> None:
    machine = link()
    for _ in range(4):
        machine.handle(arrived(Kind.DATA))
    assert isinstance(stopped(machine.handle(arrived(Kind.DATA))), EdgeViolation)


def test_sending_uses_credit_and_the_peer_gives_it_back() -> None:
    machine = link()
    for _ in range(4):
        machine.handle(Sending(1, 1))
    with pytest.raises(EdgeMisuse, match="no credit"):
        machine.handle(Sending(1, 1))
    assert machine.handle(arrived(Kind.CREDIT, 2)) == [Wake()]
    assert machine.credits == 2
    machine.handle(Sending(1, 1))
    assert machine.handle(Unsent()) == [Wake()]
    assert machine.credits == 2


def test_sending_over_the_peers_limits_changes_nothing() -> None:
    machine = link()
    with pytest.raises(EdgeMisuse, match="the peer accepts 10"):
        machine.handle(Sending(11, 0))
    assert machine.credits == 4
    assert machine.state is State.OPEN


def test_credit_is_given_back_by_half_windows() -> None:
    machine = link(window=4)
    for _ in range(2):
        machine.handle(arrived(Kind.DATA))
    assert machine.handle(Released()) == []
    assert machine.handle(Released()) == [Grant(2)]


def test_a_quiet_side_beats_and_a_silent_peer_is_dead() -> None:
    machine = link()
    assert machine.wake_at == 1.0
    assert machine.handle(Tick(1.0)) == [Beat()]
    machine.handle(Wrote(1.5))
    assert machine.handle(Tick(2.0)) == []
    assert machine.wake_at == 2.5
    machine.handle(Wrote(4.5))
    error = stopped(machine.handle(Tick(5.0)))
    assert isinstance(error, EdgeBroken)
    assert "silent for 5.0 s" in error.reason


def test_any_byte_is_life() -> None:
    machine = link()
    machine.handle(Heard(4.9))
    assert machine.handle(Tick(9.8)) == [Beat()]
    assert isinstance(stopped(machine.handle(Tick(9.9))), EdgeBroken)


def test_our_close_says_bye_and_ends_well_however_the_stream_ends() -> None:
    for end in (
        Ended(EdgeBroken("reset")),
        arrived(Kind.BYE),
        Tick(100.0),
        arrived(Kind.DATA, 0, 11, 0),
    ):
        machine = link()
        assert machine.handle(CloseAsked()) == [SayBye()]
        assert machine.credits == 0
        assert isinstance(stopped(machine.handle(end)), EdgeClosed)
        assert machine.state is State.CLOSED


def test_the_first_end_is_final() -> None:
    machine = link()
    assert isinstance(stopped(machine.handle(arrived(Kind.BYE))), EdgeClosed)
    for event in (Ended(EdgeBroken("later")), CloseAsked(), arrived(Kind.BYE), Released()):
        assert machine.handle(event) == []
    assert machine.state is State.CLOSED


class TwoLinks(RuleBasedStateMachine):
    """Two honest ends with frames in flight: no violation, no frame without a buffer, no stall."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = (4, 3)
        a, b = (EdgeLimits(10, 100, window) for window in self.windows)
        self.links = (Link(a, b, Timing(), 0.0), Link(b, a, Timing(), 0.0))
        self.flying: tuple[list[FrameHead], list[FrameHead]] = ([], [])
        self.unread = [0, 0]

    def do(self, side: int, commands: list[Command]) -> None:
        for command in commands:
            assert not isinstance(command, Stop)
            if isinstance(command, Grant):
                self.flying[1 - side].append(FrameHead(Kind.CREDIT, command.frames, 0, 0))
            if isinstance(command, Receive):
                self.unread[side] += 1

    @rule(side=st.sampled_from([0, 1]), size=st.integers(0, 100))
    def send(self, side: int, size: int) -> None:
        if self.links[side].credits:
            self.do(side, self.links[side].handle(Sending(0, size)))
            self.flying[1 - side].append(FrameHead(Kind.DATA, 0, 0, size))

    @rule(side=st.sampled_from([0, 1]))
    def deliver(self, side: int) -> None:
        if self.flying[side]:
            self.do(side, self.links[side].handle(Arrived(self.flying[side].pop(0))))

    @rule(side=st.sampled_from([0, 1]))
    def consume(self, side: int) -> None:
        if self.unread[side]:
            self.unread[side] -= 1
            self.do(side, self.links[side].handle(Released()))

    @precondition(lambda self: not any(self.flying) and not any(self.unread))
    @rule()
    def quiet_ends_can_send(self) -> None:
        assert all(machine.credits for machine in self.links)

    @invariant()
    def buffers_suffice(self) -> None:
        assert all(count <= window for count, window in zip(self.unread, self.windows, strict=True))


TestTwoLinks = TwoLinks.TestCase


@given(st.floats(0.0, 100.0))
def test_over_a_distance_silence_means_less(round_trip: float) -> None:
    near, far = Timing(), Timing().over(round_trip)
    assert near.dead_after <= far.dead_after <= near.longest
    assert far.dead_after >= min(near.dead_after + 25 * round_trip, near.longest)
    assert Timing(dead_after=60.0).over(round_trip).dead_after == 60.0
