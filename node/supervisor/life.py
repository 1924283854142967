"""The life of a part, as a pure machine: when it is tried again, and what is told of it.

```
RUNNING → FAILED → RUNNING …        a surprise, a pause, a new try; it is never given up
RUNNING → ENDED                     it had no more to do
```
The pause doubles with every surprise up to `RestartPolicy.last`, and starts over once a try has
lasted `calm` seconds: a part that fails once a day is back at once, one that cannot run costs
little. Time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

MAX_REASON = 300


class PartState(StrEnum):
    """The states of the table at this module's head."""

    RUNNING = "running"
    FAILED = "failed"
    ENDED = "ended"


@dataclass(frozen=True)
class RestartPolicy:
    """Seconds: the `first` pause and the `last`, and how long a try lasts that makes up for all
    surprises before it."""

    first: float = 0.5
    last: float = 60.0
    calm: float = 300.0


@dataclass
class PartLife:
    """One part's tries. `begun` is when the current one began, or the next one will."""

    policy: RestartPolicy
    begun: float
    pause: float = 0.0

    def failed(self, now: float) -> float:
        """A surprise ended the try: seconds until the next one begins."""
        if now - self.begun >= self.policy.calm:
            self.pause = 0.0
        self.pause = min(max(self.pause * 2, self.policy.first), self.policy.last)
        self.begun = now + self.pause
        return self.pause


@dataclass(frozen=True)
class PartReport:
    """What is told of the parts of one name. `surprises` counts all so far, `reason` is the newest
    and `at` its time; `next_try` is 0 unless the part waits for one."""

    name: str
    state: PartState = PartState.RUNNING
    surprises: int = 0
    reason: str = ""
    at: float = 0.0
    next_try: float = 0.0


@dataclass
class PartBook:
    """Reports by name. Names are the program's own, so there are only so many."""

    reports: dict[str, PartReport] = field(default_factory=dict)

    def runs(self, name: str) -> None:
        """A try of the part began."""
        old = self.reports.get(name, PartReport(name))
        self.reports[name] = PartReport(name, PartState.RUNNING, old.surprises, old.reason, old.at)

    def failed(self, name: str, reason: str, now: float, pause: float | None) -> None:
        """A surprise; the next try is `pause` seconds away, None where there is none."""
        old = self.reports.get(name, PartReport(name))
        self.reports[name] = PartReport(
            name,
            PartState.ENDED if pause is None else PartState.FAILED,
            old.surprises + 1,
            reason[:MAX_REASON],
            now,
            0.0 if pause is None else now + pause,
        )

    def ended(self, name: str) -> None:
        """The part had no more to do."""
        old = self.reports.get(name, PartReport(name))
        self.reports[name] = PartReport(name, PartState.ENDED, old.surprises, old.reason, old.at)


def reason_of(exc: BaseException) -> str:
    """One line about what was raised: of a group, its first member."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
