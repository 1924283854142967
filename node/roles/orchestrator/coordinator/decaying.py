"""A count that time makes smaller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Decaying:
    """A count that halves every half-life: its value at the time of the last addition."""

    value: float = 0.0
    at: float = 0.0

    def now(self, now: float, half_life: float) -> float:
        """What is left of it at `now`; both in seconds."""
        return float(self.value * 0.5 ** (max(now - self.at, 0.0) / half_life))

    def add(self, now: float, half_life: float, more: float = 1.0) -> None:
        """Count `more` at `now`."""
        self.value, self.at = self.now(now, half_life) + more, now
