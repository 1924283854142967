"""Tokens of one generation that the orchestrator has not taken yet, and the next report of them.

A sequence has one entry: how many of its tokens were taken, and those after them. So runs that
follow one another are one run, whatever pieces the engine made them in, and a slow orchestrator
gets fewer, larger reports. A report has at most as many bytes as are taken; what is more waits for
the next one, and the end of a sequence is told with the last of its tokens. Nothing leaves before
`taken` is called, so a report that was not answered is made again.

What waits is bounded. Where it is more, the orchestrator does not take what it ordered.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from node.wire.messages.fields import MAX_REPORT, MAX_RUNS, StageRef
from node.wire.messages.work import FinishedRun, Progress, TokenRun
from pipeline.engine.control.messages import Finished, Tokens
from proofs.evidence.sequence import FinishReason

TOKEN_BYTES = 5
"""The most that a token's id takes on the wire: below 2^31, as MessagePack."""
RUN_BYTES = 96
"""The most that the rest of a run takes: its sequence's id, its offset, its reason, the names."""
HEAD_BYTES = 256
"""The most that the rest of a report takes."""
MOST_WAITING = 1 << 22
"""Tokens that may wait; a sequence counts as `SEQUENCE_WEIGHT` more."""
SEQUENCE_WEIGHT = 64


@dataclass
class _Entry:
    """A sequence: `ids` follow on the `offset` tokens that were taken."""

    offset: int
    ids: array[int] = field(default_factory=lambda: array("I"))
    reason: FinishReason | None = None

    @property
    def end(self) -> int:
        """Its tokens so far."""
        return self.offset + len(self.ids)


class Outbox:
    """Of the generation that `ref` names. `limit` is in bytes, `most` in tokens."""

    def __init__(self, ref: StageRef, limit: int = MAX_REPORT, most: int = MOST_WAITING) -> None:
        self._ref = ref
        self._limit = limit
        self._most = most
        self._entries: dict[bytes, _Entry] = {}
        self._tokens = 0

    @property
    def overfull(self) -> bool:
        """Whether more waits than is kept for an orchestrator that takes nothing."""
        return self._tokens + SEQUENCE_WEIGHT * len(self._entries) > self._most

    def put(self, event: Tokens | Finished) -> None:
        """What the engine generated. A gap is not filled by guessing: the end brings all tokens."""
        start = event.offset if isinstance(event, Tokens) else 0
        entry = self._entries.setdefault(event.sequence_id, _Entry(start))
        fresh = event.ids[entry.end - start :] if start <= entry.end else ()
        entry.ids.extend(fresh)
        self._tokens += len(fresh)
        if isinstance(event, Finished):
            entry.reason = event.reason

    def drop(self, sequence_id: bytes) -> None:
        """Nothing more is to be told of a sequence."""
        gone = self._entries.pop(sequence_id, None)
        self._tokens -= 0 if gone is None else len(gone.ids)

    def clear(self) -> None:
        """Nothing more is to be told at all."""
        self._entries.clear()
        self._tokens = 0

    def report(self) -> Progress | None:
        """The next report; None where there is nothing to tell."""
        room = self._limit - HEAD_BYTES
        tokens: list[TokenRun] = []
        finished: list[FinishedRun] = []
        for sequence_id, entry in self._entries.items():
            if not entry.ids and entry.reason is None:
                continue
            most = (room - RUN_BYTES) // TOKEN_BYTES
            if most < min(len(entry.ids), 1) or len(tokens) + len(finished) == MAX_RUNS:
                break
            ids = tuple(entry.ids[:most])
            room -= RUN_BYTES + TOKEN_BYTES * len(ids)
            run = {"sequence_id": sequence_id, "offset": entry.offset, "ids": ids}
            if entry.reason is not None and len(ids) == len(entry.ids):
                finished.append(FinishedRun.model_validate({**run, "reason": entry.reason}))
            else:
                tokens.append(TokenRun.model_validate(run))
        if not tokens and not finished:
            return None
        return Progress(ref=self._ref, tokens=tuple(tokens), finished=tuple(finished))

    def taken(self, report: Progress) -> None:
        """The orchestrator has what this report says."""
        runs: list[TokenRun | FinishedRun] = [*report.tokens, *report.finished]
        for run in runs:
            entry = self._entries.get(run.sequence_id)
            if entry is None:
                continue
            fresh = max(run.offset + len(run.ids) - entry.offset, 0)
            del entry.ids[:fresh]
            entry.offset += fresh
            self._tokens -= fresh
        for end in report.finished:
            self.drop(end.sequence_id)
