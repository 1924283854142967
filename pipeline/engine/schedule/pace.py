"""How many batches are in flight, and how much of a prompt a batch takes, from measurements.

Every batch comes back with the seconds that each stage waited with it and worked on it; what is
left of its round trip was spent on the wire. From these come the cost curves of the stages and of
the wire (`costs`). With N sequences that decode, cut into n batches of m = ceil(N / n), a full
round takes

    max( n * slowest stage's seconds(m),  sum of the stages' seconds(m) + wire(m) ):

either the slowest stage is always busy, or every batch is back before its turn. The n with the most
tokens a second is chosen, again about every second. Another n must promise `worth` more than the
present one, so that noise changes nothing; among n that are as good the least is taken, because
larger batches cost less.

A prompt is computed in slices. Where sequences decode, a slice takes the slowest stage about as
long as a batch of theirs does, so that no token waits more than one more batch; else it takes
`idle_slice` seconds. While nothing is known, slices are `first_slice` tokens.

The prediction is checked: the rate that it promised and the one that was reached are published as
`forecast`, for times in which nobody came or went and no prompt was computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.schedule.costs import CostCurve, Load

WIRE_MEMORY = 10.0
"""Seconds: latencies change more often than machines do."""
WIRE_LEAST = 1e-3
"""Seconds: less than that around a ring is all the same."""


@dataclass(frozen=True)
class Pacing:
    """Limits and timings.

    Attributes:
        most: batches in flight at most.
        review: seconds between two choices.
        worth: gain, as a factor, for which the number of batches is changed.
        alike: rates that differ by less, as a factor, count as equal.
        slice: length of a prompt's slice in decode steps of the slowest stage.
        idle_slice: its seconds where nothing decodes.
        first_slice: its tokens while nothing was measured.
        least_slice: its tokens at least, however long that takes.
        slices_ahead: slices in flight at most, beside one a stage.
        compared: seconds that a prediction is compared with.
    """

    most: int = 64
    review: float = 1.0
    worth: float = 1.03
    alike: float = 1.01
    slice: float = 1.0
    idle_slice: float = 0.25
    first_slice: int = 64
    least_slice: int = 8
    slices_ahead: int = 1
    compared: float = 10.0


@dataclass(frozen=True)
class Leg:
    """What one stage reports of a batch: seconds that it lay there whole, and that it took."""

    waited: float
    worked: float


@dataclass(frozen=True)
class Forecast:
    """Tokens a second that were `promised` for some seconds, and that `came`."""

    promised: float
    came: float


class Pace:
    """Learns from batches that come back; `stages` of one ring. Not thread-safe."""

    def __init__(self, stages: int, pacing: Pacing) -> None:
        self.pacing = pacing
        self.micro_batches = min(pacing.most, stages + (stages > 1))
        self.forecast: Forecast | None = None
        self._stages = [CostCurve() for _ in range(stages)]
        self._wire = CostCurve(WIRE_MEMORY, WIRE_LEAST)
        self._seen = 0
        self._next_review = 0.0
        self._window: _Window | None = None

    @property
    def known(self) -> bool:
        """Whether there are measurements to plan by."""
        return self._stages[0].known

    def observe(self, load: Load, legs: Sequence[Leg], elapsed: float, now: float) -> None:
        """A batch is back after `elapsed` seconds; one leg for every stage, in order."""
        for curve, leg in zip(self._stages, legs, strict=True):
            curve.observe(load, leg.worked, now)
        wire = elapsed - sum(leg.waited + leg.worked for leg in legs)
        self._wire.observe(Load(load.rows), max(wire, 0.0), now)
        self._seen += 1
        if self._seen in (1, 4):  # the first figures are wanted at once
            self._next_review = now

    # --- batches in flight --------------------------------------------------------------------

    def due(self, now: float) -> bool:
        """Whether it is time for a review."""
        return self._seen > 0 and now >= self._next_review

    def review(self, decoding: int, length: int, now: float) -> None:
        """Choose again, for `decoding` sequences of `length` positions on average."""
        self._next_review = now + self.pacing.review
        for curve in (*self._stages, self._wire):
            curve.fit(now)
        self._compare(now)
        if decoding:
            self._choose(decoding, length)
        if self._window is not None and not self._window.promised:
            self._window.promised = self.rate(decoding, length, self.micro_batches)

    def _choose(self, decoding: int, length: int) -> None:
        present = self.rate(decoding, length, self.micro_batches)
        sizes = {-(-decoding // n) for n in range(1, min(decoding, self.pacing.most) + 1)}
        rates = {-(-decoding // m): 0.0 for m in sizes}
        for n in rates:
            rates[n] = self.rate(decoding, length, n)
        best = max(rates.values())
        least = min(n for n, rate in rates.items() if rate * self.pacing.alike >= best)
        if rates[least] > present * self.pacing.worth or self.micro_batches > decoding:
            self.micro_batches = least

    def rate(self, decoding: int, length: int, micro_batches: int) -> float:
        """Predicted tokens a second of `decoding` sequences in so many batches; 0.0 if unknown."""
        if not decoding or not self.known:
            return 0.0
        batch = -(-decoding // micro_batches)
        batches = -(-decoding // batch)
        load = Load(batch, length * batch)
        times = [curve.seconds(load) for curve in self._stages]
        around = sum(times) + self._wire.seconds(Load(batch))
        return decoding / max(batches * max(times), around, 1e-9)

    def step_seconds(self, load: Load) -> float:
        """The slowest stage's predicted seconds for a batch."""
        return max(curve.seconds(load) for curve in self._stages)

    def flight_seconds(self, load: Load) -> float:
        """A batch's predicted round trip in an empty ring."""
        stages = sum(curve.seconds(load) for curve in self._stages)
        return stages + self._wire.seconds(Load(load.rows))

    # --- slices of prompts --------------------------------------------------------------------

    def slice_of(self, load: Load, decode: Load | None, start: int, most: int) -> int:
        """How many of the `most` tokens from position `start` of a prompt may join a batch that has
        `load` already; `decode` is a batch as sequences decode, None where none does."""
        if not self.known:
            return max(0, min(most, self.pacing.first_slice - load.rows))
        base = load if decode is None else Load(load.rows, load.reads)
        allowed = self.pacing.idle_slice
        if decode is not None:
            allowed = self.pacing.slice * self.step_seconds(decode) + self.step_seconds(base)
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.step_seconds(load.plus_piece(start, middle)) <= allowed:
                low = middle
            else:
                high = middle - 1
        return low

    # --- prediction and fact ------------------------------------------------------------------

    def count(self, tokens: int, decoding: int, prompts: bool, now: float) -> None:
        """So many tokens came back at once; `prompts`: slices of prompts are in flight."""
        window = self._window
        if prompts or window is None or window.crowd != (decoding, self.micro_batches):
            self._window = None if prompts else _Window((decoding, self.micro_batches), now)
            return
        window.tokens += tokens
        window.until = now

    def _compare(self, now: float) -> None:
        window = self._window
        if window is None or not window.promised or window.until <= window.since:
            return
        self.forecast = Forecast(window.promised, window.tokens / (window.until - window.since))
        if now - window.since > self.pacing.compared:
            self._window = None


@dataclass
class _Window:
    """Seconds in which nobody came or went, and no prompt was computed. Tokens are counted from the
    first return on, so that batches come whole."""

    crowd: tuple[int, int]
    since: float
    until: float = 0.0
    tokens: int = 0
    promised: float = 0.0
