"""What was, or would be, removed from a node's disk, and why the rest stays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pruned:
    """One kind of thing. `removed` and `kept` count things, `freed` and `left` bytes (0: unknown);
    `why` says why what is kept stays."""

    what: str
    removed: int = 0
    freed: int = 0
    kept: int = 0
    left: int = 0
    why: str = ""
