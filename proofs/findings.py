"""What a verdict gathers on its way: faults, suspicions and figures of every stage."""

from __future__ import annotations

from collections.abc import Sequence

from proofs.bundle import UnitBundle
from proofs.measures import SequenceMeasure
from proofs.verdict_messages import StageStatus, StageVerdict, Verdict

MAX_REASON = 1024


class Findings:
    """Findings on one bundle. The first reason against a stage stays."""

    def __init__(self, bundle: UnitBundle, measures: Sequence[SequenceMeasure | None]) -> None:
        self._bundle = bundle
        self._measures = measures
        self._off: dict[tuple[int, int], str] = {}  # measured, may be inherited from upstream
        self.faults: dict[int, str] = {}

    def fault(self, stage: int, reason: str) -> None:
        """`stage` is to blame."""
        self.faults.setdefault(stage, reason)

    def off(self, stage: int, place: int, reason: str) -> None:
        """`stage` is off in sequence number `place`, by its own doing or not."""
        self._off.setdefault((stage, place), reason)

    def clean(self, stage: int, place: int) -> bool:
        """Whether nothing was found against a stage in a sequence so far."""
        return stage not in self.faults and (stage, place) not in self._off

    def first_off(self) -> tuple[int, int, str] | None:
        """The first stage in ring order that is off: stage, sequence and reason."""
        first = min(self._off, default=None)
        return None if first is None else (*first, self._off[first])

    def unattributed(self, reason: str) -> Verdict:
        """Rejected, and nobody is to blame."""
        stages = tuple(
            StageVerdict(
                stage=stage,
                peer_id=claim.peer_id,
                status=StageStatus.UNCHECKED,
                reason=reason[:MAX_REASON],
            )
            for stage, claim in enumerate(self._bundle.stages)
        )
        return self._verdict(stages, None, reason)

    def verdict(self) -> Verdict:
        """Accepted where there are no faults, else rejected with those who are to blame."""
        off = {stage: reason for (stage, _), reason in sorted(self._off.items(), reverse=True)}
        stages = []
        for stage, claim in enumerate(self._bundle.stages):
            status, reason = StageStatus.HONEST, ""
            if stage in self.faults:
                status, reason = StageStatus.FAULTY, self.faults[stage]
            elif stage in off:
                status, reason = StageStatus.UNCHECKED, off[stage]
            stages.append(
                StageVerdict(
                    stage=stage, peer_id=claim.peer_id, status=status, reason=reason[:MAX_REASON]
                )
            )
        first = min(self.faults, default=None)
        reason = "" if first is None else f"stage {first}: {self.faults[first]}"
        return self._verdict(tuple(stages), first, reason)

    def _verdict(self, stages: tuple[StageVerdict, ...], first: int | None, reason: str) -> Verdict:
        return Verdict(
            unit_id=self._bundle.unit_id,
            bundle_id=self._bundle.content_id,
            accepted=reason == "",
            stages=stages,
            first_faulty=first,
            reason=reason[:MAX_REASON],
            replayed=tuple(n for n, m in enumerate(self._measures) if m is not None),
            figures=_figures(len(stages), [m for m in self._measures if m is not None]),
        )


def _figures(stages: int, measures: Sequence[SequenceMeasure]) -> dict[str, float]:
    """The worst chunk of every stage, and sampling over what was replayed."""
    if not measures:
        return {}
    figures: dict[str, float] = {}
    for stage in range(stages):
        chunks = [chunk for measure in measures for chunk in measure.stages[stage]]
        sound = [chunk for chunk in chunks if not chunk.malformed]
        figures[f"stage{stage}.malformed"] = float(len(chunks) - len(sound))
        for name in ("exp_mismatches", "mant_err_mean", "mant_err_median"):
            worst = max((float(getattr(chunk, name)) for chunk in sound), default=-1.0)
            figures[f"stage{stage}.{name}"] = worst
    scores = [score for measure in measures for score in measure.sampling.scores]
    figures["sampling.score_mean"] = sum(scores) / len(scores)
    figures["sampling.match_rate"] = sum(m.sampling.matches for m in measures) / len(scores)
    figures["tokens"] = float(len(scores))
    return figures
