"""What this stage says of a unit's sequences: its engine's evidence, and never two versions of it.

A stage speaks twice of the same hand-overs: in its own claim, and by countersigning its upstream
neighbour's. If the two differed it would contradict itself, which convicts it. Whoever schedules
the ring could bring that about by having a sequence run again in between. So the first evidence of
a unit in a generation of the group is the only one: its commitment is journaled before anything is
signed that rests on it, and other evidence later is refused, as long as the generation lasts.
"""

from __future__ import annotations

from node.context import NodeContext
from node.roles.worker.journal_events import EvidenceSaid
from node.roles.worker.stage import StageHost, engine_refusals
from node.roles.worker.timing import WorkerTiming
from node.wire.messages.fields import StageRef
from p2p.errors import Refused
from pipeline.engine.control.messages import SequenceIds
from pipeline.engine.control.operations import EVIDENCE
from proofs.evidence.statement import StageEvidence, evidence_commitment


class Statements:
    """The evidence that this stage stands by."""

    def __init__(self, context: NodeContext, stage: StageHost, timing: WorkerTiming) -> None:
        self._context = context
        self._stage = stage
        self._timing = timing

    async def of(
        self, unit_id: bytes, own: StageRef, sequence_ids: tuple[bytes, ...]
    ) -> tuple[StageEvidence, ...]:
        """The evidence of stage `own` for these sequences. Raises `Refused` where there is none, or
        other than was said of the unit in this generation before."""
        with engine_refusals():
            answer = await self._stage.engine.request(
                EVIDENCE, SequenceIds(sequence_ids=sequence_ids), timeout=self._timing.engine
            )
        evidence = answer.items
        if tuple(item.sequence_id for item in evidence) != sequence_ids:
            raise Refused("unknown_sequence", "my engine has evidence of other sequences")
        said = EvidenceSaid(
            unit_id=unit_id,
            group_id=own.group_id,
            generation=own.generation,
            stage=own.stage,
            commitment=evidence_commitment(evidence),
        )
        journal, generations = self._context.journal, self._stage.generations
        known = await journal.find(EvidenceSaid, said.key)
        if known is None:
            generations.require_room()
            (first,) = await journal.record(said)
            known = said if first else await journal.find(EvidenceSaid, said.key)
            if first:
                generations.said()
        self._stage.require(own)  # a newer generation forgets what was said in this one
        if known != said:
            raise Refused("conflict", "I have other evidence for that unit than before")
        return evidence
