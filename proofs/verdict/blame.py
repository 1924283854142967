"""Walking back from a bad stage to the one that made it bad.

A stage's work can be off because the stage computed something else, or because it was handed bad
rows: a neighbour's proof says little about rows outside its largest values, and nothing about the
prompt's. So a stage whose work is off stands accused, and answers by showing the rows that it
received. Their hash is the one that its neighbour signed as sent, so the rows are the neighbour's
word as much as its own. Rows that are grossly off, or none at all, accuse that neighbour: what
layers make of absurd numbers may differ between honest machines. Otherwise the validator runs the
accused stage's layers on exactly these rows:

- the stage's work does not follow from what it was handed: it did that itself;
- it does follow: the stage is cleared, whatever it was handed. Rows that are off by more than
  noise accuse the neighbour, who signed for them, in turn; otherwise noise built up, and it is
  nobody's doing;
- the rows are not shown: the accused has not cleared itself.

Stage 0 receives tokens, which everybody knows, so the walk ends there at the latest. A stage that
computed right and shows its rows is cleared at every step, since nothing is asked of it but to have
computed right from what it was handed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.measures import RevealedRowsCheck
from proofs.verdict.exceedances import RejectConvictLimits, content_fault, token_fault

WITHHELD = "did not reveal the rows that it received"


@dataclass(frozen=True)
class Inquiry:
    """Rows that a validator must see before it can go on.

    `stage` received them of sequence `index`; their sha256 is `digest`.
    """

    stage: int
    index: int
    digest: bytes


def inquiry_of(bundle: UnitBundle, stage: int, index: int) -> Inquiry:
    """The inquiry after what a stage received of a sequence; beyond the last stage, stage 0's."""
    claim = bundle.stages[stage % len(bundle.stages)]
    return Inquiry(stage, index, claim.evidence[index].received)


class ChargeSubject(Enum):
    """What a charge is about: a stage's proofs, the tokens of the last one, all tokens of the unit
    together, or rows sent on."""

    PROOFS = auto()
    TOKENS = auto()
    UNIT = auto()
    ROWS = auto()


@dataclass(frozen=True)
class Charge:
    """What stage `stage` stands accused of in sequence `index`. `gross`: it is off by more
    than honest work ever is, not just by more than is likely."""

    stage: int
    index: int
    of: ChargeSubject
    reason: str
    gross: bool


Revealed = Mapping[Inquiry, RevealedRowsCheck | None]
"""What inquiries brought; None for rows that were asked for in vain."""


def walk_back(
    bundle: UnitBundle, charge: Charge, revealed: Revealed, limits: RejectConvictLimits
) -> Charge | Inquiry | None:
    """The charge that stands in the end, against whoever made `charge.stage` be off; None where it
    is nobody's doing.

    Needs a bundle whose claims bind and whose stages do not contradict one another.
    """
    while (
        charge.stage > 0 and charge.of is not ChargeSubject.UNIT
    ):  # no one sequence shows what all do
        inquiry = inquiry_of(bundle, charge.stage, charge.index)
        if inquiry not in revealed:
            return inquiry
        shown = revealed[inquiry]
        if shown is None:
            return replace(charge, reason=f"{charge.reason}; {WITHHELD}")
        if 0.0 <= shown.error <= limits.convict.rows_error:
            if own := _own_doing(bundle, charge, shown, limits):
                return own
            if shown.error <= limits.reject.rows_error:
                return None
        charge = _passed_on(charge, shown.error, limits)
    return charge


def _own_doing(
    bundle: UnitBundle, charge: Charge, shown: RevealedRowsCheck, limits: RejectConvictLimits
) -> Charge | None:
    """What of the charge holds given what the stage was handed; None if the stage is cleared."""
    if charge.of is ChargeSubject.ROWS:
        error = shown.sent_error
        if 0.0 <= error <= limits.reject.rows_error:
            return None
        reason = f"sequence {charge.index}: what it sent is off by {error:.3g} from what it got"
        gross = not 0.0 <= error <= limits.convict.rows_error
        return replace(charge, reason=reason, gross=gross)
    if charge.of is ChargeSubject.TOKENS:
        sequence = bundle.sequences[charge.index]
        start = bundle.stages[charge.stage].evidence[charge.index].sampled_from
        found = token_fault(sequence, shown.sampling, slice(start, None), limits)
    else:
        found = content_fault(shown.chunks, bundle.depth(charge.stage), limits)
    if found is None:
        return None
    reason = f"sequence {charge.index}: {found.reason}, from what it was handed"
    return replace(charge, reason=reason, gross=found.gross)


def _passed_on(charge: Charge, error: float, limits: RejectConvictLimits) -> Charge:
    """The charge against the stage that sent those rows."""
    described = "are no rows of the sequence" if error < 0.0 else f"are off by {error:.3g}"
    return Charge(
        stage=charge.stage - 1,
        index=charge.index,
        of=ChargeSubject.ROWS,
        reason=f"sequence {charge.index}: the rows that it sent on {described}",
        gross=not 0.0 <= error <= limits.convict.rows_error,
    )
