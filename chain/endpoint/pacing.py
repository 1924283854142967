"""When an endpoint that has had enough may be asked again.

Hosted endpoints limit requests and refuse more of them with HTTP 429. Whoever asks on at the same
rate stays refused, so after a refusal nobody asks at all for as long as the endpoint says
(Retry-After), and at least for a pause that doubles with every refusal and halves with every
answer. Pure: times come in as seconds of one clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class PacingRules:
    """Seconds: the `first` pause, the longest that we choose, and the longest that we are told."""

    first: float = 0.5
    most: float = 60.0
    longest_told: float = 600.0


@dataclass
class Pacing:
    """One endpoint's state; shared by all requests to it."""

    rules: PacingRules = field(default_factory=PacingRules)
    _until: float = float("-inf")
    _pause: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until something may be asked; 0 when it may be now."""
        return max(self._until - now, 0.0)

    def refused(self, now: float, told: float | None) -> None:
        """It refused, and `told` how many seconds to wait, if it did.

        Requests that were under way together are refused together, and count as one.
        """
        if now >= self._until:
            self._pause = min(max(2 * self._pause, self.rules.first), self.rules.most)
        told = min(told or 0.0, self.rules.longest_told)
        self._until = max(self._until, now + max(self._pause, told))

    def answered(self, now: float) -> None:
        """It answered."""
        if now >= self._until:
            self._pause = self._pause / 2 if self._pause > self.rules.first else 0.0


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds of a Retry-After header, in either of its forms; None where there is no valid one.

    `wall` is now in unix seconds.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        told = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(told.replace(tzinfo=told.tzinfo or UTC).timestamp() - wall, 0.0)
