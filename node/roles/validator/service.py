"""The validator role: take bundles, judge them, deliver verdicts, settle what was right.

`intake` takes a bundle only from a sender that may send it, and writes it to disk and journals it
before its sender is told that it was taken; from then on its verdict is owed, whatever happens to
this process. A unit is accepted at most once: a second bundle for it is refused, so nothing is paid
twice.

`bundle_state.BundleQueue` decides which bundle is prepared or judged next. This file carries out
what the queue says and reports back what came of it: `judging.plan` prepares, `verdicts` judges. A
bundle on which the engine keeps failing is set aside: its file is removed and nothing is owed any
more. Its sender may offer it again, a few times; every try is counted, also those that ended this
process. A verdict that nobody takes is kept with its bundle for a while (`keeping`), and delivered
when its sender offers the bundle again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any

import trio

from node.context import NodeContext
from node.journal import Forget
from node.retry import Backoff, tries
from node.roles.validator.bundle_state import (
    BundleQueue,
    BundleState,
    Event,
    Judge,
    Moved,
    Prepare,
    QueuedBundle,
    QueueLimits,
    Taken,
)
from node.roles.validator.intake.authority import Authority
from node.roles.validator.intake.handling import Intake
from node.roles.validator.intake.offers import Offer, OfferLimits
from node.roles.validator.journal_events import BundleTaken
from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.plan import JudgingPlan, Preparer
from node.roles.validator.judging.reputation import WorkerRecords
from node.roles.validator.keeping.retention import KeepLimits
from node.roles.validator.keeping.store import BundleStore
from node.roles.validator.verdicts import Prosecution, Settlement, Verdicts
from node.wire.blobs import BlobStore
from node.wire.messages.verification import VerdictNotice
from node.wire.methods import VERDICT
from node.wire.rpc import call
from p2p.errors import P2PError, Refused
from pipeline.engine.control.client import EngineClient
from proofs.verdict.message import SignedVerdict

DELIVERY_TRIES = Backoff(first=0.5, last=30.0, most=20)
MAX_REDELIVERIES = 64
"""Verdicts that are delivered once more at the same time."""
PAGE = 256


class Validator:
    """Judges bundles with its own engine. Made by `assembly.open_validator`."""

    def __init__(
        self,
        context: NodeContext,
        engine: EngineClient,
        *,
        authority: Authority,
        find_model: Callable[[bytes], Any],
        preparer: Preparer,
        records: WorkerRecords,
        verdicts: Verdicts,
        settlement: Settlement,
        prosecution: Prosecution,
        blobs: BlobStore,
        limits: QueueLimits,
        offers: OfferLimits | None = None,
        keep: KeepLimits | None = None,
        delivery: Backoff = DELIVERY_TRIES,
    ) -> None:
        self._context = context
        self._engine = engine
        self._preparer = preparer
        self._records = records
        self._verdicts = verdicts
        self._prosecution = prosecution
        self._blobs = blobs
        self._keep = keep or KeepLimits()
        self.bundles = BundleStore(
            context.blobs, context.journal, self._keep, self._owed, context.wall
        )
        self._queue = BundleQueue(limits)
        self._backlog: deque[Taken] = deque()
        self._intake = Intake(context, authority, self.bundles, find_model, self, limits, offers)
        self._plans: dict[bytes, JudgingPlan] = {}
        self._redelivering: set[bytes] = set()
        self._delivery = delivery
        self._nursery: trio.Nursery | None = None
        self._changed = trio.Event()
        self.settlement = settlement

    @property
    def judged(self) -> int:
        """How many new verdicts this run has reached."""
        return self._verdicts.judged

    @property
    def queued(self) -> int:
        """How many bundles are on their way."""
        return len(self._queue) + len(self._backlog)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the journal is replayed and handlers are in place."""
        await self.settlement.restore()
        await self._records.restore()
        await self._restore()
        await self.bundles.open()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            keep = self._context.supervisor.keep
            keep(nursery, "validator: engine events", self._drop_engine_events)
            await nursery.start(self.settlement.run)
            keep(nursery, "validator: convictions", self._prosecution.run)
            keep(nursery, "validator: sweeping", self._sweep)
            self._resume()
            self._intake.serve()
            self._blobs.serve()  # without a chain nobody else does
            task_status.started()

    async def drain(self) -> None:
        """Judge and deliver what was taken, then settle it."""
        while self._queue or self._backlog:
            await self._changed.wait()
        await self.settlement.settled()

    async def _restore(self) -> None:
        """What verdicts are owed for. The journal holds no more than an earlier run took on, and
        the bundles themselves stay on disk until their turn."""
        last = 0
        while page := await self._context.journal.page(BundleTaken, last, PAGE):
            last = page[-1][0]
            for _, event in page:
                taken = Taken(event.bundle_id, event.sender, event.block, event.size, event.tokens)
                self._backlog.append(taken)

    def _resume(self) -> None:
        """Go on with what was restored, as far as there is room."""
        while self._backlog:
            first = self._backlog[0]
            if not self._queue.has_room(first.sender, first.size, first.tokens) and self._queue:
                return
            self._handle(self._backlog.popleft())

    def _owed(self) -> Collection[bytes]:
        queued = [bundle.bundle_id for bundle in self._queue.bundles]
        return (*queued, *(taken.bundle_id for taken in self._backlog), *self._intake.taking)

    async def _sweep(self) -> None:
        """Age makes files superfluous, and no event tells."""
        while True:
            await trio.sleep(self._keep.sweep)
            await self.bundles.sweep()

    # -- what the intake asks ------------------------------------------------------------------

    def has_room(self, sender: str, size: int, tokens: int) -> bool:
        """Whether the queue takes another bundle of this sender."""
        return not self._backlog and self._queue.has_room(sender, size, tokens)

    def is_owed(self, bundle_id: bytes) -> bool:
        """Whether the bundle is on its way to a verdict."""
        return bundle_id in self._queue or any(t.bundle_id == bundle_id for t in self._backlog)

    async def settled_already(self, offer: Offer) -> bool:
        """Whether there is a verdict on the bundle; then it is delivered again. Raises `Refused`
        where there will be none."""
        bundle_id, settlement = offer.bundle_id, self.settlement
        signed = await self._verdicts.journaled(bundle_id)
        if signed is not None:
            self._deliver_again(offer.sender, bundle_id, signed)
            return True
        if await settlement.accepted_other(offer.sender, offer.pool_id, offer.unit_id, bundle_id):
            raise Refused("already_accepted", "that unit was accepted in another bundle")
        if await self._verdicts.is_hopeless(bundle_id):
            raise Refused("unjudgeable", "several tries to judge it came to nothing")
        if not settlement.has_room(offer.pool_id):
            raise Refused("busy", "too many accepted units of your pool are not paid yet")
        return False

    async def newest_block(self) -> int:
        """The chain's newest block, 0 where that is unknown."""
        return await self._preparer.newest_block()

    def take(self, taken: Taken) -> None:
        """A bundle is on disk and journaled."""
        self._handle(taken)

    def _deliver_again(self, sender: str, bundle_id: bytes, signed: SignedVerdict) -> None:
        assert self._nursery is not None
        if bundle_id in self._redelivering or len(self._redelivering) >= MAX_REDELIVERIES:
            return

        async def deliver() -> None:
            try:
                await self._deliver(sender, signed)
            finally:
                self._redelivering.discard(bundle_id)

        self._redelivering.add(bundle_id)
        self._context.supervisor.task(self._nursery, "validator: delivery", deliver)

    # -- what the queue says -------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        """Report to the queue, and begin with what it says."""
        for command in self._queue.handle(event):
            match command:
                case Prepare(bundle=bundle):
                    self._begin("validator: preparing", self._prepare, bundle)
                case Judge(bundle=bundle):
                    self._begin("validator: judging", self._see_through, bundle)
        self._changed.set()
        self._changed = trio.Event()

    def _begin(
        self, name: str, step: Callable[[QueuedBundle], Awaitable[None]], queued: QueuedBundle
    ) -> None:
        """A bundle on which a step fails in a way that nobody thought of is set aside."""
        assert self._nursery is not None
        self._context.supervisor.task(
            self._nursery, name, step, queued, failed=partial(self._set_aside, queued)
        )

    async def _prepare(self, queued: QueuedBundle) -> None:
        """Plan how a bundle is judged; that may wait for blocks."""
        bundle = await self.bundles.get(queued.bundle_id)
        if bundle is None:
            await self._set_aside(queued, "the stored bundle is damaged")
            return
        if await self._verdicts.journaled(queued.bundle_id) is not None:
            plan = JudgingPlan()  # nothing is replayed again
        else:
            plan = await self._preparer.plan(bundle, queued.block)
        self._plans[queued.bundle_id] = plan
        self._handle(Moved(queued.bundle_id, BundleState.PREPARED))

    async def _see_through(self, queued: QueuedBundle) -> None:
        """Reach a verdict, then deliver it."""
        plan = self._plans.pop(queued.bundle_id)
        bundle = await self.bundles.get(queued.bundle_id)
        if bundle is None:
            await self._set_aside(queued, "the stored bundle is damaged")
            return
        others_first = partial(self._handle, Moved(queued.bundle_id, BundleState.INQUIRING))
        try:
            signed = await self._verdicts.on(bundle, queued, plan, others_first)
        except CannotJudge as exc:
            await self._set_aside(queued, str(exc))
            return
        del bundle  # delivering may take long, and bundles are large
        await self.bundles.judged(queued.bundle_id, signed.verdict.accepted)
        self._handle(Moved(queued.bundle_id, BundleState.JUDGED))
        delivered = await self._deliver(queued.sender, signed)
        await self._close(queued, BundleState.DELIVERED if delivered else BundleState.SET_ASIDE)

    async def _deliver(self, sender: str, signed: SignedVerdict) -> bool:
        """Whether the sender took the verdict."""
        notice = VerdictNotice(verdict=signed.to_bytes())
        async for _ in tries(self._delivery):
            try:
                await call(self._context, sender, VERDICT, notice)
            except P2PError as exc:
                self._context.log.warning("verdict not delivered", reason=str(exc))
            else:
                return True
        return False

    async def _set_aside(self, queued: QueuedBundle, reason: str) -> None:
        """No verdict is owed any more."""
        unit = queued.bundle_id.hex()[:12]
        self._context.log.error("cannot judge", unit=unit, reason=reason)
        await self._close(queued, BundleState.SET_ASIDE)
        await self.bundles.drop(queued.bundle_id)

    async def _close(self, queued: QueuedBundle, end: BundleState) -> None:
        """Nothing is owed for the bundle any more, in the journal first."""
        await self._context.journal.record(Forget(BundleTaken, queued.bundle_id.hex()))
        self._handle(Moved(queued.bundle_id, end))
        self._resume()

    async def _drop_engine_events(self) -> None:
        async for name, _body in self._engine.events:
            self._context.log.debug("validator engine", event_name=name)
