"""Evidence that is pooled over all of a worker's checked sequences, however short they are.

A verdict looks at one unit, and a small deviation in outputs of a few tokens never exceeds what a
unit may show. Here each checked sequence bets against honesty, and what the bets win adds up:

- *Boundaries.* x is how far a stage's proofs of a sequence are from the validator's rows
  (`proofs.thresholds.profiles.distance`), whose mean is at most m for honest work. A bet of a
  fraction f multiplies its stake by 1 + f (x - m) / m.
- *Tokens.* x is the share of a sequence's tokens that are not the validator's choice, of mean at
  most m; and so for their mean score, clipped.
- *Ends.* How often outputs end (`proofs.sampling.ends`).

Each factor has mean at most 1 for honest work, given all before it: so has each product (Waudby-
Smith and Ramdas, "Estimating means of bounded random variables by betting", 2023), whatever the
lengths and the order of sequences. Stakes are small fractions, so no single sequence decides.

Every bet restarts at 1 where it has lost: M = max(1, M) · factor is an e-detector (Shin, Ramdas and
Rinaldo 2023), which finds a worker that turns bad late as soon as one that always was, and so is
the mean of all bets. It reaches 1 / alpha after 1 / alpha or more checked sequences of honest work
on average: that is the rate of false alarms. An alarm is a reason to look closer (all is replayed
for a while), and takes nobody's stake.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from proofs.errors import ProofError
from proofs.sampling.ends import TILTS, EndEvidence

FRACTIONS = (0.05, 0.2, 0.5)
BETS = 3 * len(FRACTIONS) + len(TILTS)
_MOST = 700.0  # exp of more overflows


class PooledError(ProofError):
    """An impossible state or figure; the message says which."""


@dataclass(frozen=True)
class HonestMeans:
    """Upper bounds on means of honest sequences: `distance` of one stage, the share of tokens that
    differ, and the mean score."""

    distance: float
    mismatches: float
    score: float

    def __post_init__(self) -> None:
        if not min(self.distance, self.mismatches, self.score) > 0.0:
            raise PooledError("an honest mean is above 0")


@dataclass(frozen=True)
class SequenceFigures:
    """What one checked sequence says of one worker; None where it says nothing, as tokens do of a
    stage that does not sample."""

    distance: float
    mismatches: float | None = None
    score: float | None = None
    ends: EndEvidence | None = None


@dataclass(frozen=True)
class PooledTest:
    """An alarm is raised where the mean of all bets reaches 1/alpha."""

    alpha: float = 1e-4

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise PooledError("alpha lies inside 0 and 1")


@dataclass(frozen=True)
class PooledState:
    """`levels` are the logarithms of all bets after `units` units; `alarms` were raised, the last
    one at unit `alarmed_at` (0: none), after which all bets start anew."""

    levels: tuple[float, ...] = (0.0,) * BETS
    units: int = 0
    alarms: int = 0
    alarmed_at: int = 0

    def to_plain(self) -> dict[str, Any]:
        """For a journal."""
        return {
            "levels": list(self.levels),
            "units": self.units,
            "alarms": self.alarms,
            "alarmed_at": self.alarmed_at,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> PooledState:
        """The reverse of `to_plain`. Raises PooledError."""
        try:
            levels = tuple(float(level) for level in plain["levels"])
            counts = [plain[name] for name in ("units", "alarms", "alarmed_at")]
        except (KeyError, TypeError, ValueError) as exc:
            raise PooledError(f"no state of a pooled test: {exc!r}") from exc
        sound = len(levels) == BETS and all(map(math.isfinite, levels))
        if not (sound and all(type(n) is int and n >= 0 for n in counts)):
            raise PooledError("no state of a pooled test: a figure is out of range")
        return cls(levels, *counts)


def observe(
    state: PooledState,
    sequences: Sequence[SequenceFigures],
    means: HonestMeans,
    test: PooledTest,
) -> tuple[PooledState, bool]:
    """The state after a unit of which these sequences were checked, and whether that raised an
    alarm."""
    levels = list(state.levels)
    for figures in sequences:
        for place, won in enumerate(_winnings(figures, means)):
            levels[place] = max(levels[place], 0.0) + won
    after = replace(state, levels=tuple(levels), units=state.units + 1)
    if _log_mean(levels) < -math.log(test.alpha):
        return after, False
    fresh = PooledState(units=after.units, alarms=after.alarms + 1, alarmed_at=after.units)
    return fresh, True


def _winnings(figures: SequenceFigures, means: HonestMeans) -> list[float]:
    won = []
    for value, mean in (
        (figures.distance, means.distance),
        (figures.mismatches, means.mismatches),
        (figures.score, means.score),
    ):
        won += [0.0 if value is None else _won(value, mean, f) for f in FRACTIONS]
    return [*won, *(figures.ends or (0.0,) * len(TILTS))]


def _won(value: float, mean: float, fraction: float) -> float:
    """Logarithm of 1 + fraction (value - mean) / mean. What is no number counts as far off."""
    off = (value - mean) / mean if value == value else math.inf
    return min(math.log1p(fraction * min(off, 1e12)), _MOST)


def _log_mean(levels: Sequence[float]) -> float:
    most = max(levels)
    return most + math.log(math.fsum(math.exp(level - most) for level in levels) / len(levels))
