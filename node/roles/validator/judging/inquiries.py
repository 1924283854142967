"""From an inquiry to a verdict: whoever is accused shows the rows that it received, or does not.

`proofs.verdict.judge.judge` names the rows that it needs. They are fetched by their hash, measured,
and the unit is judged again, until there is a verdict: at most once for every stage. What was asked
and what came of it is journaled with the verdict, so that bundle, rows and verdict can be checked
by others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from node.roles.validator.judging.rows import CannotJudge
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.measures import RevealedRowsCheck
from proofs.verdict.blame import Inquiry, Revealed
from proofs.verdict.message import Verdict

Opinion = Callable[[Revealed], Verdict | Inquiry]
Reveal = Callable[[Inquiry], Awaitable[RevealedRowsCheck | None]]
"""What came of the rows, None where nobody showed them."""


@dataclass(frozen=True)
class Answer:
    """An inquiry and what it brought: how far the rows are off, None where it brought none."""

    inquiry: Inquiry
    error: float | None

    def body(self) -> dict[str, Any]:
        """For the journal. `error` is null where the rows were asked for in vain; otherwise they
        lie in the blob folder, `<digest in hex>.rows`."""
        return {
            "stage": self.inquiry.stage,
            "index": self.inquiry.index,
            "digest": self.inquiry.digest,
            "error": self.error,
        }


@dataclass(frozen=True)
class Ruling:
    """A verdict and the inquiries that it rests on, in order; by which limits it was judged, and
    how unusual each stage's figures were by them (`node.roles.validator.judging.reputation`)."""

    verdict: Verdict
    answers: tuple[Answer, ...] = ()
    limits: str = ""
    p_values: Mapping[int, tuple[float, ...]] = field(default_factory=dict)


async def resolve_inquiries(opinion: Opinion, reveal: Reveal, rounds: int) -> Ruling:
    """Ask for rows until `opinion` is a verdict. Raises `CannotJudge`, also where it is none after
    so many `rounds`."""
    revealed: dict[Inquiry, RevealedRowsCheck | None] = {}
    answers: list[Answer] = []
    while isinstance(found := opinion(revealed), Inquiry):
        if len(answers) >= rounds or found in revealed:
            raise CannotJudge("the inquiries do not come to an end")
        shown = revealed[found] = await reveal(found)
        answers.append(Answer(found, None if shown is None else shown.error))
    return Ruling(found, tuple(answers))


def most_bytes(bundle: UnitBundle, index: int, hidden_size: int) -> int:
    """What the rows of a sequence can have at most: 8 bytes for each value."""
    rows = bundle.sequences[index].token_count - 1
    return rows * hidden_size * 8
