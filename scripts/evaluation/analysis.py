"""From records to figures: calibrate on even prompts, judge odd ones.

The unit of decision is a sequence. It is rejected when any test of
`proofs.thresholds.calibration.faults` fails, or when it ends with an end-of-sequence token whose
score is over `eos_score`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.collect import is_test
from evaluation.records import Block, Record
from proofs.thresholds.calibration import Calibration, calibrate, faults, scaled
from proofs.thresholds.fitting import HonestSequence, rate_bound
from proofs.thresholds.limits import Thresholds

HONEST = ("honest", "honest-plain", "honest-batch-8")
TARGETS = (1e-2, 1e-3, 1e-4)
FPR = 1e-3
TESTS = ("form", "chunk", "sequence", "sampling", "surprise", "eos")
LARGEST_SEVERITY = 1e4


@dataclass(frozen=True)
class Rate:
    """`count` of `total`, and its two one-sided 95 % Clopper-Pearson bounds."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share itself; NaN of nothing."""
        return self.count / self.total if self.total else math.nan

    @property
    def upper(self) -> float:
        """Upper confidence bound (`proofs.thresholds.fitting.rate_bound`)."""
        return rate_bound(self.count, self.total)

    @property
    def lower(self) -> float:
        """Lower confidence bound."""
        return 1.0 - rate_bound(self.total - self.count, self.total)


@dataclass(frozen=True)
class Result:
    """One condition. `caught[test]` counts rejected sequences that the test would reject alone;
    `severities` are the factors by which limits must grow for each sequence to pass."""

    condition: str
    rejected: Rate
    at: dict[float, Rate]
    chunks: Rate
    caught: dict[str, int]
    severities: tuple[float, ...]


@dataclass(frozen=True)
class Costs:
    """Of honest blocks: seconds of one thread and bytes, by token of output."""

    generate_seconds: float
    verify_seconds: float
    tokens: int
    proof_bytes: float
    stages: int

    @property
    def ratio(self) -> float:
        """Seconds of verifying over seconds of generating."""
        return self.verify_seconds / self.generate_seconds


@dataclass(frozen=True)
class Evaluation:
    """Limits, on how many sequences they were set, and what they make of all the others."""

    calibration: Calibration
    calibrated_on: int
    results: tuple[Result, ...]
    costs: Costs
    honest: tuple[HonestSequence, ...]

    def result(self, condition: str) -> Result:
        """The result of one condition; there is one of each."""
        return next(one for one in self.results if one.condition == condition)


def evaluate(blocks: Sequence[Block]) -> Evaluation:
    """Raises `CalibrationError` without honest records."""
    by_condition: dict[str, list[Record]] = defaultdict(list)
    for block in blocks:
        for record in block.records:
            if _is_attack(record) or record.condition in HONEST:
                by_condition[record.condition].append(record)
    honest = [
        HonestSequence(record.measure, max(record.errors))
        for name in HONEST
        for record in by_condition[name]
        if not is_test(record.prompt)
    ]
    stages = len(honest[0].measure.stages) if honest else 1
    levels = {target: calibrate(honest, target, even_depths(stages)) for target in TARGETS}
    results = []
    for condition, records in by_condition.items():
        tested = [record for record in records if is_test(record.prompt)]
        if tested:
            results.append(_judge(condition, tested, levels))
    return Evaluation(
        calibration=levels[FPR],
        calibrated_on=len(honest),
        results=tuple(results),
        costs=_costs(blocks),
        honest=tuple(honest),
    )


def even_depths(stages: int) -> list[float]:
    """Where stages of equal numbers of layers end, as shares of the model's layers."""
    return [(stage + 1) / stages for stage in range(stages)]


def verdict(record: Record, thresholds: Thresholds) -> tuple[str, ...]:
    """The tests that reject a record, () if none."""
    stages = len(record.measure.stages)
    found = list(faults(record.measure, thresholds, depths=even_depths(stages)))
    if any(chunk.malformed for stage in record.measure.stages for chunk in stage):
        found[0] = "form"
    if record.eos and not record.measure.sampling.scores[-1] <= thresholds.eos_score:
        found.append("eos")
    return tuple(found)


def severity(record: Record, thresholds: Thresholds) -> float:
    """The factor on all limits at which a record just passes; `LARGEST_SEVERITY` if none does."""
    low, high = 1e-3, LARGEST_SEVERITY
    if verdict(record, scaled(thresholds, high)):
        return high
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        if verdict(record, scaled(thresholds, middle)):
            low = middle
        else:
            high = middle
    return high


def roc(honest: Sequence[float], attack: Sequence[float]) -> list[tuple[float, float]]:
    """(FPR, TPR) as the factor falls, from severities."""
    points = []
    for limit in sorted({*honest, *attack}, reverse=True):
        false = sum(value >= limit for value in honest) / len(honest)
        true = sum(value >= limit for value in attack) / len(attack)
        points.append((false, true))
    return points


def sequences_needed(rate: float, wanted: float = 0.99) -> int | None:
    """How many sequences of one worker make at least one rejection as likely as `wanted`."""
    if rate <= 0.0:
        return None
    return 1 if rate >= wanted else math.ceil(math.log(1.0 - wanted) / math.log(1.0 - rate))


def _judge(condition: str, records: Sequence[Record], levels: dict[float, Calibration]) -> Result:
    at = {
        target: Rate(sum(bool(verdict(r, found.thresholds)) for r in records), len(records))
        for target, found in levels.items()
    }
    thresholds = levels[FPR].thresholds
    caught = Counter(test for record in records for test in verdict(record, thresholds))
    chunks = [c for record in records for stage in record.measure.stages for c in stage]
    failed = sum(not thresholds.passes(chunk) for chunk in chunks)
    return Result(
        condition=condition,
        rejected=at[FPR],
        at=at,
        chunks=Rate(failed, len(chunks)),
        caught=dict(caught),
        severities=tuple(severity(record, thresholds) for record in records),
    )


def _is_attack(record: Record) -> bool:
    """Not what came out honest by chance: an end-of-sequence token that was to be drawn anyway."""
    return record.condition != "early-eos" or record.measure.sampling.scores[-1] > 0.0


def _costs(blocks: Sequence[Block]) -> Costs:
    honest = [block for block in blocks if block.records[0].condition == "honest"]
    records = [r for block in honest for r in block.records if r.condition == "honest"]
    tokens = sum(block.tokens for block in honest)
    return Costs(
        generate_seconds=sum(block.generate_seconds for block in honest),
        verify_seconds=sum(block.verify_seconds for block in honest),
        tokens=tokens,
        proof_bytes=sum(record.proof_bytes for record in records) / tokens,
        stages=len(records[0].measure.stages),
    )
