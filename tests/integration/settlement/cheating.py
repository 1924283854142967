"""A validator that is honest until a given epoch, and then posts a wrong root alone.

It has stake enough to carry the quorum by itself. From that epoch on it signs nobody else's roots,
so that no epoch passes until it has had its turn; once it was slashed its voice is too weak, and
the others go on without it. It neither disputes nor answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import trio

from chain.client import ChainClient
from node.context import NodeContext
from node.onchain.validators import StakedPeers
from node.roles.validator.settlement.auditor import Auditor
from node.roles.validator.settlement.chain_reads import ChainFacts
from node.roles.validator.settlement.cosigner import Accepted, Cosigner
from node.roles.validator.settlement.disputes import RootGuard
from node.roles.validator.settlement.pending import EpochRules, PendingPool
from node.roles.validator.settlement.proposer import Proposer
from node.roles.validator.settlement.settling import SettlementParts, ValidatorSettlement
from node.settlement.follower import SettlementFollower
from node.settlement.paid import PaidWork
from node.wire.messages.settlement import Cosigned, CosignRequest
from p2p.errors import Refused
from proofs.encoding.eip712 import Domain
from proofs.encoding.receipts import EpochRoot, Receipt
from proofs.encoding.signing import address_bytes, sign_digest
from proofs.settlement.epoch_data import Epoch, EpochData, PaidAccount, PaidReceipt, make

FORGED_UNITS = 1_000_000


class Cheat(StrEnum):
    """What is wrong with the root."""

    OVERPAY = "overpay"
    """A sock puppet is granted half of what somebody else earned."""
    FORGED = "forged"
    """A receipt counts that nobody countersigned."""
    DOUBLE = "double"
    """A unit of the epoch before is paid again."""
    OMIT = "omit"
    """An account that worked is left out of the payouts."""
    WITHHOLD = "withhold"
    """All is right, but nobody gets to see it."""


def cheating_settlement(
    context: NodeContext,
    chain: ChainClient,
    follower: SettlementFollower,
    rules: EpochRules,
    cheat: Cheat,
    begin: int,
) -> ValidatorSettlement:
    """A validator's settlement that cheats from epoch `begin` on, while its stake is enough."""
    paid = PaidWork(context.journal)
    facts, staked = ChainFacts(chain, paid), StakedPeers(chain, context.now)
    parts = SettlementParts(
        CheatingProposer(context, chain, follower, facts, rules, cheat, begin),
        _RefusingCosigner(context, staked, follower, facts, begin),
        _NoRootGuard(context, follower, Auditor(context, chain, follower, facts)),
    )
    return ValidatorSettlement(context, follower, paid, parts)


class _RefusingCosigner(Cosigner):
    """Signs nobody else's roots from epoch `begin` on."""

    def __init__(
        self,
        context: NodeContext,
        staked: StakedPeers,
        follower: SettlementFollower,
        facts: ChainFacts,
        begin: int,
    ) -> None:
        super().__init__(context, staked, follower, facts)
        self._begin = begin

    async def on_cosign(
        self, peer_id: str, request: CosignRequest, accepted_in: Callable[[int], Accepted]
    ) -> Cosigned:
        if EpochRoot.from_bytes(request.root).epoch >= self._begin:
            raise Refused("no", "I have other plans")
        return await super().on_cosign(peer_id, request, accepted_in)


class _NoRootGuard(RootGuard):
    async def run(self) -> None:
        await trio.sleep_forever()


class CheatingProposer(Proposer):
    """Makes a wrong root of what would be a right one, and asks nobody to sign it."""

    def __init__(
        self,
        context: NodeContext,
        chain: ChainClient,
        follower: SettlementFollower,
        facts: ChainFacts,
        rules: EpochRules,
        cheat: Cheat,
        begin: int,
    ) -> None:
        super().__init__(context, chain, follower, facts, rules)
        self._cheat = cheat
        self._begin = begin

    async def _make(self, pool: PendingPool) -> Epoch | None:
        epoch = await super()._make(pool)
        if epoch is None or not await self._strikes(epoch.root.epoch):
            return epoch
        before = self._follower.history(pool.pool_id).get(epoch.root.epoch - 1)
        earlier = before.epoch if before is not None else None
        domain = self._context.receipt_domain
        made = _wrong(self._cheat, epoch, earlier, self._context, domain)
        if self._cheat is not Cheat.WITHHOLD:
            await self._follower.blobs.put(made.content)
        self._context.log.warning("cheating", cheat=self._cheat.value, epoch=epoch.root.epoch)
        return made

    async def _sign_and_post(self, epoch: Epoch, unknown: set[bytes]) -> None:
        if not await self._strikes(epoch.root.epoch):
            await super()._sign_and_post(epoch, unknown)
            return
        digest = epoch.root.digest(self._context.receipt_domain)
        own = self._context.address, sign_digest(self._context.key, digest)
        await self._chain.settlement.post_root(epoch.root, [own])

    async def _strikes(self, number: int) -> bool:
        if number < self._begin:
            return False
        chain = self._chain
        own, total = (
            await chain.validators.weight_of(self._context.address),
            await chain.validators.total_weight(),
        )
        return own * 10_000 >= total * (await chain.settlement.terms()).quorum


def _wrong(
    cheat: Cheat, right: Epoch, earlier: Epoch | None, context: NodeContext, domain: Domain
) -> Epoch:
    data, puppet = right.data, context.provider
    victim = next(account for account in right.units if account != puppet)
    gain = right.units_of(victim) * data.rate
    match cheat:
        case Cheat.OVERPAY:
            taken = {victim: -(gain // 2), puppet: gain // 2}
            return make(_changed(data, (), taken, domain), domain)
        case Cheat.OMIT:
            payouts = tuple(item for item in data.payouts if item.account != victim)
            made = make(data.model_copy(update={"payouts": payouts}), domain)
            total = {"total_payout": right.root.total_payout}  # which the contract checks
            return replace(made, root=made.root.model_copy(update=total))
        case Cheat.FORGED:
            forged = _forge(data.receipts[0].receipt, context, domain)
            extra = PaidReceipt(
                account=puppet,
                receipt=forged,
                worker_signature=forged.sign(context.key, domain),
                counter_signature=forged.sign(context.key, domain),
            )
            more = {puppet: FORGED_UNITS * data.rate}
            return make(_changed(data, (extra,), more, domain), domain)
        case Cheat.DOUBLE:
            assert earlier is not None, "cheat after the first epoch"
            again = earlier.data.receipts[0]
            more = {again.account: again.receipt.units * data.rate}
            return make(_changed(data, (again,), more, domain), domain)
        case Cheat.WITHHOLD:
            # Without one unit, so that nobody else happens to make the same root.
            unit = data.receipts[0].receipt.job_id
            out = [item for item in data.receipts if item.receipt.job_id == unit]
            kept = tuple(item for item in data.receipts if item.receipt.job_id != unit)
            less = {item.account: 0 for item in out}
            for item in out:
                less[item.account] -= item.receipt.units * data.rate
            changed = data.model_copy(update={"receipts": kept})
            return make(_changed(changed, (), less, domain), domain)


def _forge(pattern: Receipt, context: NodeContext, domain: Domain) -> Receipt:
    """Work of this validator's own node that never was, as if `pattern`'s worker had got it."""
    job = pattern.digest(domain)
    changes = {"job_id": job, "worker": context.address, "counterparty": pattern.worker}
    return pattern.model_copy(update={**changes, "units": FORGED_UNITS})


def _changed(
    data: EpochData, more: tuple[PaidReceipt, ...], granted: dict[str, int], domain: Domain
) -> EpochData:
    """`data` with `more` receipts and other payouts, all in order."""
    totals = {item.account: item.cumulative for item in data.payouts}
    for account, wei in granted.items():
        totals[account] = totals.get(account, 0) + wei

    def place(item: PaidReceipt) -> tuple[bytes, bytes]:
        return address_bytes(item.account), item.receipt.digest(domain)

    return data.model_copy(
        update={
            "receipts": tuple(sorted((*data.receipts, *more), key=place)),
            "payouts": tuple(
                PaidAccount(account=account, cumulative=totals[account])
                for account in sorted(totals, key=address_bytes)
                if totals[account]
            ),
        }
    )
