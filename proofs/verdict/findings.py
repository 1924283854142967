"""What is gathered on the way to a verdict: faults, suspicions, and figures of every stage."""

from __future__ import annotations

from collections.abc import Sequence

from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.measures import SequenceMeasure
from proofs.verdict.blame import Charge
from proofs.verdict.message import StageStatus, StageVerdict, Verdict

MAX_REASON = 1024


class Findings:
    """Findings on one bundle. The first reason against a stage stays."""

    def __init__(self, bundle: UnitBundle, measures: Sequence[SequenceMeasure | None]) -> None:
        self._bundle = bundle
        self._measures = measures
        self.doubt: Charge | None = None
        self.faults: dict[int, str] = {}
        self.off: Sequence[Charge] = ()  # perhaps inherited

    def fault(self, stage: int, reason: str) -> None:
        """`stage` is to blame."""
        self.faults.setdefault(stage, reason)

    def blame(self, charge: Charge) -> None:
        """A charge stands: a fault if it is gross, else a doubt."""
        if charge.gross:
            self.fault(charge.stage, charge.reason)
        elif self.doubt is None:
            self.doubt = charge

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
        """Accepted where there is neither fault nor doubt, else rejected with those who are to
        blame."""
        off = {charge.stage: charge.reason for charge in reversed(self.off)}
        doubt = self.doubt
        stages = []
        for stage, claim in enumerate(self._bundle.stages):
            status, reason = StageStatus.HONEST, ""
            if stage in self.faults:
                status, reason = StageStatus.FAULTY, self.faults[stage]
            elif doubt is not None and not self.faults and stage == doubt.stage:
                status, reason = StageStatus.DOUBTED, doubt.reason
            elif stage in off:
                status, reason = StageStatus.UNCHECKED, off[stage]
            stages.append(
                StageVerdict(
                    stage=stage, peer_id=claim.peer_id, status=status, reason=reason[:MAX_REASON]
                )
            )
        first = min(self.faults, default=None)
        reason = "" if first is None else f"stage {first}: {self.faults[first]}"
        if first is None and doubt is not None:
            reason = f"stage {doubt.stage} is in doubt: {doubt.reason}"
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
    tokens = sum(len(m.sampling.scores) for m in measures)
    figures["sampling.score_mean"] = sum(m.sampling.total() for m in measures) / tokens
    figures["sampling.score_max"] = max(max(m.sampling.scores) for m in measures)
    figures["sampling.match_rate"] = sum(m.sampling.matches for m in measures) / tokens
    figures["tokens"] = float(tokens)
    return figures
