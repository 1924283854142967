"""How many tokens a second pass through this worker's stage, from its engine's own count."""

from __future__ import annotations

from collections import deque

LOOKS = 16


class Pace:
    """Looks at a count that rises, and begins anew with each engine, over the last `window`
    seconds; times are monotonic."""

    def __init__(self, window: float = 30.0) -> None:
        self._window = window
        self._looks: deque[tuple[float, int]] = deque(maxlen=LOOKS)

    def look(self, now: float, count: int) -> None:
        """The count stands there at `now`."""
        if self._looks and count < self._looks[-1][1]:
            self._looks.clear()
        if self._looks and now - self._looks[-1][0] < self._window / LOOKS:
            return
        self._looks.append((now, count))

    def rate(self, now: float, count: int) -> float:
        """By how much it rises a second, up to `now`; 0 where that is not known."""
        within = [look for look in self._looks if now - look[0] <= self._window]
        if not within or now <= within[0][0] or count < within[0][1]:
            return 0.0
        return (count - within[0][1]) / (now - within[0][0])
