"""What a stage takes for a batch, learned from the batches that it computed.

A batch's cost is taken to be a sum of what it has of four things, each at a price that is never
negative: being a batch at all (weights are read once), its rows, the cached positions that its
single tokens read, and the query-key pairs of its longer pieces. On CPUs and GPUs alike a step is
close to that between one row and some hundreds.

Observations are kept in buckets of alike batches, a few of each, so that sizes that have become
rare are still known; a bucket speaks by its median, since a shared machine has slow moments and no
fast ones. Prices are the least squares of relative errors over the buckets, pulled a little towards
equal shares, which is what counts where all batches were alike.

Ugly: whatever else a cost depends on (a cache that overflows, another process) is seen only as the
buckets in use come to say something else; those out of use are forgotten after a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.engine.schedule.batch import Item

Vector = tuple[float, float, float, float]

KEPT = 7
"""Observations of one bucket; the median of them counts."""
MEMORY = 120.0
"""Seconds after which a bucket that saw nothing new is forgotten, if others are left."""
MAX_BUCKETS = 64
PULL = 1e-3


@dataclass(frozen=True)
class Load:
    """What a batch asks of a stage.

    Attributes:
        rows: rows of hidden states.
        reads: cached positions that items of one row attend to, together.
        pairs: query-key pairs of the items with more rows.
    """

    rows: int
    reads: int = 0
    pairs: int = 0

    @classmethod
    def of(cls, items: Iterable[Item]) -> Load:
        """The load of a batch with these items."""
        rows = reads = pairs = 0
        for item in items:
            rows += item.count
            if item.count == 1:
                reads += item.start + 1
            else:
                pairs += item.count * item.start + item.count * (item.count + 1) // 2
        return cls(rows, reads, pairs)

    def plus_piece(self, start: int, count: int) -> Load:
        """With a piece of a prompt, positions [start, start + count), added."""
        pairs = count * start + count * (count + 1) // 2
        return Load(self.rows + count, self.reads, self.pairs + pairs)

    def plus_read(self, start: int) -> Load:
        """With one token at position `start` added."""
        return Load(self.rows + 1, self.reads + start + 1, self.pairs)

    @property
    def features(self) -> Vector:
        """What prices are for."""
        return (1.0, float(self.rows), float(self.reads), float(self.pairs))

    @property
    def bucket(self) -> tuple[int, int, int]:
        """Alike loads are within a factor of two in everything."""
        return (self.rows.bit_length(), self.reads.bit_length(), self.pairs.bit_length())


@dataclass
class _Bucket:
    seen: float
    samples: deque[tuple[float, Load]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def median(self) -> tuple[float, Load]:
        return sorted(self.samples, key=lambda each: each[0])[len(self.samples) // 2]


class CostCurve:
    """Seconds for a load; prices are made anew by `fit`.

    Errors are relative to `least` seconds at least; buckets are forgotten after `memory` seconds.
    """

    def __init__(self, memory: float = MEMORY, least: float = 1e-5) -> None:
        self._memory = memory
        self._least = least
        self._buckets: dict[tuple[int, int, int], _Bucket] = {}
        self._prices: Vector | None = None

    @property
    def known(self) -> bool:
        """Whether anything was ever measured and fitted."""
        return self._prices is not None

    def observe(self, load: Load, seconds: float, now: float) -> None:
        """A batch with `load` took `seconds`."""
        bucket = self._buckets.get(load.bucket)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                oldest = min(self._buckets, key=lambda key: self._buckets[key].seen)
                del self._buckets[oldest]
            bucket = self._buckets[load.bucket] = _Bucket(now)
        bucket.seen = now
        bucket.samples.append((max(seconds, self._least), load))

    def fit(self, now: float) -> None:
        """Make the prices anew."""
        fresh = {k: b for k, b in self._buckets.items() if now - b.seen <= self._memory}
        if fresh:
            self._buckets = fresh
        if self._buckets:
            self._prices = _least_squares([b.median() for b in self._buckets.values()])

    def seconds(self, load: Load) -> float:
        """The expected seconds for `load`; 0.0 while nothing is known."""
        if self._prices is None:
            return 0.0
        return sum(
            price * amount for price, amount in zip(self._prices, load.features, strict=True)
        )


def _least_squares(samples: list[tuple[float, Load]]) -> Vector:
    """Prices >= 0 with the least sum of squared relative errors: what comes out negative is left
    out, and the others are solved for again."""
    rows = [[x / seconds for x in load.features] for seconds, load in samples]
    scales = [(sum(row[j] ** 2 for row in rows) / len(rows)) ** 0.5 for j in range(4)]
    active = [j for j in range(4) if scales[j]]
    prices = [0.0] * 4
    while active:
        scaled = [[row[j] / scales[j] for j in active] for row in rows]
        size = range(len(active))
        matrix = [[sum(row[i] * row[j] for row in scaled) for j in size] for i in size]
        for i in size:
            matrix[i][i] += PULL * len(samples)
        solved = _solve(matrix, [sum(row[i] for row in scaled) for i in size])
        lowest = min(size, key=lambda i: solved[i])
        if solved[lowest] >= 0.0:
            for j, value in zip(active, solved, strict=True):
                prices[j] = value / scales[j]
            break
        del active[lowest]
    return (prices[0], prices[1], prices[2], prices[3])


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """x of matrix x = right, for a symmetric positive definite matrix."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for j in range(size):
        for i in range(j + 1, size):
            factor = rows[i][j] / rows[j][j]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[j], strict=True)]
    found = [0.0] * size
    for i in reversed(range(size)):
        rest = sum(rows[i][j] * found[j] for j in range(i + 1, size))
        found[i] = (rows[i][size] - rest) / rows[i][i]
    return found
