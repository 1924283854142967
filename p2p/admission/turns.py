"""Work that strangers cause, a few at a time, with a bounded and fair queue.

At most `active` keys are at work, of one source at most half of that, so that slow ones from one
subnet leave room for others. Who waits holds one of `Places`; whoever loses it is dropped. Next is
whoever stands highest, then who comes from the source with the fewest at work, then the newest
come: a newcomer is not behind everybody who waits already.
"""

from __future__ import annotations

from collections import Counter

from p2p.admission.places import Places, Shares
from p2p.admission.standing import Judge


class Turns:
    """Hands out turns to peer ids."""

    def __init__(self, active: int, waiting: Shares, judge: Judge) -> None:
        self._active = active
        self._per_source = max(1, active // 2)
        self._judge = judge
        self._waiting: Places[str] = Places(waiting, judge)
        self._source: dict[str, str] = {}
        self._at_work: dict[str, str] = {}

    def ask(self, key: str, source: str) -> None:
        """Wait for a turn; somebody else who waits may lose his place."""
        if key in self._at_work:
            return
        self._source[key] = source
        dropped = self._waiting.enter(key, (source,))
        if dropped is not None:
            self._source.pop(dropped, None)

    def forget(self, key: str) -> None:
        """No turn is wanted any more; one at work goes on."""
        self._waiting.leave(key)
        self._source.pop(key, None)

    def start(self) -> tuple[str, ...]:
        """Keys whose turn it is now; say `done` of each."""
        started: list[str] = []
        busy = Counter(self._at_work.values())
        while len(self._at_work) < self._active:
            ready = [k for k in self._waiting if busy[self._source[k]] < self._per_source]
            if not ready:
                break
            # Reversed: of equals, `max` takes the first, and the newest are last.
            key = max(reversed(ready), key=lambda k: (self._judge(k), -busy[self._source[k]]))
            self._waiting.leave(key)
            source = self._at_work[key] = self._source.pop(key)
            busy[source] += 1
            started.append(key)
        return tuple(started)

    def done(self, key: str) -> None:
        """The turn is over."""
        self._at_work.pop(key, None)

    def __contains__(self, key: object) -> bool:
        """Whether it waits or is at work."""
        return key in self._waiting or key in self._at_work

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)
