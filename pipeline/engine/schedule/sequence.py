"""The life of one sequence at stage 0.

    WAITING → RUNNING ⇄ PREEMPTED → FINISHED / ABORTED

WAITING: submitted, holds no KV cache. RUNNING: has KV cache in the present ring; ends there by
completing. PREEMPTED: its ring broke, or others needed its memory; it keeps its tokens, of which
one may still be on its way, and waits for room.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from pipeline.engine.control.messages import SequenceSpec
from pipeline.engine.errors import IllegalTransition
from proofs.evidence.sequence import FinishReason


class State(Enum):
    """Where a sequence stands (see the module)."""

    WAITING = auto()
    RUNNING = auto()
    PREEMPTED = auto()
    FINISHED = auto()
    ABORTED = auto()


LEGAL: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.RUNNING, State.ABORTED}),
    State.RUNNING: frozenset({State.PREEMPTED, State.FINISHED, State.ABORTED}),
    State.PREEMPTED: frozenset({State.RUNNING, State.ABORTED}),
    State.FINISHED: frozenset(),
    State.ABORTED: frozenset(),
}
DONE = frozenset({State.FINISHED, State.ABORTED})


@dataclass(eq=False)
class Sequence:
    """A sequence and how far it came.

    Attributes:
        serial: the order of submission.
        token_ids: prompt and output so far.
        num_computed_tokens: how many of these, from the first on, were sent into the present ring.
        capacity: KV positions that it has there.
        in_flight: batches under way that it is in.
        overtaken: how often a later one was admitted before it.
        reason: why the output is complete, None while it is not.
    """

    spec: SequenceSpec
    serial: int
    token_ids: list[int]
    state: State = State.WAITING
    num_computed_tokens: int = 0
    capacity: int = 0
    in_flight: int = 0
    overtaken: int = 0
    reason: FinishReason | None = None

    @property
    def rank(self) -> tuple[bool, int]:
        """Its place among others: interactive ones first, then as they were submitted."""
        return (self.spec.priority != "interactive", self.serial)

    @property
    def outputs(self) -> int:
        """Output tokens so far."""
        return len(self.token_ids) - len(self.spec.request.prompt_ids)

    @property
    def needs(self) -> int:
        """KV positions that it may come to need."""
        return len(self.spec.request.prompt_ids) + self.spec.request.max_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        """Known tokens still to be sent in; the last one of a complete output gives no row."""
        return len(self.token_ids) - (self.reason is not None) - self.num_computed_tokens

    def move(self, state: State) -> None:
        """Change state. Raises `IllegalTransition` where the table has no such step."""
        if state not in LEGAL[self.state]:
            raise IllegalTransition(f"sequence cannot go from {self.state} to {state}")
        self.state = state

    def complete(self, stopped: bool) -> FinishReason | None:
        """Why the output is complete, None if it is not; `stopped`: its text has a stop string."""
        if not self.outputs:
            return None
        if self.token_ids[-1] in self.spec.request.eos_ids:
            return FinishReason.EOS
        if stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.outputs >= self.spec.request.max_tokens else None
