"""Which way to a neighbour is tried next, how long one try may take, and when dialling is over.

There may be several ways to one listener: addresses of its data port, and a tunnel. That a way
opens says little, since a middlebox may answer for a host that it hides, so what counts is whether
an edge comes of it. They are tried in turn, the best first. A listener that refuses is the right
one and is tried again; a way that leads to somebody else is not; any other failure moves on to the
next.

An edge takes three round trips (TCP, TLS, hello), and a machine under load answers each of them
late. `DialTiming.attempt` leaves 600 ms a trip on such a machine room for two lost packets in a
row, which TCP sends again after one second and then two more (RFC 6298). Nothing else ends an
attempt: only between two of them is asked whether the edge is still wanted.

Pure: time is an argument (seconds of any monotonic clock).
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.dataplane.errors import EdgeBroken, EdgeRefused, EdgeTimeout, EdgeViolation

ROUND_TRIPS = 3
"""Of making an edge: TCP, TLS, hello and welcome."""

Failure = EdgeBroken | EdgeRefused | EdgeTimeout | EdgeViolation


@dataclass(frozen=True)
class DialTiming:
    """Seconds: for one `attempt`, so that one black hole does not use up the whole deadline, and
    between attempts, growing from `first_pause` to `last_pause`."""

    attempt: float = 10.0
    first_pause: float = 0.02
    last_pause: float = 0.5


class Ways:
    """`count` ways, the best first, tried until `deadline`."""

    def __init__(self, count: int, deadline: float, timing: DialTiming) -> None:
        self._left = list(range(count))
        self._deadline = deadline
        self._timing = timing
        self._turn = 0
        self._pause = timing.first_pause
        self._told: Failure | None = None

    def next(self, now: float) -> tuple[int, float]:
        """The way to try now, and until when."""
        return self._left[self._turn], min(self._deadline, now + self._timing.attempt)

    def failed(self, error: Failure, now: float) -> float:
        """That way failed: seconds to pause before the next try. Where there is no next one, raises
        `error`, or the one before if time was merely over: that says more."""
        if self._told is None or not isinstance(error, EdgeTimeout):
            self._told = error
        if isinstance(error, EdgeViolation):
            del self._left[self._turn]
            if not self._left:
                raise self._told
        elif not isinstance(error, EdgeRefused):
            self._turn += 1
        pause = self._pause
        if now + pause >= self._deadline:
            raise self._told
        if self._turn >= len(self._left):
            self._turn = 0
        if self._turn == 0:
            self._pause = min(2 * pause, self._timing.last_pause)
        return pause
