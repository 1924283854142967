"""Work units: what is generated, verified and paid as one.

```
QUEUED → ASSIGNED → PRODUCED → VERIFYING → ACCEPTED → SETTLED
   ↑         │          │           │
   │         │          │           └─→ REJECTED(blame) ─again, up to MAX_ATTEMPTS→ QUEUED
   │         │          │                                └─then→ EXPIRED
   │         └──────────┴─failed─→ QUEUED for another ring, or EXPIRED
   └── ASSIGNED ← PRODUCED when a stage died before it gave its evidence
```
A unit holds a few sequences. What a group generated before it lost a member is kept: the next
generation of the group rebuilds those tokens with one prefill. What a convicted group generated is
thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from node.roles.orchestrator.coordinator.groups import Group
from node.roles.orchestrator.coordinator.members import IllegalTransition
from proofs.evidence.sequence import FinishReason, NoiseSource, SequenceRequest, sampled_from


class UnitState(StrEnum):
    """Where a unit stands in the picture above."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    PRODUCED = "produced"
    VERIFYING = "verifying"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SETTLED = "settled"


TRANSITIONS: dict[UnitState, frozenset[UnitState]] = {
    UnitState.QUEUED: frozenset({UnitState.ASSIGNED, UnitState.EXPIRED}),
    UnitState.ASSIGNED: frozenset({UnitState.PRODUCED, UnitState.QUEUED, UnitState.EXPIRED}),
    UnitState.PRODUCED: frozenset(
        {UnitState.VERIFYING, UnitState.ASSIGNED, UnitState.QUEUED, UnitState.EXPIRED}
    ),
    UnitState.VERIFYING: frozenset({UnitState.ACCEPTED, UnitState.REJECTED}),
    UnitState.ACCEPTED: frozenset({UnitState.SETTLED}),
    UnitState.REJECTED: frozenset({UnitState.QUEUED, UnitState.EXPIRED}),
    UnitState.EXPIRED: frozenset(),
    UnitState.SETTLED: frozenset(),
}

MAX_ATTEMPTS = 5
DONE = frozenset({UnitState.ACCEPTED, UnitState.SETTLED})
"""A validator accepted the unit; its completions are part of the dataset."""
ENDED = DONE | {UnitState.EXPIRED}
"""Nothing more happens to the unit but that it is paid; it is in no coordinator's tables."""


@dataclass(frozen=True)
class WorkSequence:
    """One prompt to complete, and how far that came.

    `request` is what its group's engines are asked for, `index` its prompt's number in the job, and
    `metadata` what its owner noted beside the prompt.
    `noise` is what its noise key follows from: None where it is greedy, or has no seed and waits
    for its job's beacon. `segments` are (output index, generation of the group) pairs: who produced
    which tokens. Its text is not kept: it is decoded from `output_ids`, which were proven, where
    it is shown.
    """

    request: SequenceRequest
    prompt_id: str
    messages: tuple[dict[str, Any], ...]
    seed: int | None
    index: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    noise: NoiseSource | None = None
    output_ids: tuple[int, ...] = ()
    segments: tuple[tuple[int, int], ...] = ()
    reason: FinishReason | None = None

    @property
    def sequence_id(self) -> bytes:
        """The request's id, 16 bytes."""
        return self.request.sequence_id

    @property
    def token_count(self) -> int:
        """Prompt tokens and the output tokens so far."""
        return len(self.request.prompt_ids) + len(self.output_ids)

    @property
    def finished(self) -> bool:
        """Whether its output is complete."""
        return self.reason is not None

    @property
    def awaiting_beacon(self) -> bool:
        """Whether it cannot be sampled before its job's beacon is there."""
        return self.request.sampling.temperature > 0.0 and self.noise is None

    def drawn(self, source: NoiseSource) -> WorkSequence:
        """With the noise of `source`; greedy sequences have none."""
        request = self.request
        if request.sampling.temperature == 0.0:
            return self
        key = source.key(request.prompt_ids)
        sampling = request.sampling.model_copy(update={"noise_key": key})
        request = request.model_copy(update={"sampling": sampling})
        return replace(self, request=request, noise=source)

    def extended(self, generation: int, offset: int, ids: tuple[int, ...]) -> WorkSequence:
        """With `ids` from output index `offset` on. Repeats, gaps, contradictions and more tokens
        than were asked for change nothing."""
        known = len(self.output_ids)
        if self.finished or offset > known or offset + len(ids) > self.request.max_tokens:
            return self
        fresh = ids[known - offset :]
        if not fresh or self.output_ids[offset:] != ids[: known - offset]:
            return self
        segments = self.segments
        if not segments or segments[-1][1] != generation:
            segments = (*segments, (len(self.output_ids), generation))
        return replace(self, output_ids=self.output_ids + fresh, segments=segments)

    def ended(self, generation: int, reason: FinishReason, ids: tuple[int, ...]) -> WorkSequence:
        """With its whole output and why that ended; contradictions and repeats change nothing."""
        if self.finished or not ids or ids[: len(self.output_ids)] != self.output_ids:
            return self
        if len(ids) > self.request.max_tokens:
            return self
        return replace(self.extended(generation, 0, ids), reason=reason)

    def sampled_from(self, generation: int) -> int:
        """The index of the first output token that this generation of the group made."""
        return sampled_from(self.segments, generation, len(self.output_ids))

    def tokens_by_generation(self) -> dict[int, int]:
        """Tokens that each generation worked on first: those it made, and the prompt's of the one
        that began."""
        ends = [*(offset for offset, _ in self.segments[1:]), len(self.output_ids)]
        found: dict[int, int] = {}
        for (offset, generation), end in zip(self.segments, ends, strict=False):
            prompt = 0 if offset else len(self.request.prompt_ids)
            found[generation] = found.get(generation, 0) + prompt + end - offset
        return found

    def restarted(self) -> WorkSequence:
        """With nothing generated."""
        return replace(self, output_ids=(), segments=(), reason=None)

    def reopened(self) -> WorkSequence:
        """Unfinished again by one token, so that another generation of the group proves it anew."""
        kept = self.output_ids[:-1]
        segments = tuple(segment for segment in self.segments if segment[0] < len(kept))
        return replace(self, output_ids=kept, segments=segments, reason=None)


@dataclass(frozen=True)
class Failure:
    """A stage said, for `reason`, that it cannot work on the unit in a generation of its group. It
    is the last of `suspects`: those before it may have sent it something absurd."""

    reason: str
    generation: int
    suspects: tuple[str, ...]

    @property
    def claimant(self) -> str:
        """Who said so."""
        return self.suspects[-1]


@dataclass(frozen=True)
class Opinion:
    """One validator's verdict on a unit's bundle. `faulty` is the peer it convicts, `doubted` one
    that it doubts, "" for none; `summary` is what rows of the dataset say of it."""

    accepted: bool
    faulty: str
    reason: str
    summary: dict[str, Any] = field(default_factory=dict)
    doubted: str = ""


@dataclass(frozen=True)
class Unit:
    """A unit of work, as far as it has come.

    `group_id` and `generation` say who works on it, `claims` are that generation's evidence by
    stage (canonical bytes). `bundle_id` is the content id of the bundle that it is sent as, b""
    before there is one. `asked` are the validators who have its bundle, or are being given it,
    `missed` those of them who could not be given it, and `again` those who are to be given it once
    more; `opinions` are what they said, `late` is whether one of them let `verify_by` pass.
    `verify_by` and `progress_at` (the last new token, or the assignment) are monotonic seconds of
    this run. `history` says why it was started again, once for each time, and `failures` are the
    rings in which it could not be worked on.
    """

    unit_id: bytes
    job_id: str
    sequences: tuple[WorkSequence, ...]
    state: UnitState = UnitState.QUEUED
    attempt: int = 0
    group_id: bytes = b""
    generation: int = 0
    claims: dict[int, bytes] = field(default_factory=dict)
    bundle_id: bytes = b""
    asked: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    opinions: dict[str, Opinion] = field(default_factory=dict)
    verdict: dict[str, Any] | None = None
    transaction: str = ""
    epoch: int = 0
    verify_by: float = 0.0
    late: bool = False
    progress_at: float = 0.0
    history: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    def to(self, state: UnitState, **changes: Any) -> Unit:
        """This unit in another state. Raises `IllegalTransition` where the table forbids it."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"unit {self.unit_id.hex()[:12]}: {self.state} → {state}")
        return replace(self, state=state, **changes)

    @property
    def why(self) -> str:
        """Why it was started again last, or given up; "" where neither was."""
        return self.history[-1] if self.history else ""

    @property
    def pending_validators(self) -> tuple[str, ...]:
        """Validators who were asked and have not answered."""
        return tuple(peer_id for peer_id in self.asked if peer_id not in self.opinions)

    def offered_again(self, validator: str) -> Unit:
        """To be given once more to this validator, who was asked."""
        return replace(
            self,
            again=tuple(dict.fromkeys((*self.again, validator))),
            missed=tuple(peer_id for peer_id in self.missed if peer_id != validator),
        )

    @property
    def awaiting_beacon(self) -> bool:
        """Whether it waits for its job's beacon."""
        return any(sequence.awaiting_beacon for sequence in self.sequences)

    def drawn(self, beacon: bytes, block: int) -> Unit:
        """With the job's beacon in all sequences that wait for it, each under its own id."""
        return replace(
            self,
            sequences=tuple(
                s.drawn(NoiseSource(beacon=beacon, block=block, request_id=s.sequence_id))
                if s.awaiting_beacon
                else s
                for s in self.sequences
            ),
        )

    @property
    def finished(self) -> bool:
        """Whether every sequence is."""
        return all(sequence.finished for sequence in self.sequences)

    @property
    def generations(self) -> set[int]:
        """Those that made its tokens."""
        return {generation for s in self.sequences for _, generation in s.segments}

    @property
    def reserved(self) -> int:
        """Positions that its sequences may come to have; this never changes."""
        return sum(len(s.request.prompt_ids) + s.request.max_tokens for s in self.sequences)

    @property
    def token_count(self) -> int:
        """Tokens a stage worked on: prompts and outputs of all sequences."""
        return sum(sequence.token_count for sequence in self.sequences)

    def with_sequence(self, sequence: WorkSequence, now: float) -> Unit:
        """With one sequence as it stands at `now`."""
        return replace(
            self,
            progress_at=now,
            sequences=tuple(
                sequence if s.sequence_id == sequence.sequence_id else s for s in self.sequences
            ),
        )

    def reproven(self) -> Unit:
        """ASSIGNED once more, every sequence one token short, for another generation to prove
        it."""
        sequences = tuple(s.reopened() for s in self.sequences)
        return self.to(UnitState.ASSIGNED, sequences=sequences, claims={}, generation=0)

    def requeued(self, why: str) -> Unit:
        """QUEUED with nothing generated, one attempt later; EXPIRED after the last."""
        history = (*self.history, why)
        if self.attempt + 1 >= MAX_ATTEMPTS:
            return self.to(UnitState.EXPIRED, history=history)
        queued = self.to(UnitState.QUEUED, attempt=self.attempt + 1, history=history)
        return queued._from_nothing()

    def failed(self, failure: Failure) -> Unit:
        """QUEUED with nothing generated, one attempt later, for another ring."""
        queued = self.to(
            UnitState.QUEUED,
            attempt=self.attempt + 1,
            history=(*self.history, f"failed: {failure.reason}"),
            failures=(*self.failures, failure),
        )
        return queued._from_nothing()

    def given_up(self, why: str, *failures: Failure) -> Unit:
        """EXPIRED."""
        history = (*self.history, f"failed: {why}")
        return self.to(UnitState.EXPIRED, history=history, failures=(*self.failures, *failures))

    def set_aside(self, why: str) -> Unit:
        """QUEUED as far as it has come, for a ring of its own: it costs no attempt."""
        return self.to(
            UnitState.QUEUED,
            sequences=tuple(s.reopened() if s.finished else s for s in self.sequences),
            history=(*self.history, why)[-MAX_ATTEMPTS:],
            claims={},
            group_id=b"",
            generation=0,
        )

    def may_run_in(self, group: Group) -> bool:
        """Whether it has not failed in the group's generation."""
        return all(failure.generation != group.generation for failure in self.failures)

    def returned(self, why: str) -> Unit:
        """QUEUED with nothing generated, through no fault of its own: it costs no attempt."""
        queued = self.to(UnitState.QUEUED, history=(*self.history, why)[-MAX_ATTEMPTS:])
        return queued._from_nothing()

    def cleared(self) -> Unit:
        """QUEUED as it is, with nothing generated: an earlier run left tokens of no worth."""
        return self._from_nothing()

    def resumed(self) -> Unit:
        """As a restart finds it: with a validator or done as it was, else QUEUED from nothing."""
        if self.state is UnitState.EXPIRED:
            return self
        if self.state is UnitState.VERIFYING or self.state in DONE:
            fresh = replace(self, asked=(), missed=(), again=(), opinions={}, late=False)
            return replace(fresh, verify_by=0.0, progress_at=0.0)
        return replace(self, state=UnitState.QUEUED)._from_nothing()

    def _from_nothing(self) -> Unit:
        """Without anything that a group made of it or a validator said of it."""
        return replace(
            self,
            sequences=tuple(s.restarted() for s in self.sequences),
            claims={},
            bundle_id=b"",
            asked=(),
            missed=(),
            again=(),
            opinions={},
            late=False,
            verdict=None,
            group_id=b"",
            generation=0,
            verify_by=0.0,
            progress_at=0.0,
        )
