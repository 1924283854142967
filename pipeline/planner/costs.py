"""Time and memory of a stage, and the distance between workers.

One stage's step takes `layer_seconds · (layers + embed_cost if first + head_cost if last)`; its
memory is weights plus KV. Both grow with every layer added and with nothing else, which the
searches rely on: a range that fits still fits when it loses layers at its start.

Distance is the measured round trip, else, as a prior for workers not yet measured, that of light in
fibre over the great circle between their claimed locations, else 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

from pipeline.planner.types import Candidate, CannotPlan, LinkTable, ModelNeeds

EARTH_RADIUS = 6.371e6  # metres, mean
FIBRE_SPEED = 2.0e8  # metres a second, two thirds of light in vacuum


class Costs:
    """Figures of one planning problem, each candidate known by its index in `candidates`.

    Candidates are put in an order that depends on their ids and the seed alone, so that a plan does
    not depend on the order in which they were given, and equal workers take turns between seeds.
    Raises CannotPlan when a peer id is there twice.
    """

    def __init__(
        self, candidates: Sequence[Candidate], links: LinkTable, needs: ModelNeeds, seed: int
    ) -> None:
        self.candidates = sorted(candidates, key=lambda c: _rank(seed, c.peer_id))
        for one, other in pairwise(self.candidates):
            if one.peer_id == other.peer_id:
                raise CannotPlan(f"worker {one.peer_id} is listed twice: name each worker once")
        self.needs = needs
        self.links = links
        known = [c.layer_seconds for c in self.candidates if c.speed_known]
        slowest = max(known, default=1.0)
        self.speeds = [c.layer_seconds if c.speed_known else slowest for c in self.candidates]
        per_layer = (
            weights + kv * needs.kv_tokens
            for weights, kv in zip(needs.layer_bytes, needs.kv_bytes_per_token, strict=True)
        )
        self._prefix = [0, *accumulate(per_layer)]

    def memory(self, first: int, last: int) -> int:
        """Bytes of weights and KV cache for layers [first, last)."""
        needs = self.needs
        total = self._prefix[last] - self._prefix[first]
        if first == 0:
            total += needs.embed_bytes
        if last == needs.layers:
            total += needs.head_bytes
            if first == 0 and needs.tied:
                total -= min(needs.embed_bytes, needs.head_bytes)
        return total

    def units(self, first: int, last: int) -> float:
        """Work of layers [first, last) in units of one layer."""
        needs = self.needs
        return (
            (last - first)
            + (needs.embed_cost if first == 0 else 0.0)
            + (needs.head_cost if last == needs.layers else 0.0)
        )

    def seconds(self, index: int, first: int, last: int) -> float:
        """Seconds of one step of layers [first, last) on candidate `index`."""
        return self.speeds[index] * self.units(first, last)

    def fits(self, index: int, first: int, last: int, limit: float = math.inf) -> bool:
        """Whether candidate `index` holds layers [first, last) and takes ≤ `limit` seconds."""
        return (
            first < last
            and self.memory(first, last) <= self.candidates[index].memory_bytes
            and self.seconds(index, first, last) <= limit
        )

    def reach(self, index: int, first: int, cap: int, limit: float) -> int:
        """The furthest end ≤ `cap` of a range from `first` that fits; `first` if none does."""
        if cap <= first:
            return first
        low, high = first, cap
        while low < high:
            middle = (low + high + 1) // 2
            if self.fits(index, first, middle, limit):
                low = middle
            else:
                high = middle - 1
        return low

    def reaches(self, index: int, limit: float) -> list[int]:
        """`reach` from every layer, as a list; the number of layers where the stage can be last."""
        layers = self.needs.layers
        ends = [self.reach(index, 0, layers, limit)]
        end = 1
        for first in range(1, layers):
            end = max(end, first)
            while end < layers and self.fits(index, first, end + 1, limit):
                end += 1
            ends.append(end)
        return ends

    def rtt(self, a: int, b: int) -> float:
        """Seconds of a round trip between two candidates: measured, estimated, or 0."""
        one, other = self.candidates[a], self.candidates[b]
        measured = self.links.between(one.peer_id, other.peer_id)
        if measured is not None:
            return measured
        here, there = one.coordinates, other.coordinates
        if here is None or there is None:
            return 0.0
        return 2 * great_circle(here, there) / FIBRE_SPEED

    def ring_latency(self, order: Sequence[int]) -> float:
        """Seconds a token spends between the stages of this ring: half a round trip each hop."""
        if len(order) < 2:
            return 0.0
        hops = zip(order, (*order[1:], order[0]), strict=True)
        return math.fsum(self.rtt(a, b) for a, b in hops) / 2


def great_circle(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Metres between two (latitude, longitude) pairs in degrees, by the haversine formula."""
    lat_a, lon_a, lat_b, lon_b = (math.radians(x) for x in (*a, *b))
    h = (
        math.sin((lat_b - lat_a) / 2) ** 2
        + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    )
    return 2 * EARTH_RADIUS * math.asin(math.sqrt(min(1.0, max(0.0, h))))


def _rank(seed: int, peer_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{peer_id}".encode()).digest()
