"""Standing by the truth about posted roots: dispute the wrong ones, answer for the right ones.

Every root whose data arrive is audited. One with a fault is disputed, at once and by the plainest
fault: a receipt counted twice proves itself; other faults are asked about, and when nobody has
answered in time, the root is voided. A dispute about a root that passed the audit is answered.
Honest validators all do the same, so each waits for its turn and looks whether it is still needed;
that costs a few seconds of the window and saves the others' gas and bonds.

A root whose data cannot be had in half of the time that its window leaves is disputed, too, at a
leaf that nobody could foresee: signers who publish nothing must answer for it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import trio

from node.context import NodeContext
from node.errors import InputError
from node.roles.validator.facts import ChainFacts
from node.roles.validator.pending import turn_of
from node.settlement.follower import SettlementFollower
from node.settlement.history import PoolHistory, PostedEpoch
from proofs.audit import BadPayout, BadReceipt, CountedTwice, Fault, Unfounded, audit
from proofs.errors import ProofError
from proofs.leaves import Posted

if TYPE_CHECKING:
    from chain.client import ChainClient
    from chain.structs import Dispute

TURN_SECONDS = 1.5
RETRY_SECONDS = 3.0
MAX_OPEN_DISPUTES = 256


class Guard:
    """Audits, disputes and answers. `disputed` counts the wrong roots it found."""

    def __init__(
        self, context: NodeContext, follower: SettlementFollower, facts: ChainFacts
    ) -> None:
        self._context = context
        self._follower = follower
        self._facts = facts
        self._seen: set[tuple[int, int, bytes, bool]] = set()
        self._answering: set[int] = set()
        self.disputed = 0

    async def run(self) -> None:
        """Look at every new root and dispute until cancelled."""
        version = -1
        async with trio.open_nursery() as nursery:
            while True:
                version = await self._follower.wait_changed(version)
                for history in list(self._follower.histories.values()):
                    self._look(nursery, history)
                for dispute_id in list(self._follower.disputes)[:MAX_OPEN_DISPUTES]:
                    if dispute_id not in self._answering:
                        self._answering.add(dispute_id)
                        nursery.start_soon(self._answer, dispute_id)

    def _look(self, nursery: trio.Nursery, history: PoolHistory) -> None:
        entry = history.newest
        if entry is None or not history.complete(entry.number - 1):
            return
        key = (history.pool_id, entry.number, entry.posted.signers_hash, entry.epoch is not None)
        if key not in self._seen:
            self._seen.add(key)
            nursery.start_soon(self._audit, history, entry)

    async def _audit(self, history: PoolHistory, entry: PostedEpoch) -> None:
        """Until it is done: a chain that does not answer now answers later."""
        from chain.errors import ChainError

        while not self._gone(history, entry, filled=entry.epoch is None):
            try:
                if entry.epoch is None:
                    await self._wait_for_data(history, entry, self._patience(entry))
                    if self._gone(history, entry, filled=True):
                        return
                faults = await self._faults(history, entry)
                if faults:
                    await self._accuse(history, entry, faults)
                return
            except ChainError as exc:
                self._context.log.warning("posted root not audited yet", reason=str(exc))
            except (InputError, ProofError) as exc:
                self._context.log.error("posted root not disputed", reason=str(exc))
                return
            await trio.sleep(RETRY_SECONDS)

    def _patience(self, entry: PostedEpoch) -> float:
        """When a root without data is disputed: half of the time that is left, as of now; a node
        that comes late has only begun to look for them. A root that is final cannot be."""
        now = self._context.wall()
        return (now + entry.claimable_at) / 2 if now < entry.claimable_at else float("inf")

    async def _faults(self, history: PoolHistory, entry: PostedEpoch) -> list[Fault]:
        epoch = entry.epoch
        receipts = [item.signed for item in epoch.data.receipts] if epoch is not None else []
        facts = await self._facts.before(history, entry.number, receipts)
        return await trio.to_thread.run_sync(audit, entry.posted.root, epoch, facts)

    async def _wait_for_data(self, history: PoolHistory, entry: PostedEpoch, until: float) -> None:
        """Until the data are here, the root is gone, or it is `until` (Unix s)."""
        version = self._follower.version
        with trio.move_on_after(max(until - self._context.wall(), 0.0)):
            while not self._gone(history, entry, filled=True):
                version = await self._follower.wait_changed(version)

    def _gone(self, history: PoolHistory, entry: PostedEpoch, *, filled: bool) -> bool:
        """Whether the root stands no more, or (`filled`) has its data meanwhile."""
        known = history.get(entry.number)
        if known is None or known.posted != entry.posted:
            return True
        return filled and known.epoch is not None

    async def _accuse(self, history: PoolHistory, entry: PostedEpoch, faults: list[Fault]) -> None:
        log, root = self._context.log, entry.posted.root
        log.warning(
            "posted root is wrong", pool=root.pool_id, epoch=root.epoch, fault=str(faults[0])
        )
        self.disputed += 1
        await trio.sleep(await self._delay(root.pool_id, root.epoch))
        if await self._already_disputed(entry):
            return
        for fault in faults:
            if await self._act(history, entry, fault):
                return
        log.error("no fault of the root could be raised", pool=root.pool_id, epoch=root.epoch)

    async def _already_disputed(self, entry: PostedEpoch) -> bool:
        """Whether the root is gone or somebody's dispute is open; that one is then watched."""
        chain, root = self._chain, entry.posted.root
        standing = await chain.root_hash(root.pool_id, root.epoch)
        if standing != entry.posted.hash(chain.domain("ReceiptSettlement")):
            return True
        return standing in self._follower.disputes.values()

    async def _act(self, history: PoolHistory, entry: PostedEpoch, fault: Fault) -> bool:
        """Raise one fault on chain; whether that could be done."""
        from chain.errors import Reverted

        chain, posted, epoch = self._chain, entry.posted, entry.epoch
        try:
            match fault:
                case CountedTwice(index=index, other_epoch=other_number, other_index=other_index):
                    other = entry if other_number == entry.number else history.get(other_number)
                    if epoch is None or other is None or other.epoch is None:
                        return False
                    await chain.prove_double_count(
                        posted,
                        epoch.leaf(index),
                        epoch.data.receipts[index].receipt,
                        other.posted,
                        other.epoch.leaf(other_index),
                        other.epoch.data.receipts[other_index].receipt,
                    )
                case BadReceipt(index=index):
                    await self._see_through(await chain.dispute_receipt(posted, index), posted)
                case BadPayout():
                    await self._dispute_payout(history, entry, fault)
                case Unfounded():
                    index = secrets.randbelow(posted.root.receipt_count)
                    await self._see_through(await chain.dispute_receipt(posted, index), posted)
        except Reverted as exc:
            self._context.log.warning("dispute refused", fault=str(fault), reason=str(exc))
            return False
        return True

    async def _dispute_payout(
        self, history: PoolHistory, entry: PostedEpoch, fault: BadPayout
    ) -> None:
        """By the wrong leaf where there is one, else by what the epoch before had granted."""
        chain, posted, account = self._chain, entry.posted, fault.account
        if fault.amount is not None and entry.epoch is not None:
            for payout in entry.epoch.payouts_of(account):
                if payout.cumulative == fault.amount:
                    dispute_id = await chain.dispute_payout(posted, account, payout)
                    await self._see_through(dispute_id, posted)
                    return
        before = history.get(entry.number - 1)
        granted = before.epoch.payout(account) if before and before.epoch else None
        previous = before.posted if before is not None and granted is not None else None
        dispute_id = await chain.dispute_omission(posted, previous, account, granted)
        await self._see_through(dispute_id, posted)

    async def _see_through(self, dispute_id: int, posted: Posted) -> None:
        """Wait for the answer's deadline; void the root if nobody answered."""
        chain = self._chain
        dispute = await chain.dispute(dispute_id)
        while dispute is not None:
            left = dispute.answer_by + 1 - self._context.wall()
            if left <= 0:
                await chain.uphold(dispute_id, posted)
                return
            await trio.sleep(left)
            dispute = await chain.dispute(dispute_id)
        self._context.log.info("dispute was answered", dispute=dispute_id)

    # -- answers -------------------------------------------------------------------------------

    async def _answer(self, dispute_id: int) -> None:
        """Until the dispute is over: its root's signers lose stake where nobody answers."""
        from chain.errors import ChainError, Reverted

        while dispute_id in self._follower.disputes:
            try:
                await self._try_answer(dispute_id)
                return
            except (Reverted, InputError, ProofError) as exc:
                self._context.log.error("dispute not answered", dispute=dispute_id, reason=str(exc))
                return
            except ChainError as exc:
                self._context.log.warning(
                    "dispute not answered yet", dispute=dispute_id, reason=str(exc)
                )
            await trio.sleep(RETRY_SECONDS)

    async def _try_answer(self, dispute_id: int) -> None:
        dispute = await self._chain.dispute(dispute_id)
        if dispute is None:
            return
        history = self._follower.history(dispute.pool_id)
        entry = history.get(dispute.epoch)
        if entry is None or not await self._right(history, entry, dispute):
            await self._uphold_in_turn(dispute_id, dispute, entry)
            return
        await trio.sleep(await self._delay(dispute.pool_id, dispute.epoch))
        if await self._chain.dispute(dispute_id) is None:
            return
        await self._give_answer(dispute_id, dispute, history, entry)
        self._context.log.info("dispute answered", dispute=dispute_id)

    async def _right(self, history: PoolHistory, entry: PostedEpoch, dispute: Dispute) -> bool:
        """Whether the root passes the audit; data that are still coming are waited for."""
        if entry.epoch is None:
            until = (self._context.wall() + dispute.answer_by) / 2
            await self._wait_for_data(history, entry, until)
            filled = history.get(entry.number)
            if filled is None or filled.epoch is None:
                return False
            entry = filled
        return not await self._faults(history, entry)

    async def _give_answer(
        self, dispute_id: int, dispute: Dispute, history: PoolHistory, entry: PostedEpoch
    ) -> None:
        from chain.structs import DisputeKind

        filled = history.get(dispute.epoch)
        epoch = entry.epoch if filled is None else filled.epoch
        if epoch is None:
            return
        if dispute.kind is DisputeKind.RECEIPT:
            index = dispute.subject
            before = epoch.leaf(index - 1) if index else None
            await self._chain.answer_receipt(
                dispute_id,
                entry.posted,
                epoch.leaf(index),
                before,
                epoch.data.receipts[index].signed,
            )
            return
        earlier = history.get(dispute.epoch - 1)
        previous = earlier.epoch if earlier is not None else None
        answer = epoch.answer(dispute.account, previous)
        posted = earlier.posted if earlier is not None else None
        await self._chain.answer_payout(dispute_id, entry.posted, posted, answer)

    async def _uphold_in_turn(
        self, dispute_id: int, dispute: Dispute, entry: PostedEpoch | None
    ) -> None:
        """Somebody disputed what is wrong indeed: see it through, though its challenger be gone."""
        left = dispute.answer_by + 1 - self._context.wall()
        delay = await self._delay(dispute.pool_id, dispute.epoch)
        await trio.sleep(max(left, 0.0) + TURN_SECONDS + delay)
        if entry is not None and await self._chain.dispute(dispute_id) is not None:
            await self._chain.uphold(dispute_id, entry.posted)

    async def _delay(self, pool_id: int, epoch: int) -> float:
        validators = await self._chain.validators()
        return turn_of(self._context.address, validators, pool_id, epoch) * TURN_SECONDS

    @property
    def _chain(self) -> ChainClient:
        chain = self._context.chain
        if chain is None:
            raise InputError("this network has no chain")
        return chain
