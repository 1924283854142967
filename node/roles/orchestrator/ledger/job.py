"""A job as the node remembers it: a few numbers, however many units it has."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from node.roles.orchestrator.jobs.beacon import Beacon
from node.roles.orchestrator.ledger.rows import RowState


@dataclass
class Job:
    """A sealed job. `units`, `sequences` and `tokens` (of output) count by the state of their rows;
    what is accepted and settled is counted as ACCEPTED. `refused` prompts were submitted and not
    taken; `content` is the digest of all that were submitted. `read_to` is the cursor up to which
    its queued units were read, `exhausted` says that none was left. `most_tokens` is the highest
    count that was shown, in earlier runs too."""

    number: int
    job_id: str
    sampled: bool
    cancelled: bool = False
    refused: int = 0
    content: bytes = b""
    beacon: Beacon | None = None
    units: Counter[RowState] = field(default_factory=Counter)
    sequences: Counter[RowState] = field(default_factory=Counter)
    tokens: Counter[RowState] = field(default_factory=Counter)
    read_to: int = 0
    exhausted: bool = False
    most_tokens: int = 0

    @property
    def readable(self) -> bool:
        """Whether there may be units of it to be read and worked on."""
        waits = self.sampled and self.beacon is None
        return not (self.cancelled or self.exhausted or waits)

    @property
    def prompts(self) -> int:
        """How many prompts it has."""
        return sum(self.sequences.values())

    @property
    def submitted(self) -> int:
        """How many prompts were submitted; they are numbered through."""
        return self.prompts + self.refused

    @property
    def finished(self) -> bool:
        """Whether nothing of it is left to be done."""
        left = self.units[RowState.VERIFYING] + (
            0 if self.cancelled else self.units[RowState.QUEUED]
        )
        return not left

    def add(self, state: RowState, units: int, sequences: int, tokens: int) -> None:
        """Count these in."""
        kept = RowState.ACCEPTED if state is RowState.SETTLED else state
        self.units[kept] += units
        self.sequences[kept] += sequences
        self.tokens[kept] += tokens
