"""What this stage says of a unit's sequences: its engine's evidence, and never two versions of it.

A stage speaks twice of the same hand-overs: in its own claim, and by countersigning its upstream
neighbour's. If the two differed it would contradict itself, which convicts it. Whoever schedules
the ring could bring that about by having a sequence run again in between. So the first evidence of
a unit in a build is the only one: its commitment is journaled before anything is signed that rests
on it, and other evidence later is refused.
"""

from __future__ import annotations

from node.context import NodeContext
from node.roles.worker.stage import StageHost, engine_refusals
from node.wire.messages.fields import StageRef
from p2p.errors import Refused
from pipeline.engine.control.messages import SequenceIds
from pipeline.engine.control.operations import EVIDENCE
from proofs.evidence.statement import StageEvidence, evidence_commitment

ENGINE_SECONDS = 20.0


class Statements:
    """The evidence that this stage stands for."""

    def __init__(self, context: NodeContext, stage: StageHost) -> None:
        self._context = context
        self._stage = stage

    async def of(
        self, unit_id: bytes, own: StageRef, sequence_ids: tuple[bytes, ...]
    ) -> tuple[StageEvidence, ...]:
        """The evidence of stage `own` for these sequences. Raises `Refused` where there is none, or
        other than was said of the unit in this build before."""
        with engine_refusals():
            answer = await self._stage.engine.request(
                EVIDENCE, SequenceIds(sequence_ids=sequence_ids), timeout=ENGINE_SECONDS
            )
        evidence = answer.items
        if tuple(item.sequence_id for item in evidence) != sequence_ids:
            raise Refused("unknown_sequence", "my engine has evidence of other sequences")
        key = f"{unit_id.hex()}:{own.generation}"
        said, journal = evidence_commitment(evidence) + own.group_id, self._context.journal
        body = said + own.stage.to_bytes(2, "big")
        if not await journal.append("self.evidence", key, body):
            first = await journal.get("self.evidence", key)
            if first is None or first.body != body:
                raise Refused("conflict", "I have other evidence for that unit than before")
        return evidence
