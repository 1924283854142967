"""Do outputs end as often as they should? Evidence that adds up over any number of outputs.

Whoever leaves out end-of-sequence tokens is paid for running on, whoever puts them in saves work.
Of a single output that is one token, which noise may explain. So each position says how much its
token tells about ends: with p the verifier's probability that the position ends the output (at the
request's temperature, over the support), and b whether it did,

    E_t = t · b - ln(1 - p + p · exp(t))

is the logarithm of a figure whose mean is 1 for honest tokens, whatever came before, for every
tilt t. So exp of a sum over positions and outputs is a test martingale (Ville 1939): honest work
ever reaches 1 / alpha with probability alpha at most. Tilts below 0 grow where ends are missing,
by p for each position where a strong tilt expects one; those above 0 where there are too many.
Greedy tokens leave nothing to chance and say nothing here; their scores do.
"""

from __future__ import annotations

import math
from typing import TypeAlias

TILTS = (-3.0, -1.0, 1.0, 3.0)

EndEvidence: TypeAlias = tuple[float, ...]
"""E_t for each of `TILTS`, in nats."""

NO_EVIDENCE: EndEvidence = (0.0,) * len(TILTS)


def end_evidence(share: float, ended: bool) -> EndEvidence:
    """Of one position: `share` is p, 0 to 1, `ended` is b."""
    return tuple(
        tilt * ended - math.log1p(min(max(share, 0.0), 1.0) * math.expm1(tilt)) for tilt in TILTS
    )


def joined(parts: list[EndEvidence]) -> EndEvidence:
    """Of several positions or outputs together."""
    return tuple(math.fsum(part[place] for part in parts) for place in range(len(TILTS)))
