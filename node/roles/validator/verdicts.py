"""From a bundle to a journaled verdict and what follows from it.

This is where judging and settlement meet: they know nothing of one another. A verdict is journaled
together with what it rests on, and only then acted upon: the records of its workers, the payment
of an accepted unit, the conviction of a faulty stage. Each of these steps may be repeated, so after
a crash between them the whole is done again from the verdict in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import trio

from node.context import NodeContext
from node.journal import Forget, JournalEvent
from node.roles.validator.bundle_state import QueuedBundle
from node.roles.validator.journal_events import BundleTried, LimitsUsed, RowsAsked, VerdictSigned
from node.roles.validator.judging.errors import CannotJudge, DamagedWeights
from node.roles.validator.judging.inquiries import Ruling
from node.roles.validator.judging.judge import Judge
from node.roles.validator.judging.plan import JudgingPlan
from node.roles.validator.judging.reputation import UnitFigures, WorkerRecords
from proofs.encoding.leaves import SignedReceipt
from proofs.evidence.bundle import UnitBundle, signed_receipts
from proofs.verdict.message import SignedVerdict, Verdict


class Settlement(Protocol):
    """What becomes of accepted units (`settlement.settling`, or `settlement.unpaid`)."""

    async def accepted_other(
        self, sender: str, pool_id: int, unit_id: bytes, bundle_id: bytes
    ) -> bool:
        """Whether the sender's unit was accepted in another bundle than this one, or paid."""
        ...

    def has_room(self, pool_id: int) -> bool:
        """Whether the pool's accepted units that nobody has paid are few enough for another."""
        ...

    async def accept(
        self, sender: str, unit_id: bytes, bundle_id: bytes, receipts: Sequence[SignedReceipt]
    ) -> None:
        """Take in an accepted unit; repeating is harmless."""
        ...

    async def restore(self) -> None:
        """Read the journal; before `run`."""
        ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Settle until cancelled."""
        ...

    async def settled(self) -> None:
        """Wait until nothing accepted is unpaid."""
        ...


class Prosecution(Protocol):
    """What becomes of faulty stages (`settlement.convictions`, or `settlement.unpaid`)."""

    async def note(self, bundle: UnitBundle, verdict: Verdict) -> None:
        """Take in a verdict that rejects; repeating is harmless."""
        ...

    async def run(self) -> None:
        """See convictions through until cancelled."""
        ...


class Verdicts:
    """Reaches verdicts and acts on them. `judged` counts the new ones of this run."""

    def __init__(
        self,
        context: NodeContext,
        judge: Judge,
        records: WorkerRecords,
        settlement: Settlement,
        prosecution: Prosecution,
        attempts: int = 3,
    ) -> None:
        self._context = context
        self._judge = judge
        self._records = records
        self._settlement = settlement
        self._prosecution = prosecution
        self._attempts = attempts
        self.judged = 0

    async def journaled(self, bundle_id: bytes) -> SignedVerdict | None:
        """The verdict that the journal holds."""
        event = await self._context.journal.find(VerdictSigned, bundle_id.hex())
        return None if event is None else SignedVerdict.from_bytes(event.verdict)

    async def on(
        self,
        bundle: UnitBundle,
        queued: QueuedBundle,
        plan: JudgingPlan,
        on_inquiry: Callable[[], None],
    ) -> SignedVerdict:
        """The verdict on a bundle, acted upon: an earlier one from the journal, else a new one.
        `on_inquiry` is called when others may go first. Raises `CannotJudge`."""
        unusual: Mapping[int, Sequence[float]] = {}
        figures: UnitFigures | None = None
        sender, bundle_id = queued.sender, queued.bundle_id
        signed = await self.journaled(bundle_id)
        if signed is None:
            counted = await self._count_try(bundle_id)
            try:
                ruling = await self._judge.rule(bundle, plan, on_inquiry, sender)
            except DamagedWeights:  # which is no fault of the bundle
                await self._context.journal.record(Forget(BundleTried, counted.key))
                raise
            signed = await self._sign(bundle_id, ruling)
            unusual, figures = ruling.p_values, ruling.figures
        await self._records.note(bundle, signed.verdict, unusual, figures)
        if signed.verdict.accepted:  # an earlier run may have ended right before this
            await self._settlement.accept(
                sender, bundle.unit_id, bundle_id, signed_receipts(bundle)
            )
        else:
            await self._prosecution.note(bundle, signed.verdict)
        return signed

    async def tried(self, bundle_id: bytes) -> int:
        """How many tries to judge the bundle came to nothing, as far as they are remembered."""
        count = 0
        for attempt in range(self._attempts):
            key = f"{bundle_id.hex()}:{attempt}"
            count += await self._context.journal.find(BundleTried, key) is not None
        return count

    async def is_hopeless(self, bundle_id: bytes) -> bool:
        """Whether a bundle without a verdict was tried as often as it may be."""
        return await self.tried(bundle_id) >= self._attempts

    async def _count_try(self, bundle_id: bytes) -> BundleTried:
        """Journal that a try begins. Raises `CannotJudge` where there were enough."""
        tried = await self.tried(bundle_id)
        if tried >= self._attempts:
            raise CannotJudge(f"{tried} tries came to nothing")
        event = BundleTried(bundle_id=bundle_id, attempt=tried, at=self._context.wall())
        await self._context.journal.record(event)
        return event

    async def _sign(self, bundle_id: bytes, ruling: Ruling) -> SignedVerdict:
        """Journal a ruling's verdict with what it rests on, in one transaction."""
        signed = SignedVerdict.sign(ruling.verdict, self._context.key)
        events: list[JournalEvent] = [
            LimitsUsed(bundle_id=bundle_id, limits=ruling.limits),
            VerdictSigned(bundle_id=bundle_id, verdict=signed.to_bytes()),
        ]
        if ruling.answers:
            asked = tuple(answer.to_event() for answer in ruling.answers)
            events.insert(0, RowsAsked(bundle_id=bundle_id, stages=asked))
        await self._context.journal.record(*events)
        self.judged += 1
        return signed
