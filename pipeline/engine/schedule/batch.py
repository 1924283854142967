"""What one step of the ring computes: the plain data where scheduler, stages and wire meet.

A batch is applied in this order: `closes`, `opens`, `grows`, `items`. Rows of hidden states follow
the items: `count` rows of the first item, then of the second, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass

from proofs.sampling.settings import SamplingSettings

MAX_ITEMS = 1024
MAX_CLOSES = 2048
"""Entries of one batch: with these, its header stays well below a frame's limit."""


@dataclass(frozen=True)
class Item:
    """Positions [start, start + count) of a sequence. With `sample`, its last row gives a token."""

    sequence_id: bytes
    start: int
    count: int
    sample: bool


@dataclass(frozen=True)
class Open:
    """A sequence that starts (or starts anew).

    Attributes:
        prompt: how many of its tokens are prompt; stages but the first never see which.
        capacity: KV positions to begin with.
        sampling: how its tokens are to be picked, as its request says.
        ending: what ends its output, as a hash (`proofs.evidence.ring_terms`); 32 bytes.
    """

    sequence_id: bytes
    prompt: int
    capacity: int
    sampling: SamplingSettings
    ending: bytes


@dataclass(frozen=True)
class Grow:
    """An open sequence that gets more KV positions: `capacity` in all."""

    sequence_id: bytes
    capacity: int


@dataclass(frozen=True)
class Close:
    """A sequence that ends.

    Attributes:
        outputs: its final output length; 0 drops the sequence without evidence.
        last_token: the final output token, which no stage is fed; stage 0 signs for having got it.
            0 for a dropped sequence.
    """

    sequence_id: bytes
    outputs: int
    last_token: int = 0


@dataclass(frozen=True)
class Batch:
    """One step. `step` counts from 0 in each generation of the ring."""

    step: int
    items: tuple[Item, ...] = ()
    opens: tuple[Open, ...] = ()
    closes: tuple[Close, ...] = ()
    grows: tuple[Grow, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of hidden states that the batch takes through a stage."""
        return sum(item.count for item in self.items)

    @property
    def samples(self) -> tuple[Item, ...]:
        """The items that give a token, in order."""
        return tuple(item for item in self.items if item.sample)
