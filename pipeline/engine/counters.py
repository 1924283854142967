"""Totals over the engine's life: written by the one compute thread, read by `status`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """`tokens` counts computed positions; `compute_seconds` is time spent in steps."""

    steps: int = 0
    tokens: int = 0
    compute_seconds: float = 0.0
