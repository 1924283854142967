"""From an inquiry to a verdict: an accused stage shows the rows that it received, or does not.

`proofs.verdict.judge.judge` names the rows that it needs. They are fetched by their hash and
measured, and the unit is judged again, until there is a verdict. No rows are asked for twice. What
was asked for and what came of it is journaled with the verdict, so that others can check bundle,
rows and verdict.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from node.roles.validator.journal_events import AskedStage
from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.reputation import UnitFigures
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.measures import RevealedRowsCheck
from proofs.verdict.blame import Inquiry, Revealed
from proofs.verdict.message import Verdict

Opinion = Callable[[Revealed], Awaitable[Verdict | Inquiry]]
"""What follows from the rows that were revealed so far."""
Reveal = Callable[[Inquiry], Awaitable[RevealedRowsCheck | None]]
"""What came of rows; None where nobody showed them."""


@dataclass(frozen=True)
class Answer:
    """An inquiry and by how much the rows were off; `error` is None where nobody showed them."""

    inquiry: Inquiry
    error: float | None

    def to_event(self) -> AskedStage:
        """The answer as it is journaled."""
        asked = self.inquiry
        return AskedStage(
            stage=asked.stage, index=asked.index, digest=asked.digest, error=self.error
        )


@dataclass(frozen=True)
class Ruling:
    """A verdict and what it rests on: the inquiries in order, and the name of the limits ("" where
    nothing was measured). `p_values` says by stage how unusual its figures were, `figures` what
    they were (`node.roles.validator.judging.reputation`)."""

    verdict: Verdict
    answers: tuple[Answer, ...] = ()
    limits: str = ""
    p_values: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    figures: UnitFigures | None = None


async def resolve_inquiries(opinion: Opinion, reveal: Reveal, rounds: int) -> Ruling:
    """Ask for rows until `opinion` is a verdict. Raises `CannotJudge`, also where that takes more
    than `rounds` inquiries or the same one again."""
    revealed: dict[Inquiry, RevealedRowsCheck | None] = {}
    answers: list[Answer] = []
    while isinstance(found := await opinion(revealed), Inquiry):
        if len(answers) >= rounds or found in revealed:
            raise CannotJudge("the inquiries do not come to an end")
        shown = revealed[found] = await reveal(found)
        answers.append(Answer(found, None if shown is None else shown.error))
    return Ruling(found, tuple(answers))


def most_bytes(bundle: UnitBundle, index: int, hidden_size: int) -> int:
    """The size that the rows of the sequence at `index` have at most: 8 bytes a value."""
    rows = bundle.sequences[index].token_count - 1
    return rows * hidden_size * 8
