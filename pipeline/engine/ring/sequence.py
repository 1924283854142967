"""The life of one sequence at stage 0.

    WAITING → RUNNING ⇄ PREEMPTED → FINISHED / ABORTED

WAITING: submitted, holds no KV cache. RUNNING: has KV reserved in the present ring; ends there by
completing. PREEMPTED: its ring broke; it keeps its tokens and waits for the next ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from pipeline.engine.control.messages import SequenceSpec
from pipeline.engine.errors import IllegalTransition
from proofs.evidence.sequence import FinishReason


class State(Enum):
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
    """`fed` positions were sent into the present ring; `reason` is set once output is complete."""

    spec: SequenceSpec
    serial: int
    known: list[int]
    state: State = State.WAITING
    fed: int = 0
    reason: FinishReason | None = None

    @property
    def outputs(self) -> int:
        return len(self.known) - len(self.spec.request.prompt_ids)

    @property
    def needs(self) -> int:
        """KV positions to reserve."""
        return len(self.spec.request.prompt_ids) + self.spec.request.max_tokens

    @property
    def unfed(self) -> int:
        """Known positions still to feed; the last token of a complete output gives no row."""
        return len(self.known) - (self.reason is not None) - self.fed

    def move(self, state: State) -> None:
        if state not in LEGAL[self.state]:
            raise IllegalTransition(f"sequence cannot go from {self.state} to {state}")
        self.state = state

    def complete(self, stopped: bool) -> FinishReason | None:
        if not self.outputs:
            return None
        if self.known[-1] in self.spec.request.eos_ids:
            return FinishReason.EOS
        if stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.outputs >= self.spec.request.max_tokens else None
