"""Whether a posted root is right, and if not, what the chain can be asked or shown about it.

Pure: facts of the chain (the root, who owns which node, what earlier epochs paid) come in as
arguments. A root that passes here can answer every dispute; one that does not has a fault that
nobody can answer, or that proves itself. `docs/decisions/0012-disputable-epochs.md` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proofs.encoding.eip712 import Domain
from proofs.encoding.receipts import EpochRoot
from proofs.encoding.signing import address_bytes
from proofs.settlement.epoch_data import Epoch

Work = tuple[bytes, int]
"""(job id, stage): paid once in a pool."""


UNSIGNED = "it is not signed by both sides"
"""Of a receipt as it was published: its signers could have a right one nevertheless."""


@dataclass(frozen=True)
class BadReceipt:
    """Leaf `index` cannot be answered for."""

    index: int
    reason: str


@dataclass(frozen=True)
class BadPayout:
    """The account is granted `amount` (wei; None: nothing) and not `due`, which is what it had
    before plus what it earned."""

    account: str
    amount: int | None
    due: int


@dataclass(frozen=True)
class CountedTwice:
    """Leaf `index` pays for what leaf `other_index` of `other_epoch` pays for."""

    index: int
    other_epoch: int
    other_index: int


@dataclass(frozen=True)
class Unfounded:
    """The published data do not make this root: something else is behind it."""

    reason: str


Fault = BadReceipt | BadPayout | CountedTwice | Unfounded


@dataclass(frozen=True)
class AuditFacts:
    """What the chain and earlier epochs say.

    `owners` maps a node to its provider, and has no entry for a stranger. `creator` is the pool's.
    `earned` are the payouts of the epoch before, `paid` maps work to the (epoch, index) that paid
    it.
    """

    domain: Domain
    creator: str
    owners: Mapping[str, str]
    earned: Mapping[str, int]
    paid: Mapping[Work, tuple[int, int]]


def audit(root: EpochRoot, epoch: Epoch | None, facts: AuditFacts) -> list[Fault]:
    """All faults of a posted root, the plainest first; empty when it is right.

    `epoch` is what was rebuilt from the published data, None where they cannot be had.
    """
    if epoch is None:
        return [Unfounded("its leaves were not published")]
    if epoch.root.receipts_root != root.receipts_root:
        return [Unfounded("the published receipts are others")]
    if epoch.root.payouts_root != root.payouts_root:
        return [Unfounded("the published payouts are others")]
    if epoch.root.receipt_count < root.receipt_count:
        return [BadReceipt(epoch.root.receipt_count, "there is no such leaf")]
    if epoch.root.receipt_count != root.receipt_count:
        return [Unfounded("it states another number of receipts")]
    faults: list[Fault] = [*_counted_twice(root.epoch, epoch, facts)]
    faults += _receipts(root, epoch, facts)
    faults += _payouts(root, epoch, facts)
    return faults


def _counted_twice(number: int, epoch: Epoch, facts: AuditFacts) -> list[CountedTwice]:
    found, seen = [], dict(facts.paid)
    for index, work in enumerate(epoch.work):
        if work in seen:
            found.append(CountedTwice(index, *seen[work]))
        seen.setdefault(work, (number, index))
    return found


def _receipts(root: EpochRoot, epoch: Epoch, facts: AuditFacts) -> list[BadReceipt]:
    found = []
    before: tuple[bytes, bytes] | None = None
    for leaf, item in zip(epoch.leaves, epoch.data.receipts, strict=True):
        receipt, rank = item.receipt, (address_bytes(leaf.account), leaf.receipt)
        known = receipt.counterparty in facts.owners or receipt.counterparty == facts.creator
        checks = {
            "it is for another pool": receipt.pool_id == root.pool_id,
            "it is for a later epoch": receipt.epoch <= root.epoch,
            "it is for no work": receipt.units > 0,
            UNSIGNED: item.signed.valid(facts.domain),
            "it pays another account": facts.owners.get(receipt.worker) == leaf.account,
            "a stranger countersigned it": known,
            "it is out of order": before is None or before < rank,
        }
        found += [BadReceipt(leaf.index, reason) for reason, held in checks.items() if not held]
        before = rank
    last = epoch.leaves[-1]
    if last.epoch_units != root.total_units:
        found.append(BadReceipt(last.index, "the total of units is another"))
    return found


def _payouts(root: EpochRoot, epoch: Epoch, facts: AuditFacts) -> list[BadPayout]:
    """Every leaf that grants something else than is due, and every account left without one. No
    two leaves can be equal, and of two different ones for an account one is wrong."""
    granted: dict[str, list[int]] = {}
    for item in epoch.data.payouts:
        granted.setdefault(item.account, []).append(item.cumulative)
    found = []
    for account in sorted({*granted, *facts.earned, *epoch.units}, key=address_bytes):
        due = facts.earned.get(account, 0) + epoch.units_of(account) * root.rate
        amounts: list[int | None] = [*granted.get(account, [])]
        if not amounts and due:
            amounts = [None]
        found += [BadPayout(account, amount, due) for amount in amounts if amount != due]
    return found
