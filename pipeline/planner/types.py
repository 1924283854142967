"""What a plan is made from and what it is. Plain data: seconds, bytes, counts; no I/O, no clock.

Figures about a worker are its own claims, so they are judged here: a speed that is not a positive
number counts as unknown (`costs` then takes the slowest speed known), negative memory as none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

MAX_STAGES = 256
"""The most stages a ring can have; the engine's messages bound them so."""


class PlannerError(Exception):
    """Base of the planner's errors."""


class CannotPlan(PlannerError):
    """No group can be made. `reason` says what is missing and what to do about it.

    `missing_bytes` is the memory that one more worker would have to offer (0: not the obstacle).
    """

    def __init__(self, reason: str, missing_bytes: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.missing_bytes = missing_bytes


@dataclass(frozen=True)
class Candidate:
    """A worker that could hold a stage.

    `memory_bytes` bounds weights and KV cache together; `layer_seconds` is its measured time for
    one decoder layer's decode step; `location` is (latitude, longitude) in degrees.
    """

    peer_id: str
    memory_bytes: int
    layer_seconds: float
    location: tuple[float, float] | None = None
    region: str = ""

    @property
    def speed_known(self) -> bool:
        """Whether its speed was measured."""
        return math.isfinite(self.layer_seconds) and self.layer_seconds > 0

    @property
    def coordinates(self) -> tuple[float, float] | None:
        """The location if it is one on Earth."""
        if self.location is None:
            return None
        latitude, longitude = self.location
        # False for NaN as well.
        return self.location if abs(latitude) <= 90 and abs(longitude) <= 180 else None


@dataclass(frozen=True)
class LinkTable:
    """Measured round-trip times in seconds, keyed by pairs of peer ids in either order."""

    rtt: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def between(self, a: str, b: str) -> float | None:
        """The measured round trip, or None where there is no usable measurement."""
        value = self.rtt.get((a, b), self.rtt.get((b, a)))
        return value if value is not None and math.isfinite(value) and value >= 0 else None


class LayerSizes(Protocol):
    """The fields of `pipeline.models.layout.LayerTable` that a plan depends on (bytes)."""

    @property
    def layer_bytes(self) -> tuple[int, ...]:
        """Weights of each layer."""
        ...

    @property
    def kv_bytes(self) -> tuple[int, ...]:
        """KV cache of each layer for one token."""
        ...

    @property
    def embed_bytes(self) -> int:
        """Weights of the embedding."""
        ...

    @property
    def head_bytes(self) -> int:
        """Weights of final norm and head."""
        ...

    @property
    def tied(self) -> bool:
        """Whether embedding and head share one matrix."""
        ...

    @property
    def row_bytes(self) -> int:
        """One token's hidden state on the wire."""
        ...


@dataclass(frozen=True)
class ModelNeeds:
    """What a model asks of a group.

    `layer_bytes` and `kv_bytes_per_token` have one entry a layer; `kv_tokens` is how many KV
    positions every stage reserves; `hidden_bytes` is one token's hidden state on the wire. `tied`:
    embedding and head share one matrix, kept once by a stage that has both. `embed_cost` and
    `head_cost` are their times in units of one layer's time.
    """

    layer_bytes: tuple[int, ...]
    kv_bytes_per_token: tuple[int, ...]
    kv_tokens: int
    embed_bytes: int = 0
    head_bytes: int = 0
    hidden_bytes: int = 0
    tied: bool = False
    embed_cost: float = 0.0
    head_cost: float = 0.0

    def __post_init__(self) -> None:
        if not self.layer_bytes or len(self.layer_bytes) != len(self.kv_bytes_per_token):
            raise ValueError("one weight size and one KV size for each layer, at least one layer")
        sizes = (*self.layer_bytes, *self.kv_bytes_per_token, self.kv_tokens)
        if min(*sizes, self.embed_bytes, self.head_bytes, self.hidden_bytes) < 0:
            raise ValueError("sizes cannot be negative")
        if min(self.embed_cost, self.head_cost) < 0:
            raise ValueError("costs cannot be negative")

    @classmethod
    def of(cls, table: LayerSizes, kv_tokens: int) -> ModelNeeds:
        """Needs of a model with this layer table.

        Decoding reads every weight once a step, so a head is taken to cost what its bytes cost in
        layers; an embedding is a lookup and costs nothing.
        """
        layers = len(table.layer_bytes)
        return cls(
            layer_bytes=table.layer_bytes,
            kv_bytes_per_token=table.kv_bytes,
            kv_tokens=kv_tokens,
            embed_bytes=table.embed_bytes,
            head_bytes=table.head_bytes,
            hidden_bytes=table.row_bytes,
            tied=table.tied,
            head_cost=table.head_bytes * layers / max(1, sum(table.layer_bytes)),
        )

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layer_bytes)


@dataclass(frozen=True)
class StagePlan:
    """Layers [first_layer, last_layer) for one worker.

    `memory_bytes` is weights and KV cache, `seconds` the time of one decode step.
    """

    peer_id: str
    first_layer: int
    last_layer: int
    memory_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class GroupPlan:
    """One ring. `stages` in ring order cover all layers; `spares` are peer ids, best first.

    `bottleneck_seconds` is the slowest stage's step, `ring_seconds` one token's way around (stages
    and half the round trip of every hop). `micro_batches` are in flight, 0: as the ring measures.
    """

    stages: tuple[StagePlan, ...]
    spares: tuple[str, ...] = ()
    bottleneck_seconds: float = 0.0
    ring_seconds: float = 0.0
    micro_batches: int = 0

    @property
    def peers(self) -> tuple[str, ...]:
        """Peer ids in ring order."""
        return tuple(stage.peer_id for stage in self.stages)


@dataclass(frozen=True)
class PoolPlan:
    """Groups, no worker in two of them."""

    groups: tuple[GroupPlan, ...]
