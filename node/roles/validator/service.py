"""The validator role: take bundles, judge them, deliver verdicts, settle what was right.

A bundle is taken only from a sender that `admission` allows: where there is a chain, from the owner
of the pool that would pay for it. It is written to disk and journaled before its sender is told
that it was taken; from then on its verdict will be delivered, whatever happens to this process. A
unit is accepted at most once: a second bundle for it is refused, so nothing is paid twice.

`bundle_state.BundleQueue` decides which bundle is prepared or judged next. This file carries out
what the queue says and reports back what came of it: `judging.plan` prepares, `verdicts` judges. A
bundle on which the engine keeps failing is set aside, and so is a verdict that nobody takes; if its
sender asks again, it starts anew.
"""

from __future__ import annotations

import trio

from node.context import NodeContext
from node.retry import Backoff, tries
from node.roles.validator.admission import Admission, require_own_claims
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
from node.roles.validator.bundle_store import BundleStore
from node.roles.validator.journal_events import BundleTaken, VerdictDelivered
from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.plan import JudgingPlan, Preparer
from node.roles.validator.judging.reputation import WorkerRecords
from node.roles.validator.verdicts import Prosecution, Settlement, Verdicts
from node.storage.intake import require_storage
from node.wire.blobs import BlobStore
from node.wire.messages.fields import Done
from node.wire.messages.verification import VerdictNotice, VerifyRequest
from node.wire.methods import VERDICT, VERIFY
from node.wire.rpc import call, serve
from p2p.errors import P2PError, Refused
from pipeline.engine.control.client import EngineClient
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle
from proofs.verdict.message import SignedVerdict

DELIVERY_TRIES = Backoff(first=0.5, last=30.0, most=20)


class Validator:
    """Judges bundles with its own engine. Made by `assembly.open_validator`."""

    def __init__(
        self,
        context: NodeContext,
        engine: EngineClient,
        *,
        admission: Admission,
        preparer: Preparer,
        records: WorkerRecords,
        verdicts: Verdicts,
        settlement: Settlement,
        prosecution: Prosecution,
        blobs: BlobStore,
        limits: QueueLimits,
        delivery: Backoff = DELIVERY_TRIES,
    ) -> None:
        self._context = context
        self._engine = engine
        self._admission = admission
        self._preparer = preparer
        self._records = records
        self._verdicts = verdicts
        self._prosecution = prosecution
        self._blobs = blobs
        self._bundles = BundleStore(context.blobs)
        self._queue = BundleQueue(limits)
        self._plans: dict[bytes, JudgingPlan] = {}
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
        return len(self._queue)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the journal is replayed and handlers are in place."""
        await self.settlement.restore()
        await self._records.restore()
        undelivered = await self._undelivered()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._drop_engine_events)
            await nursery.start(self.settlement.run)
            nursery.start_soon(self._prosecution.run)
            for taken in undelivered:
                self._handle(taken)
            serve(self._context.network, VERIFY, self._on_verify)
            self._blobs.serve()  # without a chain nobody else does
            task_status.started()

    async def drain(self) -> None:
        """Judge and deliver what was taken, then settle it."""
        while self._queue:
            await self._changed.wait()
        await self.settlement.settled()

    async def _on_verify(self, peer_id: str, request: VerifyRequest) -> Done:
        """Take a bundle. Raises `Refused`."""
        require_storage(self._context.journal)
        try:
            bundle = UnitBundle.from_bytes(request.bundle)
        except ProofError as exc:
            raise Refused("bad_bundle", str(exc)) from exc
        require_own_claims(bundle)
        await self._admission.require_sender(peer_id, bundle)
        bundle_id = bundle.content_id
        if self.settlement.accepted_other(peer_id, bundle.unit_id, bundle_id):
            raise Refused("already_accepted", "that unit was accepted in another bundle")
        if bundle_id in self._queue:
            return Done()
        if not self._queue.has_room(peer_id):
            raise Refused("busy", "too many bundles wait; ask again")
        await self._bundles.put(bundle_id, request.bundle)
        block = await self._preparer.newest_block()
        event = BundleTaken(bundle_id=bundle_id, sender=peer_id, block=block)
        await self._context.journal.record(event)
        if bundle_id not in self._queue:  # else it came twice at once
            self._handle(Taken(bundle_id, peer_id, block))
        return Done()

    async def _undelivered(self) -> list[Taken]:
        journal = self._context.journal
        delivered = {event.bundle_id for event in await journal.replay(VerdictDelivered)}
        return [
            Taken(event.bundle_id, event.sender, event.block)
            for event in await journal.replay(BundleTaken)
            if event.bundle_id not in delivered
        ]

    # -- what the queue says -------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        """Report to the queue, and begin with what it says."""
        assert self._nursery is not None
        for command in self._queue.handle(event):
            match command:
                case Prepare(bundle=bundle):
                    self._nursery.start_soon(self._prepare, bundle)
                case Judge(bundle=bundle):
                    self._nursery.start_soon(self._see_through, bundle)
        self._changed.set()
        self._changed = trio.Event()

    async def _prepare(self, queued: QueuedBundle) -> None:
        """Plan how a bundle is judged; that may wait for blocks."""
        bundle = await self._bundles.get(queued.bundle_id)
        if bundle is None:
            self._set_aside(queued, "the stored bundle is damaged")
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
        bundle = await self._bundles.get(queued.bundle_id)
        if bundle is None:
            self._set_aside(queued, "the stored bundle is damaged")
            return

        def on_inquiry() -> None:
            self._handle(Moved(queued.bundle_id, BundleState.INQUIRING))

        try:
            signed = await self._verdicts.on(bundle, queued.sender, plan, on_inquiry)
        except CannotJudge as exc:
            self._set_aside(queued, str(exc))
            return
        del bundle  # delivering may take long, and bundles are large
        self._handle(Moved(queued.bundle_id, BundleState.JUDGED))
        delivered = await self._deliver(queued, signed)
        end = BundleState.DELIVERED if delivered else BundleState.SET_ASIDE
        self._handle(Moved(queued.bundle_id, end))

    async def _deliver(self, queued: QueuedBundle, signed: SignedVerdict) -> bool:
        """Whether the sender took the verdict."""
        notice = VerdictNotice(verdict=signed.to_bytes())
        async for _ in tries(self._delivery):
            try:
                await call(self._context, queued.sender, VERDICT, notice)
            except P2PError as exc:
                self._context.log.warning("verdict not delivered", reason=str(exc))
            else:
                await self._context.journal.record(VerdictDelivered(bundle_id=queued.bundle_id))
                return True
        return False

    def _set_aside(self, queued: QueuedBundle, reason: str) -> None:
        unit = queued.bundle_id.hex()[:12]
        self._context.log.error("cannot judge", unit=unit, reason=reason)
        self._handle(Moved(queued.bundle_id, BundleState.SET_ASIDE))

    async def _drop_engine_events(self) -> None:
        async for name, _body in self._engine.events:
            self._context.log.debug("validator engine", event_name=name)
