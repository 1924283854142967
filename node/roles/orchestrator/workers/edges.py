"""Which stages of a ring may be to blame for what one of them says."""

from __future__ import annotations

from collections.abc import Sequence


def edge_suspects(peers: Sequence[str], stage: int, side: str) -> tuple[str, ...]:
    """Both ends of a stage's edge `upstream` or `downstream`; the stage alone for anything else,
    which is its own affair."""
    step = {"upstream": -1, "downstream": 1}.get(side, 0)
    return tuple(dict.fromkeys((peers[stage], peers[(stage + step) % len(peers)])))


def neighbour_suspects(peers: Sequence[str], stage: int) -> tuple[str, ...]:
    """A stage and both of its neighbours: it could not close the ring, and did not say where."""
    around = (peers[stage - 1], peers[stage], peers[(stage + 1) % len(peers)])
    return tuple(dict.fromkeys(around))
