"""Small drifts add up: a sequential test over a worker's checked units.

A single unit is judged by limits that honest work practically never breaks, and so small cheats
pass them. Over many units they show. Each checked unit gives conservative p-values (how unusual its
figures are among honest ones); this module adds up what they say.

**Evidence.** A p-value p becomes an e-value, a figure of mean at most 1 for honest work, by the
calibrator κ·p^(κ-1), averaged over all κ in (0, 1) so there is nothing to tune:

    e(p) = (1 - p + p ln p) / (p (ln p)²),   e(1) = 1/2.

Vovk and Wang, "E-values: calibration, combination and applications" (2021). Several statistics of
one unit depend on each other in unknown ways; the average of their e-values is an e-value whatever
the dependence. p is never taken below `floor`, 1/(n+1) of the n honest figures that it was ranked
among, so no single unit says more than its calibration can support.

**Two tests, of which the first is used.**

- *Detector* (`restart` true): M_t = max(1, M_{t-1}) · e_t, the CUSUM e-detector of Shin, Ramdas and
  Rinaldo, "E-detectors" (2023). It forgets a good past, so a worker that turns bad late is found as
  soon as one that always was. An alarm at M_t >= 1/alpha comes after 1/alpha or more units of
  honest work *on average*. So an honest worker that works for ever will raise one some day, and an
  alarm is a reason to look, never to punish.
- *One-sided SPRT* (`restart` false): M_t = M_{t-1} · e_t from M_0 = 1. By Ville's inequality honest
  work *ever* raises an alarm with probability at most alpha. But the past counts: each good unit
  must be paid back by bad ones first.

Both suppose p-values that are conservative given the past. Ranks among one finite set of honest
figures are so on average over such sets only; a set that was lucky to be tame makes all later
p-values a little small. See `docs/decisions/0015-spot-checks-and-drift.md` for how much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from proofs.errors import ProofError

_NEAR_ONE = 1e-3


class DriftError(ProofError):
    """A p-value that is not one, or an impossible state; the message says which."""


@dataclass(frozen=True)
class DriftTest:
    """An alarm is raised where the evidence reaches 1/alpha."""

    alpha: float = 1e-3
    floor: float = 1e-3
    restart: bool = True

    def __post_init__(self) -> None:
        if not (0.0 < self.alpha < 1.0 and 0.0 < self.floor <= 1.0):
            raise DriftError("alpha lies inside 0 and 1, the floor above 0 and at most 1")


@dataclass(frozen=True)
class DriftState:
    """`level` is the natural logarithm of the evidence after `units` units; `alarms` were raised,
    the last one at unit `alarmed_at` (0: none), after which the evidence starts anew."""

    units: int = 0
    level: float = 0.0
    alarms: int = 0
    alarmed_at: int = 0

    def to_plain(self) -> dict[str, int | float]:
        """For a journal."""
        return {
            "units": self.units,
            "level": self.level,
            "alarms": self.alarms,
            "alarmed_at": self.alarmed_at,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, int | float]) -> DriftState:
        """The reverse of `to_plain`. Raises DriftError."""
        try:
            counts = [plain[name] for name in ("units", "alarms", "alarmed_at")]
            level = float(plain["level"])
        except (KeyError, TypeError, ValueError) as exc:
            raise DriftError(f"no state of a sequential test: {exc!r}") from exc
        if not (math.isfinite(level) and all(type(n) is int and n >= 0 for n in counts)):
            raise DriftError("no state of a sequential test: a figure is out of range")
        units, alarms, alarmed_at = (int(n) for n in counts)
        return cls(units, level, alarms, alarmed_at)


def e_value(p: float, floor: float) -> float:
    """The e-value of a p-value, which counts as `floor` at least. Raises DriftError."""
    if not 0.0 <= p <= 1.0:  # NaN is not
        raise DriftError(f"a p-value is 0 to 1, not {p}")
    p = max(p, floor)
    if 1.0 - p < _NEAR_ONE:  # the formula is 0/0 at 1; its series is 1/2 + (1-p)/6 + ...
        return 0.5 + (1.0 - p) / 6.0
    log = math.log(p)
    return (1.0 - p + p * log) / (p * log * log)


def unit_evidence(p_values: Sequence[float], floor: float) -> float:
    """The e-value of one unit: the average over its statistics; 1 where there are none."""
    if not p_values:
        return 1.0
    return sum(e_value(p, floor) for p in p_values) / len(p_values)


def observe(
    state: DriftState, p_values: float | Sequence[float], test: DriftTest
) -> tuple[DriftState, bool]:
    """The state after one more unit, and whether that raised an alarm. Raises DriftError."""
    values = (p_values,) if isinstance(p_values, int | float) else p_values
    before = max(state.level, 0.0) if test.restart else state.level
    level = before + math.log(unit_evidence(values, test.floor))
    after = replace(state, units=state.units + 1, level=level)
    if level < -math.log(test.alpha):
        return after, False
    return replace(after, level=0.0, alarms=state.alarms + 1, alarmed_at=after.units), True
