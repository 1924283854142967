"""Walking back from a bad boundary to the stage that made it bad.

A stage's proof can be off because the stage computed something else, or because it was handed bad
rows: a neighbour's proof says little about rows outside its largest values, and nothing about the
prompt's. So a stage whose output is off stands accused, and clears itself by revealing the rows
that it received. Their hash is the one that its neighbour signed as sent, so the rows are the
neighbour's word as much as its own. Compared in full with the validator's own rows:

- they are off: the neighbour sent them, and stands accused in turn;
- they are right, and the output is off: the accused made it so;
- they are not revealed: the accused has not cleared itself.

Stage 0 receives tokens, which everybody knows, so the walk ends there at the latest. An honest
stage that answers is never convicted: if its output is off, the rows it received are off, and it
can show them. The reverse holds within the noise: rows that are off by less than `rows_error`, and
that its layers amplify beyond the limits of its proof, would be charged to it (docs/threat-model).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from proofs.bundle import UnitBundle
from proofs.thresholds import Thresholds

WITHHELD = "did not reveal the rows that it received"


@dataclass(frozen=True)
class Inquiry:
    """Rows that a validator must see before it can go on.

    `stage` received them of sequence number `place`; their sha256 is `digest`.
    """

    stage: int
    place: int
    digest: bytes


@dataclass(frozen=True)
class Charge:
    """What stage `stage` stands accused of in sequence number `place`. `gross`: it is off by more
    than honest work ever is, not just by more than is likely."""

    stage: int
    place: int
    reason: str
    gross: bool


Revealed = Mapping[Inquiry, float | None]
"""What inquiries brought: how far revealed rows are from the validator's own (`rows_error`; -1.0
for bytes that are no rows of the sequence), None for rows that were asked for in vain."""


def walk_back(
    bundle: UnitBundle,
    charge: Charge,
    revealed: Revealed,
    thresholds: Thresholds,
) -> Charge | Inquiry:
    """The charge that stands in the end, against whoever made `charge.stage` be off.

    Needs a bundle whose claims bind and whose stages do not contradict one another.
    """
    while charge.stage > 0:
        digest = bundle.stages[charge.stage].evidence[charge.place].received
        inquiry = Inquiry(charge.stage, charge.place, digest)
        if inquiry not in revealed:
            return inquiry
        error = revealed[inquiry]
        if error is None:
            return replace(charge, reason=f"{charge.reason}; {WITHHELD}")
        if 0.0 <= error <= thresholds.rows_error:
            return charge
        described = "are no rows of the sequence" if error < 0.0 else f"are off by {error:.3g}"
        charge = Charge(
            stage=charge.stage - 1,
            place=charge.place,
            reason=f"sequence {charge.place}: the rows that it sent on {described}",
            gross=not 0.0 <= error <= thresholds.convicting().rows_error,
        )
    return charge
