"""An honest root passes; of a root with one thing wrong, that thing is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.signing import address_bytes
from proofs.settlement.audit import (
    AuditFacts,
    BadPayout,
    BadReceipt,
    CountedTwice,
    Fault,
    Unfounded,
    audit,
)
from proofs.settlement.epoch_data import Epoch, EpochData, PaidAccount, PaidReceipt, make
from tests.proofs.settlement.epochs import (
    CREATOR,
    KEYS,
    OWNERS,
    PROVIDERS,
    WORKERS,
    facts,
    settled,
    signed,
)
from tests.proofs.units import DOMAIN

EARNED = {PROVIDERS[0]: 100, PROVIDERS[2]: 5}
EPOCH = settled([signed(job, stage, 10) for job in range(3) for stage in range(3)], earned=EARNED)
FACTS = facts(EARNED)


def found(epoch: Epoch, known: AuditFacts = FACTS) -> list[Fault]:
    """What the audit says of a root that was made of just these data."""
    return audit(epoch.root, epoch, known)


def remade(**changes: Any) -> Epoch:
    return make(EPOCH.data.model_copy(update=changes), DOMAIN)


def paid(item: SignedReceipt, account: str | None = None) -> PaidReceipt:
    return PaidReceipt(
        account=account or OWNERS.get(item.receipt.worker, PROVIDERS[0]),
        receipt=item.receipt,
        worker_signature=item.worker_signature,
        counter_signature=item.counter_signature,
    )


def with_receipt(item: PaidReceipt) -> Epoch:
    """With one more receipt, in its place, and paid for."""

    def place(one: PaidReceipt) -> tuple[bytes, bytes]:
        return address_bytes(one.account), one.receipt.digest(DOMAIN)

    receipts = tuple(sorted([*EPOCH.data.receipts, item], key=place))
    more = item.receipt.units * EPOCH.root.rate
    payouts = {**EPOCH.earned, item.account: EPOCH.earned.get(item.account, 0) + more}
    return remade(receipts=receipts, payouts=as_payouts(payouts))


def as_payouts(amounts: dict[str, int]) -> tuple[PaidAccount, ...]:
    return tuple(PaidAccount(account=a, cumulative=v) for a, v in amounts.items())


def test_an_honest_root_has_no_fault() -> None:
    assert found(EPOCH) == []
    alone = signed(9, 0, counterparty=CREATOR).receipt
    item = SignedReceipt(alone, alone.sign(KEYS[0], DOMAIN), alone.sign(KEYS[1], DOMAIN))
    assert any("both sides" in str(fault) for fault in found(with_receipt(paid(item))))


def test_without_data_or_with_others_it_is_unfounded() -> None:
    for epoch in (None, settled([signed(1)])):
        faults = audit(EPOCH.root, epoch, FACTS)
        assert [type(fault) for fault in faults] == [Unfounded]
    other = settled([signed(job, stage) for job in range(3) for stage in range(3)])
    assert isinstance(audit(EPOCH.root, other, FACTS)[0], Unfounded)
    counted = EPOCH.root.model_copy(update={"receipt_count": 8})
    assert isinstance(audit(counted, EPOCH, FACTS)[0], Unfounded)


FORGED = SignedReceipt(signed(7).receipt, signed(7).worker_signature, signed(8).counter_signature)
FOREIGN = signed(7, pool_id=2)
LATER = signed(7, epoch=2)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (paid(FORGED), "both sides"),
        (paid(FOREIGN), "another pool"),
        (paid(LATER), "later epoch"),
        (paid(signed(7, 0, 0)), "no work"),
        (paid(signed(7), PROVIDERS[1]), "another account"),
    ],
)
def test_a_bad_receipt_is_found_at_its_index(item: PaidReceipt, reason: str) -> None:
    epoch = with_receipt(item)
    faults = found(epoch)
    assert len(faults) == 1
    assert isinstance(faults[0], BadReceipt)
    assert epoch.data.receipts[faults[0].index] == item
    assert reason in faults[0].reason


def test_a_stranger_is_no_counterparty_and_the_owner_is() -> None:
    known = AuditFacts(DOMAIN, WORKERS[3], {w: OWNERS[w] for w in WORKERS[:3]}, EARNED, {})
    assert found(EPOCH, known) == []  # stage 2 is countersigned by worker 3, the pool's owner
    unknown = AuditFacts(DOMAIN, CREATOR, {w: OWNERS[w] for w in WORKERS[:3]}, EARNED, {})
    assert {type(fault) for fault in found(EPOCH, unknown)} == {BadReceipt}
    assert len(found(EPOCH, unknown)) == 3


def test_leaves_out_of_order_are_found() -> None:
    receipts = (*EPOCH.data.receipts[1:], EPOCH.data.receipts[0])
    faults = found(remade(receipts=receipts))
    assert BadReceipt(8, "it is out of order") in faults


def test_work_that_was_paid_is_found_in_any_epoch() -> None:
    first = EPOCH.data.receipts[0].receipt
    known = facts(EARNED, {(first.job_id, first.stage): (4, 17)})
    assert found(EPOCH, known)[0] == CountedTwice(0, 4, 17)
    again = signed(0, 0, 10, seq=1)
    epoch = with_receipt(paid(again))
    fault = found(epoch)[0]
    assert isinstance(fault, CountedTwice)
    assert fault.other_epoch == epoch.root.epoch
    assert fault.index != fault.other_index


def raised(account: str, by: int) -> Callable[[dict[str, int]], dict[str, int]]:
    return lambda amounts: {**amounts, account: amounts.get(account, 0) + by}


STRANGER = WORKERS[4]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (raised(PROVIDERS[0], 1), BadPayout(PROVIDERS[0], 311, 310)),
        (raised(PROVIDERS[1], -1), BadPayout(PROVIDERS[1], 209, 210)),
        (raised(STRANGER, 50), BadPayout(STRANGER, 50, 0)),
        (
            lambda amounts: {a: v for a, v in amounts.items() if a != PROVIDERS[2]},
            BadPayout(PROVIDERS[2], None, 215),
        ),
    ],
)
def test_a_bad_payout_is_found_by_account(
    change: Callable[[dict[str, int]], dict[str, int]], fault: BadPayout
) -> None:
    assert found(remade(payouts=as_payouts(change(EPOCH.earned)))) == [fault]


def test_of_two_payouts_of_one_account_the_wrong_one_is_found() -> None:
    payouts = (*EPOCH.data.payouts, PaidAccount(account=PROVIDERS[0], cumulative=10**6))
    assert found(remade(payouts=payouts)) == [BadPayout(PROVIDERS[0], 10**6, 310)]


def test_a_total_that_the_leaves_do_not_make_is_found() -> None:
    root = EPOCH.root.model_copy(update={"total_units": EPOCH.root.total_units + 1})
    assert BadReceipt(8, "the total of units is another") in audit(root, EPOCH, FACTS)


def test_the_data_model_keeps_what_it_is_given() -> None:
    assert EpochData.from_bytes(EPOCH.content) == EPOCH.data
