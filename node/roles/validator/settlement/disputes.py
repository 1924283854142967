"""Auditing every posted root, and disputing the wrong ones.

Every root is audited as soon as its data arrive. If it has a fault, it is disputed at once: that a
receipt is counted twice can be proven, and about any other fault a question is raised, which
`answers.py` sees through to its end. All honest validators find the same faults, so each waits for
its turn and checks whether the very same question is open already. Another question about the root
is no reason to keep silent: its signers could have raised one that they can answer.

Most faults cannot be answered away, so one of them is enough. A missing signature can be: the
signers may hold another one than they published. Therefore several missing signatures are asked
about, and nobody can foresee which. A root whose data cannot be had is asked about at a random
leaf.
"""

from __future__ import annotations

import secrets
from random import SystemRandom

import trio

from chain.encoding.structs import DisputeKind
from chain.errors import ChainError, Reverted
from node.context import NodeContext
from node.errors import InputError
from node.retry import Backoff, tries
from node.roles.validator.settlement.answers import Answers
from node.roles.validator.settlement.auditor import Auditor
from node.settlement.follower import SettlementFollower
from node.settlement.history import PoolHistory, PostedEpoch
from proofs.encoding.leaves import PostedRoot
from proofs.errors import ProofError
from proofs.settlement.audit import UNSIGNED, BadPayout, BadReceipt, CountedTwice, Fault, Unfounded

MAX_DOUBTS = 8
"""Most questions about missing signatures of one root; each costs a bond if it is answered."""


def plain_and_doubtful(faults: list[Fault]) -> tuple[list[Fault], list[Fault]]:
    """Faults that nobody can answer, and those that somebody might."""
    plain: list[Fault] = []
    doubtful: list[Fault] = []
    for fault in faults:
        unsigned = isinstance(fault, BadReceipt) and fault.reason == UNSIGNED
        (doubtful if unsigned else plain).append(fault)
    return plain, doubtful


class RootGuard:
    """Audits posted roots and disputes the wrong ones."""

    def __init__(
        self, context: NodeContext, follower: SettlementFollower, auditor: Auditor
    ) -> None:
        self._context = context
        self._follower = follower
        self._auditor = auditor
        self._answers = Answers(context, follower, auditor)
        self._seen: set[tuple[PostedRoot, int]] = set()

    async def run(self) -> None:
        """Look at every new root and dispute until cancelled."""
        version = -1
        self._seen.clear()  # audits under way ended with an earlier try
        async with trio.open_nursery() as nursery:
            self._context.supervisor.keep(nursery, "settlement: answers", self._answers.run)
            while True:
                version = await self._follower.wait_changed(version)
                standing = set()
                for history in list(self._follower.histories.values()):
                    entry = history.newest
                    if entry is None or self._follower.is_final(history, entry):
                        continue
                    standing.add(seen := (entry.posted, entry.block))
                    if seen not in self._seen:
                        self._context.supervisor.keep(
                            nursery, "settlement: audit", self._audit, history, entry
                        )
                self._seen = standing  # what is final, or gone, is not looked at again

    async def _audit(self, history: PoolHistory, entry: PostedEpoch) -> None:
        """Go on until the root is judged or can no longer be disputed. A chain that does not answer
        now may answer later, and data that were asked for may come after all."""
        asked = False
        async for _ in tries(Backoff.every(self._auditor.timing.retry)):
            if self._over(history, entry):
                return
            try:
                if not asked:
                    until = await self._auditor.patience(entry)
                else:
                    until = entry.claimable_at
                entry = await self._auditor.with_data(history, entry, until)
                if self._over(history, entry):
                    return
                if entry.epoch is not None and not history.complete(entry.number - 1):
                    self._context.log.warning("root not audited: earlier leaves are not here")
                elif entry.epoch is not None or not asked:
                    faults = await self._auditor.faults(history, entry)
                    if faults:
                        await self._accuse(history, entry, faults)
                    if entry.epoch is not None:
                        return
                    asked = True
            except ChainError as exc:
                self._context.log.warning("posted root not audited yet", reason=str(exc))
            except (InputError, ProofError) as exc:
                self._context.log.error("posted root not disputed", reason=str(exc))
                return

    def _over(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        """Whether it is too late for a dispute: the root is gone, or its window is over."""
        late = self._follower.now() >= entry.claimable_at
        return late or self._auditor.gone(history, entry)

    async def _accuse(self, history: PoolHistory, entry: PostedEpoch, faults: list[Fault]) -> None:
        log, root = self._context.log, entry.posted.root
        log.warning(
            "posted root is wrong", pool=root.pool_id, epoch=root.epoch, fault=str(faults[0])
        )
        left = max(entry.claimable_at - self._follower.now(), 0.0)
        await trio.sleep(min(await self._auditor.delay(root.pool_id, root.epoch), left / 4))
        standing = await self._auditor.chain.settlement.root_hash(root.pool_id, root.epoch)
        if standing != self._auditor.hash_of(entry):
            return
        plain, doubtful = plain_and_doubtful(faults)
        for fault in plain:
            if await self._asked(standing, fault) or await self._raise(history, entry, fault):
                return
        chosen = SystemRandom().sample(doubtful, min(len(doubtful), MAX_DOUBTS))
        raised = [
            await self._asked(standing, fault) or await self._raise(history, entry, fault)
            for fault in chosen
        ]
        if not any(raised):
            log.error("no fault of the root could be raised", pool=root.pool_id, epoch=root.epoch)

    async def _asked(self, standing: bytes, fault: Fault) -> bool:
        """Whether an open dispute asks about this very fault."""
        for dispute_id, root in list(self._follower.disputes.items()):
            dispute = (
                await self._auditor.chain.disputes.find(dispute_id) if root == standing else None
            )
            if dispute is None:
                continue
            match fault:
                case BadReceipt(index=index):
                    if dispute.kind is DisputeKind.RECEIPT and dispute.subject == index:
                        return True
                case BadPayout(account=account, amount=amount):
                    leaf = dispute.kind is DisputeKind.PAYOUT and dispute.amount == amount
                    none = dispute.kind is DisputeKind.OMISSION and amount is None
                    if (leaf or none) and dispute.account == account:
                        return True
                case Unfounded() if dispute.challenger == self._context.address:
                    return True  # this node did, before it was restarted
        return False

    async def _raise(self, history: PoolHistory, entry: PostedEpoch, fault: Fault) -> bool:
        """Bring one fault before the chain; whether that worked."""
        chain, posted, epoch = self._auditor.chain, entry.posted, entry.epoch
        try:
            match fault:
                case CountedTwice(index=index, other_epoch=other_number, other_index=other_index):
                    other = entry if other_number == entry.number else history.get(other_number)
                    before = None if other is None else await self._follower.data(other)
                    if epoch is None or other is None or before is None:
                        return False
                    await chain.disputes.prove_double_count(
                        posted,
                        epoch.leaf(index),
                        epoch.data.receipts[index].receipt,
                        other.posted,
                        before.leaf(other_index),
                        before.data.receipts[other_index].receipt,
                    )
                case BadReceipt(index=index):
                    await chain.disputes.dispute_receipt(posted, index)
                case BadPayout():
                    await self._dispute_payout(history, entry, fault)
                case Unfounded():
                    index = secrets.randbelow(posted.root.receipt_count)
                    await chain.disputes.dispute_receipt(posted, index)
        except Reverted as exc:
            self._context.log.warning("dispute refused", fault=str(fault), reason=str(exc))
            return False
        self._context.log.info("root disputed", epoch=entry.number, fault=str(fault))
        return True

    async def _dispute_payout(
        self, history: PoolHistory, entry: PostedEpoch, fault: BadPayout
    ) -> None:
        """Dispute the wrong leaf where there is one, else show what the epoch before had
        granted."""
        chain, posted, account = self._auditor.chain, entry.posted, fault.account
        if fault.amount is not None and entry.epoch is not None:
            for payout in entry.epoch.payouts_of(account):
                if payout.cumulative == fault.amount:
                    await chain.disputes.dispute_payout(posted, account, payout)
                    return
        before = history.get(entry.number - 1)
        granted = before.epoch.payout(account) if before and before.epoch else None
        previous = before.posted if before is not None and granted is not None else None
        await chain.disputes.dispute_omission(posted, previous, account, granted)
