"""The beacon of a job: where the noise of its prompts without a seed comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Beacon:
    """`block` is the number of the block whose hash it is, 0 where it is none's."""

    value: bytes
    block: int
