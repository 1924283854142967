"""From accepted receipts to what an epoch pays.

A receipt earns `units * rate` (wei; a unit of work is one layer for one token) for the account that
owns its worker. The rate is the pool's, or, where the unspent budget does not stretch that far, the
most that it allows, the same for everybody. Payouts are cumulative over epochs, so a claim that was
missed costs nothing.

Everything is a pure function of its inputs, in integers, and independent of their order: validators
that accepted the same units sign the same root.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from proofs.encoding.eip712 import Domain
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.signing import address_bytes
from proofs.errors import ProofError
from proofs.settlement.epoch_data import Epoch, EpochData, PaidAccount, PaidReceipt, make


class EpochError(ProofError):
    """Receipts or settings that make no epoch; the message says which."""


def rate_for(price: int, available: int, units: int) -> int:
    """Wei a unit: `price`, or what `available` (wei) allows. As `ReceiptSettlement` checks it."""
    return min(price, available // units)


def rate_is_fair(rate: int, price: int, available: int, units: int) -> bool:
    """Whether the contract takes this rate: the price, or what is affordable, or up to a tenth less
    than that, so that a deposit made after signing does not undo what was signed."""
    affordable = available // units
    fair = rate == price or rate >= affordable - affordable // 10
    return 0 < rate <= min(price, affordable) and fair


def build_epoch(
    receipts: Iterable[SignedReceipt],
    owners: Mapping[str, str],
    *,
    domain: Domain,
    pool_id: int,
    epoch: int,
    price: int,
    available: int,
    earned: Mapping[str, int],
    attempt: int = 0,
) -> Epoch:
    """Settle one epoch of a pool.

    `owners` maps workers to the accounts that are paid, `price` is the pool's wei a unit,
    `available` what of its budget no root has promised, `earned` the cumulative payouts so far;
    another `attempt` gives another root of the same content.
    Raises EpochError for no receipts, a worker without an owner, a receipt of another pool or of a
    later epoch, a receipt without two valid signatures, two receipts for one stage of one unit, or
    a budget that pays nothing. That a unit is not settled in two epochs is for the caller to see
    to.
    """
    chosen = [(owners.get(item.receipt.worker, ""), item) for item in receipts]
    if not chosen:
        raise EpochError("an epoch needs at least one receipt")
    for account, item in chosen:
        _check(account, item, domain, pool_id, epoch)
    if len({(i.receipt.job_id, i.receipt.stage) for _, i in chosen}) != len(chosen):
        raise EpochError("two receipts claim the same stage of the same unit")
    rate = rate_for(price, available, sum(item.receipt.units for _, item in chosen))
    if rate <= 0:
        raise EpochError(f"the budget of pool {pool_id} is spent; fund it")
    totals = dict(earned)
    for account, item in chosen:
        totals[account] = totals.get(account, 0) + item.receipt.units * rate
    data = EpochData(
        pool_id=pool_id,
        epoch=epoch,
        attempt=attempt,
        rate=rate,
        receipts=tuple(
            PaidReceipt(
                account=account,
                receipt=item.receipt,
                worker_signature=item.worker_signature,
                counter_signature=item.counter_signature,
            )
            for account, item in sorted(chosen, key=lambda one: _order(one[0], one[1], domain))
        ),
        payouts=tuple(
            PaidAccount(account=account, cumulative=totals[account])
            for account in by_address(totals)
        ),
    )
    return make(data, domain)


def by_address(accounts: Collection[str]) -> list[str]:
    """Accounts in the order in which the trees have them."""
    return sorted(accounts, key=address_bytes)


def _order(account: str, item: SignedReceipt, domain: Domain) -> tuple[bytes, bytes]:
    return address_bytes(account), item.receipt.digest(domain)


def _check(account: str, item: SignedReceipt, domain: Domain, pool_id: int, epoch: int) -> None:
    receipt = item.receipt
    if not account:
        raise EpochError(f"worker {receipt.worker} belongs to no provider")
    if receipt.pool_id != pool_id:
        raise EpochError(f"a receipt is not for pool {pool_id}")
    if receipt.epoch > epoch:
        raise EpochError(f"a receipt is for epoch {receipt.epoch}, after {epoch}")
    if receipt.units == 0:
        raise EpochError("a receipt is for no work")
    if not item.valid(domain):
        raise EpochError(f"a receipt of {receipt.worker} lacks a valid signature")
