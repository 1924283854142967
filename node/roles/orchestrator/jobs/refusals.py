"""Prompts that a pool cannot run, found before anything of them is kept.

A job is taken with those of its prompts that can be run; the others are named in the answer, each
with its reason. Whoever wants all of them or none says so, and is told of all that are in the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from node.errors import InputError

MAX_LISTED = 1000
"""Refused prompts of a job that are listed; all are counted."""


@dataclass(frozen=True)
class PromptRefusal:
    """Prompt number `index` (from 0) of a job, whose owner calls it `prompt_id`, cannot be run."""

    index: int
    prompt_id: str
    reason: str

    def __str__(self) -> str:
        return f"prompt {self.index + 1}: {self.reason}"


class PromptUnfit(Exception):
    """One prompt cannot be run; the text says why."""


@dataclass(frozen=True)
class Submission:
    """A job that was taken in, now or earlier: how many of its prompts were, how many were not, and
    the first of these."""

    job_id: str
    accepted: int
    refused: int = 0
    refusals: tuple[PromptRefusal, ...] = ()


class PromptsRefused(InputError):
    """No job came of a submission: none of its prompts can be run, or not all, where all were
    wanted. `refused` counts those that cannot, `refusals` lists the first of them."""

    def __init__(self, refused: int, refusals: Iterable[PromptRefusal]) -> None:
        self.refused = refused
        self.refusals = tuple(refusals)
        more = f", and {refused - 1} more" if refused > 1 else ""
        super().__init__(f"{self.refusals[0]}{more}")


class KeyTaken(InputError):
    """A key that was used for a job of other prompts."""

    def __init__(self) -> None:
        super().__init__(
            "a job of other prompts was submitted under this key", "choose another key"
        )
