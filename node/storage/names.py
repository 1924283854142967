"""How content-addressed files are named, and where they are: the hash in hex and one of these."""

from __future__ import annotations

from pathlib import Path

EPOCH, ROWS, BUNDLE = ".epoch", ".rows", ".bundle"
"""An epoch's data (and whatever else a pool publishes), hidden states, a proof bundle."""


def rows_folder(data_dir: Path) -> Path:
    """Where a worker's engine keeps the rows that it received."""
    return data_dir / "rows"
