"""Totals over the engine's life: written by the one compute thread, read by `status`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """`compute_seconds` is the time spent in steps, `rows` how many tokens' rows they computed."""

    compute_seconds: float = 0.0
    rows: int = 0
