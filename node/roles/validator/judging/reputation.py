"""What this validator knows of each worker from its own checks.

Every unit that was replayed, in part or whole, adds to the records of its stages: one more without
a fault, and how unusual its figures were (`proofs.thresholds.drift`). Two things follow, and both
only make checks stricter: a worker with few checked units is a newcomer, one whose figures drift is
a suspect, and either has all of its sequences replayed. Nobody is rejected, banned or slashed for
what stands here.

A bundle counts once, however often it comes; its entry and the records that it changes go to disk
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from node.context import NodeContext
from node.journal import Entry
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.drift import DriftState, DriftTest, observe
from proofs.thresholds.measures import SequenceMeasure
from proofs.thresholds.profiles import Profile, distance
from proofs.thresholds.spotcheck import DEFAULT_TERMS
from proofs.verdict.message import StageStatus, Verdict

SUSPECT_UNITS = 64
"""Checked units after an alarm that are replayed whole."""
CHECKED = "self.checked"
DRIFTED = "self.drifted"


@dataclass(frozen=True)
class WorkerRecord:
    """`verified` checked units without a fault since the last fault."""

    verified: int = 0
    drift: DriftState = field(default_factory=DriftState)

    @property
    def newcomer(self) -> bool:
        return self.verified < DEFAULT_TERMS.probation

    @property
    def suspect(self) -> bool:
        drift = self.drift
        return bool(drift.alarms) and drift.units - drift.alarmed_at < SUSPECT_UNITS

    def to_plain(self) -> dict[str, Any]:
        return {"verified": self.verified, "drift": self.drift.to_plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> WorkerRecord:
        return cls(int(plain["verified"]), DriftState.from_plain(plain["drift"]))


class WorkerRecords:
    """Records by address, in the journal."""

    def __init__(self, context: NodeContext, test: DriftTest | None = None) -> None:
        self._context = context
        self._test = test or DriftTest()
        self._writing = trio.Lock()
        self.suspects: set[str] = set()

    async def restore(self) -> None:
        """Find out who is a suspect."""
        for event in await self._context.journal.events([DRIFTED]):
            address = str(event.body["worker"])
            self._show(address, await self.of(address))

    async def of(self, address: str) -> WorkerRecord:
        """The record of a worker; that of a stranger is empty."""
        plain = await self._context.journal.state(_name(address))
        return WorkerRecord() if plain is None else WorkerRecord.from_plain(plain)

    async def note(
        self, bundle: UnitBundle, verdict: Verdict, p_values: Mapping[int, Sequence[float]]
    ) -> None:
        """Add a judged bundle to the records of its stages. `p_values` are of each stage's figures
        among honest ones; stages without any are counted all the same.

        Stages that were not found honest, in doubt or faulty, and bundles of which nothing was
        replayed, add nothing.
        """
        key = bundle.content_id.hex()
        async with self._writing:
            if not verdict.replayed or await self._context.journal.get(CHECKED, key) is not None:
                return
            before: dict[str, WorkerRecord] = {}
            after: dict[str, WorkerRecord] = {}
            for stage, claim in enumerate(bundle.stages):
                if claim.address not in after:
                    before[claim.address] = await self.of(claim.address)
                old = after.get(claim.address, before[claim.address])
                status = verdict.stages[stage].status
                after[claim.address] = self._judged(old, status, p_values.get(stage, ()))
            drifted = [a for a in after if after[a].drift.alarms > before[a].drift.alarms]
            alarms = [Entry(DRIFTED, f"{a}:{key}", {"worker": a}) for a in drifted]
            state = {_name(address): record.to_plain() for address, record in after.items()}
            await self._context.journal.commit([Entry(CHECKED, key), *alarms], state)
        for address, record in after.items():
            self._show(address, record)
            if address in drifted:
                self._context.log.warning(
                    "a worker's figures drift: all of its sequences are replayed for a while",
                    worker=address,
                    units=record.drift.units,
                    alarms=record.drift.alarms,
                )

    def _judged(
        self, record: WorkerRecord, status: StageStatus, p_values: Sequence[float]
    ) -> WorkerRecord:
        if status is StageStatus.FAULTY:
            return replace(record, verified=0)
        if status is StageStatus.UNCHECKED:
            return record
        try:
            drift, _ = observe(record.drift, p_values, self._test)
        except ProofError as exc:
            self._context.log.error("figures that cannot be compared", reason=str(exc))
            drift, _ = observe(record.drift, (), self._test)
        # Who is in doubt is a newcomer again: all of its sequences are replayed for a while.
        return WorkerRecord(0 if status is StageStatus.DOUBTED else record.verified + 1, drift)

    def _show(self, address: str, record: WorkerRecord) -> None:
        """Bring the set of suspects, and its metric, up to a record."""
        if record.suspect:
            self.suspects.add(address)
        else:
            self.suspects.discard(address)
        self._context.metrics.suspects.set(len(self.suspects))


def p_values(
    profile: Profile, measures: Sequence[SequenceMeasure | None]
) -> dict[int, tuple[float, ...]]:
    """How unusual each stage's figures in a unit are, by a profile of honest ones: the distance of
    its proofs in every replayed sequence, and for the last stage its sampling, too.

    The profile's distances are each the largest of several stages, so one stage's p-values err on
    its side.
    """
    found: dict[int, tuple[float, ...]] = {}
    for measure in measures:
        for stage, chunks in enumerate(measure.stages if measure is not None else ()):
            found[stage] = (*found.get(stage, ()), profile.p_value(distance(chunks)))
        if measure is not None and measure.sampling.scores:
            scores, last = measure.sampling.scores, len(measure.stages) - 1
            p = profile.p_value(sum(scores) / len(scores), "score")
            found[last] = (*found.get(last, ()), p)
    return found


def _name(address: str) -> str:
    return f"worker:{address}"
