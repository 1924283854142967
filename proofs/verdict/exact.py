"""Within an exact kernel class equality decides: one row that differs convicts its stage.

A kernel class names arithmetic; in an exact one the bits of a row depend on nothing but its own
sequence (`pipeline.runner.kernel_class`). So where a stage signed for the class that the validator
replayed in, what it must have sent is known to the bit, prompt rows included, and its hash is in
its statement already. No limits, no calibration, no rows to show: the first stage in ring order
whose `sent` is another hash was handed the right rows, since those before it sent them and it
signed for having received these, so the difference is its own doing. What comes after it is not
judged. The last stage sends tokens, which must be those that the replay chose; its rows are hashed
in `final`, since small errors in them change few tokens.

Stages after one of another class were handed rows that need not be equal, and are left to limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.measures import SequenceMeasure


@dataclass(frozen=True)
class ExactClass:
    """The exact kernel class that a replay was computed in; `demanded`: the pool takes no other."""

    name: str
    demanded: bool = False


@dataclass(frozen=True)
class Difference:
    """The first thing in a sequence that is not as it must be. `stage` None: tokens that an earlier
    generation of the group sampled."""

    stage: int | None
    reason: str


def class_fault(bundle: UnitBundle, exact: ExactClass | None) -> str:
    """Which stage states another class than the pool demands, or ""."""
    if exact is None or not exact.demanded:
        return ""
    for stage, claim in enumerate(bundle.stages):
        for item in claim.evidence:
            if item.kernel_class != exact.name:
                stated = item.kernel_class or "no kernel class"
                return f"stage {stage} states {stated}, the pool demands {exact.name}"
    return ""


def differences(
    bundle: UnitBundle, measures: Sequence[SequenceMeasure | None], exact: ExactClass | None
) -> Iterator[Difference]:
    """One for each replayed sequence that is not equal; nothing without an exact class."""
    for index, measure in enumerate(measures):
        if exact is not None and measure is not None:
            found = _difference(bundle, index, measure, exact.name)
            if found is not None:
                yield found


def _difference(
    bundle: UnitBundle, index: int, measure: SequenceMeasure, name: str
) -> Difference | None:
    last = len(bundle.stages) - 1
    for stage, claim in enumerate(bundle.stages):
        item = claim.evidence[index]
        if item.kernel_class != name:
            return None
        if (item.final if stage == last else item.sent) != measure.sent[stage]:
            return Difference(stage, f"sequence {index}: it made other rows than {name} gives")
    sampled_from = bundle.stages[last].evidence[index].sampled_from
    other = [at for at, score in enumerate(measure.sampling.scores) if score != 0.0]
    if not other:
        return None
    own = [at for at in other if at >= sampled_from]
    reason = f"sequence {index}: token {(own or other)[0]} is not the one that {name} gives"
    return Difference(last if own else None, reason)
