"""Which workers, and how many, so that the slowest stage is as fast as it can be.

For a time limit T the question is whether some ordered choice of k workers covers all layers with
stages that fit their memory and take at most T. The best T is one of finitely many stage times, so
a binary search over them needs only that answer.

**Up to `exact` workers** it is answered exactly by dynamic programming over sets of workers: for
each set, in which layers (a bit set) a cover of the first layers by all its members, in whatever
order, can end. The furthest such end alone would not do: every member must get a layer, and the
next layer may be one too large for the next member.

**With more workers** every pair of first and last worker is tried, and between them the others
in order of how many layers they could take. Where all layers are alike this is exact too (the order
between first and last makes no difference then); with unlike layers it is a heuristic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.planner.costs import Costs


@dataclass(frozen=True)
class SearchLimits:
    """How far the search goes: up to `exact` workers every order counts, and of more than
    `shortlist` only the most promising are looked at."""

    exact: int = 9
    shortlist: int = 40


DEFAULT_LIMITS = SearchLimits()


@dataclass(frozen=True)
class Choice:
    """Workers (indices of `Costs.candidates`) in an order that covers all layers within `limit`."""

    order: tuple[int, ...]
    limit: float


def best_choice(
    costs: Costs, min_stages: int, max_stages: int, search: SearchLimits = DEFAULT_LIMITS
) -> Choice | None:
    """The choice with the lowest limit and, for that, the fewest stages; None if none covers."""
    pool = shortlist(costs, search)
    layers = costs.needs.layers
    low_k, high_k = min_stages, min(max_stages, len(pool), layers)
    if low_k > high_k:
        return None
    limits = sorted(_limits(costs, pool))
    if _cover(costs, pool, low_k, high_k, limits[-1], fewest=False, exact=search.exact) is None:
        return None
    low, high = 0, len(limits) - 1
    while low < high:
        middle = (low + high) // 2
        if (
            _cover(costs, pool, low_k, high_k, limits[middle], fewest=False, exact=search.exact)
            is None
        ):
            low = middle + 1
        else:
            high = middle
    order = _cover(costs, pool, low_k, high_k, limits[low], fewest=True, exact=search.exact)
    assert order is not None
    return Choice(order, limits[low])


def shortlist(costs: Costs, search: SearchLimits = DEFAULT_LIMITS) -> list[int]:
    """All candidates, or of very many the fastest and the largest."""
    everyone = range(len(costs.candidates))
    if len(everyone) <= search.shortlist:
        return list(everyone)
    fastest = sorted(everyone, key=lambda i: costs.speeds[i])[: search.shortlist // 2]
    rest = set(everyone) - set(fastest)
    largest = sorted(rest, key=lambda i: (-costs.candidates[i].memory_bytes, i))
    return sorted([*fastest, *largest[: search.shortlist - len(fastest)]])


def furthest(costs: Costs, max_stages: int, search: SearchLimits = DEFAULT_LIMITS) -> int:
    """How many layers from 0 on the workers could hold if time did not matter (a lower bound)."""
    order = sorted(shortlist(costs, search), key=lambda i: -costs.candidates[i].memory_bytes)
    at = 0
    for index in order[:max_stages]:
        at = costs.reach(index, at, costs.needs.layers, math.inf)
    return at


def _limits(costs: Costs, pool: Sequence[int]) -> set[float]:
    """Every time that any stage could take."""
    layers = costs.needs.layers
    ends = {costs.units(0, n) for n in range(1, layers + 1)}
    ends |= {costs.units(n, layers) for n in range(layers)}
    ends |= {float(n) for n in range(1, layers)}
    return {costs.speeds[index] * units for index in pool for units in ends}


def _cover(
    costs: Costs,
    pool: Sequence[int],
    low_k: int,
    high_k: int,
    limit: float,
    *,
    fewest: bool,
    exact: int,
) -> tuple[int, ...] | None:
    """An order of low_k to high_k workers that covers all layers within `limit`, or None."""
    if len(pool) > exact:
        return _cover_many(costs, pool, low_k, high_k, limit, fewest=fewest)
    return _cover_exactly(costs, pool, low_k, high_k, limit)


def _cover_exactly(
    costs: Costs, pool: Sequence[int], low_k: int, high_k: int, limit: float
) -> tuple[int, ...] | None:
    layers = costs.needs.layers
    tables = {index: costs.reaches(index, limit) for index in pool}
    ends: dict[int, int] = {0: 1}
    newest = [0]
    for k in range(1, high_k + 1):
        if k >= low_k:
            for members in newest:
                for index in pool:
                    if not members >> index & 1 and any(
                        tables[index][at] == layers for at in bits(ends[members])
                    ):
                        return _trace(ends, tables, members, index, layers)
        following: dict[int, int] = {}
        for members in newest:
            for index in pool:
                if not members >> index & 1:
                    key = members | 1 << index
                    found = extend(ends[members], tables[index], layers)
                    following[key] = following.get(key, 0) | found
        newest = [members for members, found in following.items() if found]
        ends.update((members, following[members]) for members in newest)
    return None


def extend(starts: int, reaches: Sequence[int], layers: int) -> int:
    """Bit set of the ends, below `layers`, of one more stage that starts at any of `starts`."""
    found = 0
    for start in bits(starts):
        end = min(reaches[start], layers - 1)
        if end > start:
            found |= (2 << end) - (2 << start)  # bits start + 1 to end
    return found


def bits(number: int) -> Iterator[int]:
    """The positions of the set bits, lowest first."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _trace(
    ends: dict[int, int], tables: dict[int, list[int]], members: int, last: int, layers: int
) -> tuple[int, ...]:
    """The order behind a cover: step back from the last worker to the empty set."""
    order = [last]
    at = next(at for at in bits(ends[members]) if tables[last][at] == layers)
    while members:
        for index in bits(members):
            before = ends.get(members ^ 1 << index, 0)
            start = next((s for s in bits(before) if s < at <= tables[index][s]), None)
            if start is not None:
                order.append(index)
                members ^= 1 << index
                at = start
                break
    return tuple(reversed(order))


def _cover_many(
    costs: Costs, pool: Sequence[int], low_k: int, high_k: int, limit: float, *, fewest: bool
) -> tuple[int, ...] | None:
    layers = costs.needs.layers
    if low_k == 1:
        for index in pool:
            if costs.fits(index, 0, layers, limit):
                return (index,)
    if high_k == 1:
        return None
    tables = {index: costs.reaches(index, limit) for index in pool}
    inner = {i: min(tables[i][1], layers - 1) - 1 if layers > 1 else 0 for i in pool}
    by_size = sorted((i for i in pool if inner[i]), key=lambda i: -inner[i])
    best: tuple[int, ...] | None = None
    for first in pool:
        for last in pool:
            if first == last:
                continue
            order = _fill(layers, tables, first, last, by_size, max(2, low_k), high_k)
            if order is not None and (best is None or len(order) < len(best)):
                best = order
                if not fewest:
                    return best
    return best


def _fill(
    layers: int,
    tables: Mapping[int, Sequence[int]],
    first: int,
    last: int,
    by_size: Sequence[int],
    low_k: int,
    high_k: int,
) -> tuple[int, ...] | None:
    """Put as few of the others as needed (at least low_k - 2) between `first` and `last`."""
    # Stages after the first that must still get a layer, while fewer than low_k are placed.
    at = min(tables[first][0], layers - max(1, low_k - 1))
    if at <= 0:
        return None
    order = [first]
    for index in by_size:
        enough = len(order) + 1 >= low_k
        if (enough and tables[last][at] == layers) or len(order) + 1 >= high_k:
            break
        if index in (first, last):
            continue
        end = min(tables[index][at], layers - max(1, low_k - len(order) - 1))
        if end > at:
            order.append(index)
            at = end
    if len(order) + 1 < low_k or tables[last][at] != layers:
        return None
    return (*order, last)
