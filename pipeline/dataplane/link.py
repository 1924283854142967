"""Rules of one established edge as a pure state machine: credits, limits, liveness, farewell.

The machine sees frame heads before their bodies are read, so that every length and credit is judged
before memory is touched. Time comes in with the events (seconds of any monotonic clock).

Credit: each side may have at most the peer's `window` DATA frames sent and not yet consumed. Both
begin with a full window; consuming gives credit back in batches of half a window, which halves the
CREDIT frames and cannot starve the sender: whenever the consumer has released every buffer, less
than half a window is withheld. A DATA frame without credit, or credit above the window, is a
violation. The receiver therefore always has a free buffer for a legal frame, its reader never waits
for the consumer, and heartbeats pass however slow the consumer is.

Liveness: whoever has written nothing for `heartbeat` seconds sends BEAT; whoever has read nothing
for `dead_after` seconds calls the peer dead. Any byte counts as life. Over a distance the peer is
given longer (`Timing.over`).

A BYE ends both directions; DATA frames that arrived before it are still delivered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from pipeline.dataplane.errors import (
    EdgeBroken,
    EdgeClosed,
    EdgeError,
    EdgeMisuse,
    EdgeViolation,
)
from pipeline.dataplane.frames import EdgeLimits, FrameHead, Kind


class State(Enum):
    """Where a link stands (see the module)."""

    OPEN = auto()
    CLOSING = auto()  # we said BYE and read on until the peer's end of stream
    CLOSED = auto()
    BROKEN = auto()


# What each frame kind or local event may lead to; anything absent is refused.
LEGAL: dict[State, frozenset[State]] = {
    State.OPEN: frozenset({State.CLOSING, State.CLOSED, State.BROKEN}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
    State.BROKEN: frozenset(),
}


@dataclass(frozen=True)
class Timing:
    """Seconds: send a BEAT after `heartbeat` without a write, give up after `dead_after` silent.

    Where a packet is lost, all that follows waits until it is sent again, after about two round
    trips the first time and twice as long each time after (RFC 6298). So over a distance silence
    means less: `over` allows `per_trip` round trips more, five losses in a row, up to `longest`.
    """

    heartbeat: float = 1.0
    dead_after: float = 5.0
    per_trip: float = 25.0
    longest: float = 30.0

    def over(self, round_trip: float) -> Timing:
        """These, for an edge on which a round trip took so many seconds."""
        patient = min(self.dead_after + self.per_trip * round_trip, self.longest)
        return replace(self, dead_after=max(self.dead_after, patient))


# --- events -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame head came in."""

    head: FrameHead


@dataclass(frozen=True, slots=True)
class Heard:
    """Any bytes came in."""

    now: float


@dataclass(frozen=True, slots=True)
class Wrote:
    """Any bytes went out."""

    now: float


@dataclass(frozen=True, slots=True)
class Sending:
    """The user wants one DATA frame out; legal only while `credits` > 0."""

    header_len: int
    payload_len: int


@dataclass(frozen=True, slots=True)
class Unsent:
    """A frame announced by `Sending` was given up before its first byte."""


@dataclass(frozen=True, slots=True)
class Released:
    """The user is done with one received frame."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`wake_at` has come."""

    now: float


@dataclass(frozen=True, slots=True)
class CloseAsked:
    """The user closes the edge."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The byte stream ended, failed, or carried something that is no frame."""

    error: EdgeBroken | EdgeViolation


Event = Arrived | Heard | Wrote | Sending | Unsent | Released | Tick | CloseAsked | Ended


# --- commands ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receive:
    """Read this DATA frame's header and payload into a free buffer and deliver it."""

    header_len: int
    payload_len: int


@dataclass(frozen=True, slots=True)
class Grant:
    """Send CREDIT for `frames`."""

    frames: int


@dataclass(frozen=True, slots=True)
class Beat:
    """Send BEAT."""


@dataclass(frozen=True, slots=True)
class SayBye:
    """Send BYE, then read until the peer's end of stream."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Credit came: let waiting senders look again."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The edge is over; every later call fails with `error`."""

    error: EdgeError


Command = Receive | Grant | Beat | SayBye | Wake | Stop


class Link:
    """One edge's rules. `local` is what we accept, `peer` what the peer accepts."""

    def __init__(self, local: EdgeLimits, peer: EdgeLimits, timing: Timing, now: float) -> None:
        self.state = State.OPEN
        self._local = local
        self._peer = peer
        self._timing = timing
        self._heard_at = now
        self._wrote_at = now
        self._credits = peer.window  # frames we may still send
        self._owed = local.window  # frames the peer may still send
        self._withheld = 0  # consumed, not yet granted again

    @property
    def credits(self) -> int:
        """DATA frames that may be sent now."""
        return self._credits if self.state is State.OPEN else 0

    @property
    def wake_at(self) -> float:
        """When the next `Tick` is due."""
        return min(
            self._wrote_at + self._timing.heartbeat, self._heard_at + self._timing.dead_after
        )

    def handle(self, event: Event) -> list[Command]:
        """Apply one event. An illegal `Sending` raises EdgeMisuse and changes nothing."""
        match event:
            case Heard(now):
                self._heard_at = now
                return []
            case Wrote(now):
                self._wrote_at = now
                return []
            case Arrived(head):
                return self._arrived(head)
            case Sending(header_len, payload_len):
                return self._sending(header_len, payload_len)
            case Unsent():
                self._credits += 1
                return [Wake()]
            case Released():
                return self._released()
            case Tick(now):
                return self._tick(now)
            case CloseAsked():
                if self.state is not State.OPEN:
                    return []
                self._move(State.CLOSING)
                return [SayBye()]
            case Ended(error):
                return self._fail(error)

    def _arrived(self, head: FrameHead) -> list[Command]:
        kind = head.kind
        if kind is Kind.DATA:
            return self._data(head)
        if head.header_len or head.payload_len:
            return self._violation(f"{kind.name} frame with a body")
        if kind is Kind.CREDIT:
            if not head.argument or self._credits + head.argument > self._peer.window:
                return self._violation(
                    f"credit of {head.argument} on top of {self._credits} "
                    f"exceeds the window of {self._peer.window}"
                )
            self._credits += head.argument
            return [Wake()]
        if kind is Kind.BEAT:
            return []
        if kind is Kind.BYE:
            return self._stop(State.CLOSED, EdgeClosed("the peer closed the edge"))
        return self._violation(f"{kind.name} frame on an open edge")

    def _data(self, head: FrameHead) -> list[Command]:
        if head.argument:
            return self._violation(f"DATA frame with argument {head.argument}")
        if head.header_len > self._local.max_header:
            return self._violation(
                f"header of {head.header_len} bytes; the limit is {self._local.max_header}"
            )
        if head.payload_len > self._local.max_payload:
            return self._violation(
                f"payload of {head.payload_len} bytes; the limit is {self._local.max_payload}"
            )
        if not self._owed:
            return self._violation("DATA frame without credit")
        self._owed -= 1
        return [Receive(head.header_len, head.payload_len)]

    def _sending(self, header_len: int, payload_len: int) -> list[Command]:
        self.check_size(header_len, payload_len)
        if not self.credits:
            raise EdgeMisuse("no credit to send a frame")
        self._credits -= 1
        return []

    def check_size(self, header_len: int, payload_len: int) -> None:
        """Raises EdgeMisuse when the peer would never accept a frame of this size (bytes)."""
        if header_len > self._peer.max_header or payload_len > self._peer.max_payload:
            raise EdgeMisuse(
                f"frame of {header_len} + {payload_len} bytes; the peer accepts "
                f"{self._peer.max_header} + {self._peer.max_payload}: send less in a frame"
            )

    def _released(self) -> list[Command]:
        if self.state is not State.OPEN:
            return []
        self._withheld += 1
        if self._withheld < max(1, self._local.window // 2):
            return []
        frames, self._withheld = self._withheld, 0
        self._owed += frames
        return [Grant(frames)]

    def _tick(self, now: float) -> list[Command]:
        silent = now - self._heard_at
        if silent >= self._timing.dead_after:
            return self._fail(EdgeBroken(f"the peer was silent for {silent:.1f} s"))
        if now - self._wrote_at >= self._timing.heartbeat:
            # Counted as written even if the socket is full: bytes are then on their way already.
            self._wrote_at = now
            return [Beat()] if self.state is State.OPEN else []
        return []

    def _violation(self, reason: str) -> list[Command]:
        return self._fail(EdgeViolation(reason))

    def _fail(self, error: EdgeBroken | EdgeViolation) -> list[Command]:
        """While closing, however the stream ends is a good end."""
        if self.state is State.CLOSING:
            return self._stop(State.CLOSED, EdgeClosed("this side closed the edge"))
        return self._stop(State.BROKEN, error)

    def _stop(self, state: State, error: EdgeError) -> list[Command]:
        if state not in LEGAL[self.state]:
            return []
        self._move(state)
        return [Stop(error)]

    def _move(self, state: State) -> None:
        if state not in LEGAL[self.state]:
            raise EdgeMisuse(f"illegal transition {self.state.name} to {state.name}")
        self.state = state
