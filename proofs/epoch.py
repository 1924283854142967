"""From accepted units to what an epoch pays.

A receipt earns `units * price` (wei; a unit of work is one layer for one token) for the account
that its worker's provider named. When an epoch would cost more than its budget, every account is
scaled down by the same fraction, rounded down; the remainder stays in the pool. Nothing is ever
scaled up. Payouts are cumulative over epochs, so a claim that was missed costs nothing.

Everything is a pure function of its inputs, in integers, and independent of their order:
validators that accepted the same units sign the same root. `data_hash` commits to the receipts
and payouts behind the two Merkle roots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgpack

from proofs.eip712 import Domain
from proofs.errors import ProofError
from proofs.merkle import MerkleTree, payout_leaf, receipt_leaf
from proofs.receipts import EpochRoot, Receipt
from proofs.signing import address_bytes


class EpochError(ProofError):
    """Receipts or settings that make no epoch; the message says which."""


@dataclass(frozen=True)
class Payout:
    """One leaf of the payouts tree: what `account` may have claimed in total, in wei."""

    account: str
    cumulative: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class Epoch:
    """A settled epoch: the root to sign, every account's leaf, and the receipts' digests."""

    root: EpochRoot
    payouts: tuple[Payout, ...]
    receipts: tuple[bytes, ...]

    def payout(self, account: str) -> Payout | None:
        """The leaf of `account`, if it has ever earned anything."""
        return next((payout for payout in self.payouts if payout.account == account), None)

    def cumulative(self) -> dict[str, int]:
        """What `settle` takes as `earned` for the next epoch."""
        return {payout.account: payout.cumulative for payout in self.payouts}


def settle(
    receipts: Iterable[Receipt],
    accounts: Mapping[str, str],
    *,
    domain: Domain,
    pool_id: int,
    epoch: int,
    price: int,
    budget: int,
    earned: Mapping[str, int],
) -> Epoch:
    """Settle one epoch of a pool.

    `accounts` maps a worker's address to the account that is paid (its own when absent), `price`
    is wei a unit, `budget` the most this epoch may add, `earned` the cumulative payouts so far.
    Raises EpochError for no receipts, a receipt of another pool, two receipts for one stage of one
    unit, or negative settings; SigningError for an account that is no EIP-55 address. That a unit
    is not settled in two epochs is for the caller to see to.
    """
    chosen = sorted(receipts, key=lambda receipt: receipt.digest(domain))
    if not chosen:
        raise EpochError("an epoch needs at least one receipt")
    if price < 0 or budget < 0 or any(amount < 0 for amount in earned.values()):
        raise EpochError("price, budget and earned amounts must not be negative")
    if any(receipt.pool_id != pool_id for receipt in chosen):
        raise EpochError(f"a receipt is not for pool {pool_id}")
    if len({(receipt.job_id, receipt.stage) for receipt in chosen}) != len(chosen):
        raise EpochError("two receipts claim the same stage of the same unit")
    fresh: dict[str, int] = {}
    for receipt in chosen:
        account = accounts.get(receipt.worker, receipt.worker)
        fresh[account] = fresh.get(account, 0) + receipt.units * price
    capped = cap(fresh, budget)
    totals = {
        account: earned.get(account, 0) + capped.get(account, 0)
        for account in sorted({*earned, *capped}, key=address_bytes)
    }
    digests = tuple(receipt.digest(domain) for receipt in chosen)
    receipts_tree = MerkleTree.of([receipt_leaf(digest) for digest in digests])
    payouts_tree = MerkleTree.of([payout_leaf(*item) for item in totals.items()])
    root = EpochRoot(
        pool_id=pool_id,
        epoch=epoch,
        receipts_root=receipts_tree.root,
        payouts_root=payouts_tree.root,
        total_payout=sum(totals.values()),
        data_hash=data_hash(digests, totals),
    )
    payouts = tuple(
        Payout(account, amount, payouts_tree.proof(place))
        for place, (account, amount) in enumerate(totals.items())
    )
    return Epoch(root, payouts, digests)


def cap(amounts: Mapping[str, int], budget: int) -> dict[str, int]:
    """`amounts` scaled down, never up, so that their sum is at most `budget`; rounded down."""
    total = sum(amounts.values())
    if total <= budget:
        return dict(amounts)
    return {account: amount * budget // total for account, amount in amounts.items()}


def data_hash(receipt_digests: tuple[bytes, ...], totals: Mapping[str, int]) -> bytes:
    """sha256 of the canonical list of receipt digests and (account, 32-byte cumulative) pairs."""
    payouts = [
        (address_bytes(account), total.to_bytes(32, "big")) for account, total in totals.items()
    ]
    return hashlib.sha256(msgpack.packb([list(receipt_digests), payouts])).digest()
