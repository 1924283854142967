"""Judging one bundle: a replay on this node's engine, the verdict, and inquiries if it needs any.

The engine does one thing at a time. An inquiry may take minutes of somebody else's silence, so the
caller is told when one begins and goes on with other bundles meanwhile.

Whatever fails here (the engine, the disk, a missing model) is no stage's fault: the bundle is set
aside without a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import trio

from node.config.hardware import Device
from node.context import NodeContext
from node.roles.validator.judging.inquiries import Ruling, most_bytes, resolve_inquiries
from node.roles.validator.judging.limits import NamedThresholds, PoolLimits
from node.roles.validator.judging.noise_check import refusal
from node.roles.validator.judging.plan import JudgingPlan
from node.roles.validator.judging.replay import replay_request, rows_request, shown_by
from node.roles.validator.judging.reputation import p_values
from node.roles.validator.judging.rows import CannotJudge, RowsFetcher, is_content
from pipeline.engine.control.client import EngineClient
from pipeline.engine.control.operations import REPLAY
from pipeline.engine.control.replay_messages import Replay, Replayed
from pipeline.engine.errors import EngineError
from pipeline.models.errors import ModelError
from pipeline.models.prepared import PreparedModel
from pipeline.models.store import open_model
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.measures import RevealedRowsCheck, SequenceMeasure
from proofs.verdict.blame import Inquiry, Revealed, inquiry_of
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import MAX_WALKS, judge
from proofs.verdict.message import Verdict

REPLAY_SECONDS = 600.0
REPLAY_TRIES = 4
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 30.0


class Judge:
    """Comes to verdicts. `replay_seconds` is what replays took so far."""

    def __init__(
        self, context: NodeContext, engine: EngineClient, device: Device, limits: PoolLimits
    ) -> None:
        self._context = context
        self._engine = engine
        self._device = device.torch_name
        self._limits = limits
        self._domain = context.receipt_domain
        self._rows = RowsFetcher(context)
        self._busy = trio.Lock()
        self.replay_seconds = 0.0

    async def rule(
        self, bundle: UnitBundle, plan: JudgingPlan, on_inquiry: Callable[[], None]
    ) -> Ruling:
        """The verdict on a bundle, of which is replayed what `plan` chose. `on_inquiry` is called
        when others may go first. Raises `CannotJudge`."""
        if plan.noise.unknown:
            raise CannotJudge(f"its noise cannot be looked up: {plan.noise.unknown}")
        if plan.noise.fault is not None:
            return Ruling(refusal(bundle, plan.noise))
        model = await self._model(bundle)
        named = await self._limits.of(bundle)
        limits = named.limits(bundle.model_id, model.manifest.dtype)
        before = self.replay_seconds
        measures: list[SequenceMeasure | None] = [None] * len(bundle.sequences)
        if plan.chosen:
            request = replay_request(bundle, str(model.path), self._device, plan.chosen)
            found = list((await self._replay(request)).measures)
            if len(found) != len(plan.chosen):
                raise CannotJudge("the engine measured other sequences than it was asked for")
            for number, measure in zip(plan.chosen, found, strict=True):
                measures[number] = measure

        seen: set[Inquiry] = set()

        async def reveal(inquiry: Inquiry) -> RevealedRowsCheck | None:
            on_inquiry()
            shown = await self._reveal(bundle, model, inquiry, seen)
            if shown is not None:
                seen.add(inquiry)
            return shown

        def opinion(revealed: Revealed) -> Verdict | Inquiry:
            return self._opinion(bundle, measures, limits, revealed)

        rounds = len(bundle.stages) * min(len(bundle.sequences), MAX_WALKS)
        ruling = await resolve_inquiries(opinion, reveal, rounds)
        ruling = replace(ruling, limits=named.name, p_values=_p_values(named, measures))
        self._context.log.info(
            "unit judged",
            unit=bundle.unit_id.hex()[:12],
            accepted=ruling.verdict.accepted,
            reason=ruling.verdict.reason,
            inquiries=len(ruling.answers),
            replayed=f"{len(plan.chosen)}/{len(bundle.sequences)}",
            seconds=round(self.replay_seconds - before, 2),
        )
        return ruling

    async def _model(self, bundle: UnitBundle) -> PreparedModel:
        store = self._context.config.model_store
        try:
            model = await trio.to_thread.run_sync(open_model, store, bundle.model_id.hex())
        except ModelError as exc:
            raise CannotJudge(f"model not in the store: {exc}") from exc
        if bundle.boundaries[-1] != model.manifest.layers:
            raise CannotJudge("the bundle's stages are not the whole model")
        return model

    def _opinion(
        self,
        bundle: UnitBundle,
        measures: list[SequenceMeasure | None],
        limits: RejectConvictLimits,
        revealed: Revealed,
    ) -> Verdict | Inquiry:
        try:
            return judge(bundle, measures, limits, self._domain, revealed)
        except ProofError as exc:
            raise CannotJudge(f"the replay does not fit the bundle: {exc}") from exc

    async def _reveal(
        self,
        bundle: UnitBundle,
        model: PreparedModel,
        inquiry: Inquiry,
        seen: set[Inquiry],
    ) -> RevealedRowsCheck | None:
        peer_id = bundle.stages[inquiry.stage].peer_id
        log = self._context.log.bind(unit=bundle.unit_id.hex()[:12], stage=inquiry.stage)
        limit = most_bytes(bundle, inquiry.index, model.manifest.hidden_size)
        path = await self._rows.get(peer_id, inquiry.digest, limit)
        if path is None:
            log.warning("a stage does not reveal its rows", peer=peer_id)
            return None
        sent = await self._sent(bundle, inquiry, seen)
        request = rows_request(bundle, str(model.path), self._device, inquiry, path, sent)
        shown = shown_by(await self._replay(request))
        if shown is None:
            raise CannotJudge("the engine did not measure the revealed rows")
        if shown.error < 0 and not await trio.to_thread.run_sync(is_content, path, inquiry.digest):
            raise CannotJudge("revealed rows were lost before they were measured")
        log.info("rows revealed", peer=peer_id, error=shown.error)
        return shown

    async def _sent(self, bundle: UnitBundle, inquiry: Inquiry, seen: set[Inquiry]) -> Path | None:
        """The rows that the stage sent on, where its successor has shown them."""
        after = inquiry_of(bundle, inquiry.stage + 1, inquiry.index)
        if after not in seen:
            return None
        path = self._rows.path(after.digest)
        if not await trio.to_thread.run_sync(is_content, path, after.digest):
            raise CannotJudge("revealed rows were lost before they were measured")
        return path

    async def _replay(self, request: Replay) -> Replayed:
        delay = FIRST_RETRY_SECONDS
        for attempt in range(REPLAY_TRIES):
            if attempt:
                await trio.sleep(delay)
                delay = min(delay * 2, LAST_RETRY_SECONDS)
            try:
                async with self._busy:
                    found = await self._engine.request(REPLAY, request, timeout=REPLAY_SECONDS)
                self.replay_seconds += found.seconds
                return found
            except EngineError as exc:
                if exc.code == "bad_request":
                    raise CannotJudge(f"the engine refuses the bundle: {exc.message}") from exc
                self._context.log.warning("replay failed, trying again", reason=exc.message)
        raise CannotJudge("the engine fails on this bundle")


def _p_values(
    named: NamedThresholds, measures: list[SequenceMeasure | None]
) -> dict[int, tuple[float, ...]]:
    """How unusual each stage's figures are; nothing without a profile of honest ones."""
    return {} if named.profile is None else p_values(named.profile, measures)
