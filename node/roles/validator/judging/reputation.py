"""What this validator knows of each worker from its own checks.

Every unit that was replayed, in part or as a whole, adds to the records of its stages: one more
unit without a fault, how unusual its figures were (`proofs.thresholds.drift`), and the figures of
each sequence, which are pooled over all of them (`proofs.thresholds.pooled`). Two things follow,
and both only make checks stricter. A worker with few checked units is a newcomer, one whose figures
drift is a suspect, and all sequences of either are replayed. Nobody is rejected, banned or slashed
because of a record.

A bundle counts once, however often it comes. Its event and the records that it changes go to disk
together. Addresses cost nothing, so the records of those whose work was checked last are kept, and
of no more than a number; whoever drops out is a newcomer again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from node.journal import AsyncJournal, Forget, JournalEvent, OnlyNewest
from node.metrics import NodeMetrics
from node.roles.validator.journal_events import BundleCounted, WorkerChecked, WorkerDrifted
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.drift import DriftState, DriftTest, observe
from proofs.thresholds.measures import SequenceMeasure
from proofs.thresholds.pooled import HonestMeans, PooledState, PooledTest, SequenceFigures
from proofs.thresholds.pooled import observe as pool
from proofs.thresholds.profiles import Profile, distance
from proofs.thresholds.spotcheck import DEFAULT_TERMS, CheckTerms
from proofs.verdict.message import StageStatus, Verdict

SUSPECT_UNITS = 64
"""How many checked units after an alarm are replayed whole."""
RECORDS_KEPT = 16_384
"""Workers whose records are kept."""
ALARMS_KEPT = 4096
"""Alarms that are kept; and there are no more suspects in memory."""


@dataclass(frozen=True)
class WorkerRecord:
    """`verified` is the number of checked units since the last one with a fault."""

    verified: int = 0
    drift: DriftState = field(default_factory=DriftState)
    pooled: PooledState = field(default_factory=PooledState)

    def is_newcomer(self, terms: CheckTerms = DEFAULT_TERMS) -> bool:
        """Whether the worker is still on probation."""
        return self.verified < terms.probation

    @property
    def suspect(self) -> bool:
        """Whether its figures began to drift not long ago."""
        tests = (self.drift, self.pooled)
        return any(t.alarms and t.units - t.alarmed_at < SUSPECT_UNITS for t in tests)

    @property
    def alarms(self) -> int:
        """How many alarms there were."""
        return self.drift.alarms + self.pooled.alarms

    def to_plain(self) -> dict[str, Any]:
        """The record as the journal keeps it."""
        return {
            "verified": self.verified,
            "drift": self.drift.to_plain(),
            "pooled": self.pooled.to_plain(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> WorkerRecord:
        """The reverse of `to_plain`."""
        return cls(
            int(plain["verified"]),
            DriftState.from_plain(plain["drift"]),
            PooledState.from_plain(plain["pooled"]),
        )


@dataclass(frozen=True)
class UnitFigures:
    """By stage, what the checked sequences of a unit say; and what honest ones say on average."""

    sequences: Mapping[int, tuple[SequenceFigures, ...]]
    means: HonestMeans


class WorkerRecords:
    """Records by address, in the journal: those of the last `most` workers."""

    def __init__(
        self,
        journal: AsyncJournal,
        metrics: NodeMetrics,
        log: Any,
        test: DriftTest | None = None,
        pooled: PooledTest | None = None,
        most: int = RECORDS_KEPT,
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._log = log
        self._test = test or DriftTest()
        self._pooled = pooled or PooledTest()
        self._most = most
        self._writing = trio.Lock()
        self._suspects: dict[str, None] = {}

    @property
    def suspects(self) -> Set[str]:
        """Addresses of suspects, as far as this run has seen or restored them."""
        return self._suspects.keys()

    async def restore(self) -> None:
        """Learn from the journal who is a suspect."""
        for event in reversed(await self._journal.newest(WorkerDrifted, ALARMS_KEPT)):
            self._show(event.worker, await self.of(event.worker))

    async def of(self, address: str) -> WorkerRecord:
        """The record of a worker; that of a stranger is empty."""
        kept = await self._journal.find(WorkerChecked, address)
        return WorkerRecord() if kept is None else WorkerRecord.from_plain(kept.record)

    async def note(
        self,
        bundle: UnitBundle,
        verdict: Verdict,
        p_values: Mapping[int, Sequence[float]],
        figures: UnitFigures | None = None,
    ) -> None:
        """Add a judged bundle to the records of its stages. `p_values` says for each stage how
        unusual its figures are among honest ones, `figures` what they are, for all of a worker's
        units together; a stage without any counts all the same.

        A stage that the verdict left unchecked adds nothing to its record, and neither does a
        bundle of which nothing was replayed.
        """
        counted = BundleCounted(bundle_id=verdict.bundle_id)
        async with self._writing:
            known = await self._journal.find(BundleCounted, counted.key)
            if not verdict.replayed or known is not None:
                return
            before: dict[str, WorkerRecord] = {}
            after: dict[str, WorkerRecord] = {}
            for stage, claim in enumerate(bundle.stages):
                if claim.address not in after:
                    before[claim.address] = await self.of(claim.address)
                old = after.get(claim.address, before[claim.address])
                status = verdict.stages[stage].status
                judged = self._judged(old, status, p_values.get(stage, ()))
                if figures is not None and status is not StageStatus.UNCHECKED:
                    found = figures.sequences.get(stage, ())
                    state, _ = pool(judged.pooled, found, figures.means, self._pooled)
                    judged = replace(judged, pooled=state)
                after[claim.address] = judged
            drifted = [a for a in after if after[a].alarms > before[a].alarms]
            alarms = [WorkerDrifted(worker=a, bundle_id=verdict.bundle_id) for a in drifted]
            changes: list[JournalEvent | Forget | OnlyNewest] = [counted, *alarms]
            for address, record in after.items():
                checked = WorkerChecked(worker=address, record=record.to_plain())
                changes += [Forget(WorkerChecked, checked.key), checked]
            changes.append(OnlyNewest(WorkerChecked, self._most))
            if alarms:
                changes.append(OnlyNewest(WorkerDrifted, ALARMS_KEPT))
            await self._journal.record(*changes)
        for address, record in after.items():
            self._show(address, record)
            if address in drifted:
                self._log.warning(
                    "a worker's figures drift: all of its sequences are replayed for a while",
                    worker=address,
                    units=record.drift.units,
                    alarms=record.alarms,
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
            self._log.error("figures that cannot be compared", reason=str(exc))
            drift, _ = observe(record.drift, (), self._test)
        # A worker in doubt starts again as a newcomer: all of its work is replayed for a while.
        verified = 0 if status is StageStatus.DOUBTED else record.verified + 1
        return replace(record, verified=verified, drift=drift)

    def _show(self, address: str, record: WorkerRecord) -> None:
        """Bring the set of suspects, and its metric, up to a record."""
        self._suspects.pop(address, None)
        if record.suspect:
            self._suspects[address] = None
        while len(self._suspects) > ALARMS_KEPT:
            del self._suspects[next(iter(self._suspects))]
        self._metrics.suspects.set(len(self._suspects))


def p_values(
    profile: Profile, measures: Sequence[SequenceMeasure | None]
) -> dict[int, tuple[float, ...]]:
    """By stage, how unusual its figures in a unit are when measured against a profile of honest
    ones: the distance of its proofs in every replayed sequence and, for the last stage, its
    sampling.

    Each distance in the profile is the largest of several stages, so the p-values of a single stage
    err in its favour.
    """
    found: dict[int, tuple[float, ...]] = {}
    for measure in measures:
        for stage, chunks in enumerate(measure.stages if measure is not None else ()):
            found[stage] = (*found.get(stage, ()), profile.p_value(distance(chunks)))
        if measure is not None and measure.sampling.scores:
            sampling, last = measure.sampling, len(measure.stages) - 1
            p = profile.p_value(sampling.total() / len(sampling.scores), "score")
            found[last] = (*found.get(last, ()), p)
    return found


def unit_figures(means: HonestMeans, measures: Sequence[SequenceMeasure | None]) -> UnitFigures:
    """What the replayed sequences of a unit say of each stage."""
    found: dict[int, tuple[SequenceFigures, ...]] = {}
    for measure in measures:
        last = 0 if measure is None else len(measure.stages) - 1
        for stage, chunks in enumerate(measure.stages if measure is not None else ()):
            figures = SequenceFigures(distance(chunks))
            if measure is not None and stage == last and measure.sampling.tokens:
                sampling = measure.sampling
                figures = SequenceFigures(
                    figures.distance,
                    mismatches=1.0 - sampling.matches / sampling.tokens,
                    score=sampling.total() / sampling.tokens,
                    ends=sampling.ends or None,
                )
            found[stage] = (*found.get(stage, ()), figures)
    return UnitFigures(found, means)
