"""Judging one bundle: a replay on this node's engine, the verdict, and inquiries if it needs any.

The engine does one thing at a time. An accused stage may keep silent for minutes, so the caller is
told when an inquiry begins and goes on with other bundles meanwhile.

If anything fails here (the engine, the disk, a missing model), no stage is to blame: the bundle
gets no verdict and is set aside. That includes this node's own weights. Where a replay speaks
against somebody, the model's files are hashed and loaded anew and all is measured again, unless
that was done within the last hour: only what such weights say is held against anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from node.roles.validator.judging.engine import ReplayEngine
from node.roles.validator.judging.errors import CannotJudge, DamagedWeights
from node.roles.validator.judging.inquiries import Ruling, most_bytes, resolve_inquiries
from node.roles.validator.judging.limits import LimitsByPool, NamedThresholds
from node.roles.validator.judging.models import Models
from node.roles.validator.judging.noise_check import refusal
from node.roles.validator.judging.plan import JudgingPlan
from node.roles.validator.judging.replay import replay_request, rows_request, shown_by
from node.roles.validator.judging.reputation import p_values, unit_figures
from node.roles.validator.judging.rows import RowsSource, is_content
from node.roles.validator.judging.texts import Texts, has_stops
from pipeline.models.errors import ModelError
from pipeline.models.prepared import PreparedModel
from proofs.encoding.eip712 import Domain
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.measures import RevealedRowsCheck, SequenceMeasure
from proofs.verdict.blame import Inquiry, Revealed, inquiry_of
from proofs.verdict.exact import ExactClass
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import MAX_WALKS, StopReadings, judge, judge_words
from proofs.verdict.message import Verdict


@dataclass(frozen=True)
class _Case:
    """A bundle of `sender`, the model to judge it by, and what was read in its texts."""

    bundle: UnitBundle
    model: PreparedModel
    stops: StopReadings | None
    sender: str


@dataclass(frozen=True)
class _Measured:
    """What a replay gave in `seconds`; `exact` is its kernel class where equality decides in it."""

    measures: list[SequenceMeasure | None]
    seconds: float
    exact: ExactClass | None


class Judge:
    """Reaches verdicts about receipts of one EIP-712 `domain`."""

    def __init__(
        self,
        engine: ReplayEngine,
        models: Models,
        limits: LimitsByPool,
        rows: RowsSource,
        domain: Domain,
        log: Any,
    ) -> None:
        self._engine = engine
        self._models = models
        self._limits = limits
        self._rows = rows
        self._domain = domain
        self._log = log
        self._texts = Texts()

    async def rule(
        self,
        bundle: UnitBundle,
        plan: JudgingPlan,
        on_inquiry: Callable[[], None],
        sender: str = "",
    ) -> Ruling:
        """The verdict on a bundle of `sender`. All that its words alone decide comes first, then a
        replay of the sequences that `plan` chose. `on_inquiry` is called when others may go first.
        Raises `CannotJudge`."""
        if plan.noise.unknown:
            raise CannotJudge(f"its noise cannot be checked: {plan.noise.unknown}")
        if plan.noise.fault is not None:
            return Ruling(await trio.to_thread.run_sync(refusal, bundle, plan.noise))
        stops: StopReadings | None = None
        if has_stops(bundle):
            model = await self._model(bundle)
            stops = await trio.to_thread.run_sync(self._texts.read, bundle, model)
        words = await trio.to_thread.run_sync(judge_words, bundle, self._domain, stops)
        if words is not None:
            return Ruling(words)
        model = await self._model(bundle)
        case = _Case(bundle, model, stops, sender)
        named = await self._limits.of(bundle)
        limits = named.limits(bundle.model_id, model.manifest.dtype)
        try:
            measured = await self._measure(case, plan, named, on_inquiry)
            ruling = await self._rule_by(case, limits, measured, on_inquiry)
            if plan.chosen and self._is_doubtful(bundle, ruling):
                self._log.info("weights verified again", unit=bundle.unit_id.hex()[:12])
                measured = await self._measure(case, plan, named, on_inquiry, verify_again=True)
                ruling = await self._rule_by(case, limits, measured, on_inquiry)
        except DamagedWeights as exc:
            self._models.note_damage(bundle.model_id, str(exc))
            raise
        ruling = replace(
            ruling,
            limits=named.name,
            p_values=_p_values(named, measured.measures),
            figures=None if named.means is None else unit_figures(named.means, measured.measures),
        )
        self._log.info(
            "unit judged",
            unit=bundle.unit_id.hex()[:12],
            accepted=ruling.verdict.accepted,
            reason=ruling.verdict.reason,
            inquiries=len(ruling.answers),
            replayed=f"{len(plan.chosen)}/{len(bundle.sequences)}",
            seconds=round(measured.seconds, 2),
        )
        return ruling

    def _is_doubtful(self, bundle: UnitBundle, ruling: Ruling) -> bool:
        """Whether a replay spoke against somebody by weights that may have rotted in memory."""
        return not ruling.verdict.accepted and not self._engine.is_believed(bundle.model_id)

    async def _rule_by(
        self,
        case: _Case,
        limits: RejectConvictLimits,
        measured: _Measured,
        on_inquiry: Callable[[], None],
    ) -> Ruling:
        """What follows from measures, and from rows where these are needed."""
        seen: set[Inquiry] = set()

        async def reveal(inquiry: Inquiry) -> RevealedRowsCheck | None:
            on_inquiry()
            shown = await self._reveal(case, inquiry, seen)
            if shown is not None:
                seen.add(inquiry)
            return shown

        async def opinion(revealed: Revealed) -> Verdict | Inquiry:
            return await trio.to_thread.run_sync(
                self._opinion, case, measured, limits, dict(revealed)
            )

        bundle = case.bundle
        rounds = len(bundle.stages) * min(len(bundle.sequences), MAX_WALKS)
        return await resolve_inquiries(opinion, reveal, rounds)

    async def _model(self, bundle: UnitBundle) -> PreparedModel:
        try:
            model = await trio.to_thread.run_sync(self._models.find, bundle.model_id)
        except ModelError as exc:
            raise CannotJudge(f"model not in the store: {exc}") from exc
        if bundle.boundaries[-1] != model.manifest.layers:
            raise CannotJudge("the bundle's stages are not the whole model")
        return model

    async def _measure(
        self,
        case: _Case,
        plan: JudgingPlan,
        named: NamedThresholds,
        on_failure: Callable[[], None],
        verify_again: bool = False,
    ) -> _Measured:
        """One measure per sequence, None for those that were not chosen. Raises `CannotJudge`, also
        where this machine's arithmetic is not what the pool demands."""
        bundle, model = case.bundle, case.model
        measures: list[SequenceMeasure | None] = [None] * len(bundle.sequences)
        demanded = named.kernel_class
        if not plan.chosen:
            return _Measured(measures, 0.0, ExactClass(demanded, True) if demanded else None)
        request = replay_request(bundle, str(model.path), self._engine.device, plan.chosen)
        request = request.model_copy(update={"verify_again": verify_again})
        replayed = await self._engine.replay(request, case.sender, on_failure)
        exact = ExactClass(replayed.kernel_class, bool(demanded)) if replayed.exact else None
        if demanded and (exact is None or exact.name != demanded):
            here = replayed.kernel_class or "no kernel class"
            raise CannotJudge(f"this machine computes in {here}, the pool demands {demanded}")
        found = replayed.measures
        if len(found) != len(plan.chosen):
            raise CannotJudge("the engine measured other sequences than it was asked for")
        for index, measure in zip(plan.chosen, found, strict=True):
            measures[index] = measure
        return _Measured(measures, replayed.seconds, exact)

    def _opinion(
        self,
        case: _Case,
        measured: _Measured,
        limits: RejectConvictLimits,
        revealed: Revealed,
    ) -> Verdict | Inquiry:
        try:
            return judge(
                case.bundle,
                measured.measures,
                limits,
                self._domain,
                revealed,
                case.stops,
                measured.exact,
            )
        except ProofError as exc:
            raise CannotJudge(f"the replay does not fit the bundle: {exc}") from exc

    async def _reveal(
        self,
        case: _Case,
        inquiry: Inquiry,
        seen: set[Inquiry],
    ) -> RevealedRowsCheck | None:
        """What came of the rows that the inquiry asks for; None where nobody showed them."""
        bundle, model = case.bundle, case.model
        peer_id = bundle.stages[inquiry.stage].peer_id
        log = self._log.bind(unit=bundle.unit_id.hex()[:12], stage=inquiry.stage)
        limit = most_bytes(bundle, inquiry.index, model.manifest.hidden_size)
        path = await self._rows.get(peer_id, inquiry.digest, limit)
        if path is None:
            log.warning("a stage does not reveal its rows", peer=peer_id)
            return None
        sent = await self._sent(bundle, inquiry, seen)
        request = rows_request(bundle, str(model.path), self._engine.device, inquiry, path, sent)
        shown = shown_by(await self._engine.replay(request, case.sender))
        if shown is None:
            raise CannotJudge("the engine did not measure the revealed rows")
        if shown.error < 0 and not await trio.to_thread.run_sync(is_content, path, inquiry.digest):
            raise CannotJudge("revealed rows were lost before they were measured")
        log.info("rows revealed", peer=peer_id, error=shown.error)
        return shown

    async def _sent(self, bundle: UnitBundle, inquiry: Inquiry, seen: set[Inquiry]) -> Path | None:
        """The rows that the stage sent on, if its successor has shown them."""
        after = inquiry_of(bundle, inquiry.stage + 1, inquiry.index)
        if after not in seen:
            return None
        path = self._rows.path(after.digest)
        if not await trio.to_thread.run_sync(is_content, path, after.digest):
            raise CannotJudge("revealed rows were lost before they were measured")
        return path


def _p_values(
    named: NamedThresholds, measures: list[SequenceMeasure | None]
) -> dict[int, tuple[float, ...]]:
    """How unusual each stage's figures are; nothing without a profile of honest ones."""
    return {} if named.profile is None else p_values(named.profile, measures)
