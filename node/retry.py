"""Trying again: how long to pause between tries, and the loop that does it.

    async for attempt in tries(Backoff(first=0.5, last=30.0, most=20)):
        try:
            ...
            break
        except Busy as exc:
            log.warning("not taken", attempt=attempt, reason=str(exc))
    else:
        log.error("given up")

The pause comes before every try but the first, so a try that succeeds leaves at once and the last
try is not followed by a pointless wait.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio


@dataclass(frozen=True)
class Backoff:
    """Pauses in seconds: `first`, then each twice the one before, never over `last`.

    `most` is the number of tries in all; None means without end.
    """

    first: float
    last: float
    most: int | None = None

    def pause(self, attempt: int) -> float:
        """Seconds to wait before try number `attempt`; number 0 waits for nothing."""
        if attempt == 0:
            return 0.0
        return min(self.first * 2.0 ** min(attempt - 1, 64), self.last)

    @classmethod
    def every(cls, seconds: float, most: int | None = None) -> Backoff:
        """The same pause each time."""
        return cls(seconds, seconds, most)


class tries:
    """Numbers the tries of a loop, 0 first, and sleeps between them.

    A class rather than an async generator: a loop that is left by `break` or by cancellation leaves
    nothing behind that would have to be closed.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._next = 0

    def __aiter__(self) -> tries:
        return self

    async def __anext__(self) -> int:
        """The number of the next try, after its pause. Ends after `most` tries."""
        attempt, most = self._next, self._backoff.most
        if most is not None and attempt >= most:
            raise StopAsyncIteration
        self._next += 1
        if attempt:
            await trio.sleep(self._backoff.pause(attempt))
        return attempt
