"""A job while it is submitted: what was seen of it so far, batch by batch.

Every prompt counts for the digest that says whether two submissions are the same job, those that
cannot be run included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from node.prompts import Prompt, prompt_line
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.jobs.refusals import MAX_LISTED, PromptRefusal, Submission
from node.roles.orchestrator.ledger.rows import pack_prompts

NewUnit = tuple[bytes, int, int, int, bytes]
"""A unit as `AddUnits` writes it."""


class Taking:
    """`units` and `sequences` count what was cut, `refused` the prompts that cannot be run, the
    first of which are `refusals`; `sampled` says that some of it waits for a beacon."""

    def __init__(self, cutter: JobCutter, job_id: str) -> None:
        self._cutter = cutter
        self._job_id = job_id
        self._digest = hashlib.sha256()
        self._seen = 0
        self.units = 0
        self.sequences = 0
        self.sampled = False
        self.refused = 0
        self.refusals: list[PromptRefusal] = []

    @property
    def content(self) -> bytes:
        """The digest of all prompts so far."""
        return self._digest.digest()

    def note(self, prompts: Sequence[Prompt]) -> None:
        """The next prompts, which need not be cut."""
        for prompt in prompts:
            self._digest.update(prompt_line(prompt))
        self._seen += len(prompts)

    def take(self, prompts: Sequence[Prompt]) -> list[NewUnit]:
        """The next prompts, as units to be written."""
        first = self._seen
        self.note(prompts)
        cut = self._cutter.cut(self._job_id, first, prompts)
        self.refused += len(cut.refusals)
        self.refusals += cut.refusals[: MAX_LISTED - len(self.refusals)]
        self.units += len(cut.parts)
        rows = []
        for unit, numbered in cut.parts:
            self.sequences += len(numbered)
            self.sampled = self.sampled or unit.awaiting_beacon
            first_number, last_number = numbered[0][0], numbered[-1][0]
            rows.append(
                (unit.unit_id, first_number, last_number, len(numbered), pack_prompts(numbered))
            )
        return rows

    def submission(self) -> Submission:
        """What became of it."""
        return Submission(self._job_id, self.sequences, self.refused, tuple(self.refusals))
