"""Seeing every dispute through to its end, whoever opened it.

If the root passes the audit, the dispute is answered: without an answer the root's signers would
lose stake. If it does not, the dispute is upheld once the time for answers is over, even if its
challenger is gone. If the root was voided for another reason, all that is left to do is up to the
challenger, who takes the bond back.

Validators take turns. Nothing is remembered but what the follower journals, so a restart goes on
where it stopped.
"""

from __future__ import annotations

import trio

from chain.encoding.structs import Dispute, DisputeKind
from chain.errors import ChainError, Reverted
from node.context import NodeContext
from node.errors import InputError
from node.roles.validator.settlement.auditor import Auditor
from node.settlement.follower import SettlementFollower
from node.settlement.history import PoolHistory, PostedEpoch
from proofs.encoding.leaves import PostedRoot
from proofs.encoding.receipts import EpochRoot
from proofs.errors import ProofError

NO_ROOT = PostedRoot(
    EpochRoot(
        pool_id=0,
        epoch=0,
        receipts_root=bytes(32),
        payouts_root=bytes(32),
        receipt_count=0,
        total_units=0,
        rate=0,
        total_payout=0,
        data_hash=bytes(32),
    ),
    (),
)
"""For calls in which the contract does not look at the root."""


class Answers:
    """One task for every open dispute."""

    def __init__(
        self, context: NodeContext, follower: SettlementFollower, auditor: Auditor
    ) -> None:
        self._context = context
        self._follower = follower
        self._auditor = auditor
        self._timing = auditor.timing
        self._busy: set[int] = set()

    async def run(self) -> None:
        """See to all disputes until cancelled."""
        version = -1
        self._busy.clear()  # what was under way ended with an earlier try
        async with trio.open_nursery() as nursery:
            while True:
                version = await self._follower.wait_changed(version)
                self._busy &= self._follower.disputes.keys()
                for dispute_id in self._follower.disputes.keys() - self._busy:
                    self._busy.add(dispute_id)
                    self._context.supervisor.keep(
                        nursery, "settlement: dispute", self._see_through, dispute_id
                    )

    async def _see_through(self, dispute_id: int) -> None:
        """Go on until the dispute is over; a chain that does not answer now may answer later."""
        log = self._context.log.bind(dispute=dispute_id)
        while dispute_id in self._follower.disputes:
            try:
                pause = await self._step(dispute_id)
            except ChainError as exc:
                log.warning("dispute not over yet", reason=str(exc))
                pause = self._timing.retry
            except (InputError, ProofError) as exc:
                log.error("dispute left alone", reason=str(exc))
                return
            await trio.sleep(pause)
        self._busy.discard(dispute_id)

    async def _step(self, dispute_id: int) -> float:
        """Do what can be done now; seconds until the next look."""
        chain = self._auditor.chain
        dispute = await chain.disputes.find(dispute_id)
        if dispute is None:
            return self._timing.retry  # over; the follower will see it
        if await chain.settlement.root_hash(dispute.pool_id, dispute.epoch) != dispute.root:
            if dispute.challenger == self._context.address:
                await chain.disputes.uphold(dispute_id, NO_ROOT)
                self._context.log.info("bond taken back", dispute=dispute_id)
            return self._timing.retry
        history = self._follower.history(dispute.pool_id)
        entry = history.get(dispute.epoch)
        if entry is None or self._auditor.hash_of(entry) != dispute.root:
            return self._timing.retry
        right = await self._right(history, entry, dispute)
        if right is None:
            return self._timing.retry
        delay = await self._auditor.delay(dispute.pool_id, dispute.epoch)
        left = dispute.answer_by - self._follower.now()
        if right and left > 0:
            await trio.sleep(min(delay, left / 4))
            if await chain.disputes.find(dispute_id) is not None:
                await self._answer(dispute_id, dispute, history, entry)
            return self._timing.retry
        if left > -1.0:
            return min(left + 1.0, self._timing.look)
        if dispute.challenger != self._context.address:
            await trio.sleep(self._timing.turn + delay)
        return await self._uphold(dispute_id, entry)

    async def _right(
        self, history: PoolHistory, entry: PostedEpoch, dispute: Dispute
    ) -> bool | None:
        """Whether the root passes the audit; its data are waited for as long as an answer is of
        use. None if that cannot be told, or the root is gone."""
        filled = await self._auditor.with_data(history, entry, dispute.answer_by)
        if self._auditor.gone(history, entry) or not history.complete(entry.number - 1):
            return None
        return not await self._auditor.faults(history, filled)

    async def _uphold(self, dispute_id: int, entry: PostedEpoch) -> float:
        try:
            if await self._auditor.chain.disputes.uphold(dispute_id, entry.posted) is not None:
                self._context.log.warning("root voided", dispute=dispute_id, epoch=entry.number)
        except Reverted as exc:
            if exc.name != "AnswerTooEarly":
                raise
            return self._timing.early
        return self._timing.retry

    async def _answer(
        self, dispute_id: int, dispute: Dispute, history: PoolHistory, entry: PostedEpoch
    ) -> None:
        chain, filled = self._auditor.chain, history.get(entry.number)
        epoch = filled.epoch if filled is not None else None
        if epoch is None:
            return
        if dispute.kind is DisputeKind.RECEIPT:
            index = dispute.subject
            before = epoch.leaf(index - 1) if index else None
            signed = epoch.data.receipts[index].signed
            leaf = epoch.leaf(index)
            result = await chain.disputes.answer_receipt(
                dispute_id, entry.posted, leaf, before, signed
            )
        else:
            earlier = history.get(dispute.epoch - 1)
            answer = epoch.answer(dispute.account, earlier.epoch if earlier is not None else None)
            posted = earlier.posted if earlier is not None else None
            result = await chain.disputes.answer_payout(dispute_id, entry.posted, posted, answer)
        if result is not None:
            self._context.log.info("dispute answered", dispute=dispute_id)
