"""Epochs pay what receipts earned, within the budget, whatever the order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.encoding.leaves import SignedReceipt
from proofs.settlement.epoch import EpochError, rate_for, rate_is_fair
from tests.proofs.settlement.epochs import KEYS, OWNERS, PRICE, PROVIDERS, WORKERS, settled, signed
from tests.proofs.units import DOMAIN

STRANGER = "0x" + "0" * 39 + "1"


def test_payouts_are_units_times_price_on_top_of_what_was_earned() -> None:
    receipts = [signed(1, 0), signed(1, 1, 20), signed(2, 0, 5)]
    epoch = settled(receipts, earned={PROVIDERS[0]: 100, STRANGER: 9})
    assert epoch.earned == {PROVIDERS[0]: 100 + 15 * 7, PROVIDERS[1]: 140, STRANGER: 9}
    assert epoch.root.total_payout == 100 + 15 * 7 + 140 + 9
    assert epoch.root.previous_total == 109
    assert (epoch.root.pool_id, epoch.root.epoch, epoch.root.receipt_count) == (1, 1, 3)
    assert (epoch.root.rate, epoch.root.total_units) == (PRICE, 35)


def test_workers_of_one_provider_share_its_leaf() -> None:
    owners = dict.fromkeys(WORKERS, PROVIDERS[0])
    epoch = settled([signed(1, 0), signed(1, 1), signed(1, 2)], owners=owners)
    assert epoch.earned == {PROVIDERS[0]: 210}


def test_a_short_budget_pays_everybody_by_the_same_rate() -> None:
    epoch = settled([signed(1, 0, 30), signed(1, 1, 70)], available=350)
    assert epoch.root.rate == 3
    assert epoch.earned == {PROVIDERS[0]: 90, PROVIDERS[1]: 210}


@given(st.integers(1, 10**20), st.integers(0, 10**30), st.integers(1, 10**12))
def test_the_rate_is_the_most_that_is_fair(price: int, available: int, units: int) -> None:
    rate = rate_for(price, available, units)
    assert rate * units <= available
    assert rate <= price
    assert rate == 0 or rate_is_fair(rate, price, available, units)
    assert not rate_is_fair(rate + 1, price, available, units)
    # A small deposit between signing and posting undoes nothing.
    assert rate < 40 or rate_is_fair(rate, price, available + available // 20, units)


@pytest.mark.parametrize(
    ("rate", "fair"), [(100, True), (90, True), (89, False), (101, False), (0, False)]
)
def test_up_to_a_tenth_below_a_short_budget_is_fair(rate: int, fair: bool) -> None:
    assert rate_is_fair(rate, price=1_000, available=1_000, units=10) is fair


JOBS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(1, 10**6)),
    min_size=1,
    max_size=8,
    unique_by=lambda item: item[:2],
)


@settings(deadline=None, max_examples=25)
@given(JOBS, st.randoms(use_true_random=False), st.integers(10**7, 10**9))
def test_any_order_gives_one_root_within_the_budget(
    jobs: list[tuple[int, int, int]], random: Any, budget: int
) -> None:
    receipts = [signed(*job) for job in jobs]
    earned = {PROVIDERS[2]: 11, STRANGER: 1}
    epoch = settled(receipts, available=budget, earned=earned)
    shuffled = list(receipts)
    random.shuffle(shuffled)
    again = settled(shuffled, available=budget, earned=dict(reversed(earned.items())))
    assert again.content == epoch.content
    assert again.root == epoch.root
    assert epoch.root.total_payout - 12 <= budget
    assert all(epoch.earned[account] >= before for account, before in earned.items())


def spoilt(item: SignedReceipt, **changes: Any) -> SignedReceipt:
    return SignedReceipt(
        item.receipt.model_copy(update=changes), item.worker_signature, item.counter_signature
    )


@pytest.mark.parametrize(
    ("receipts", "changes", "reason"),
    [
        ([], {}, "at least one"),
        ([signed(1), signed(1, units=11)], {}, "same stage"),
        ([signed(1, pool_id=2)], {}, "not for pool 1"),
        ([signed(1, epoch=2)], {}, "for epoch 2"),
        ([signed(1, units=0)], {}, "no work"),
        ([signed(1)], {"owners": {}}, "no provider"),
        ([signed(1)], {"available": 9}, "fund it"),
        ([spoilt(signed(1), units=11)], {}, "valid signature"),
        ([SignedReceipt(signed(1).receipt, b"\0" * 65, b"\0" * 65)], {}, "valid signature"),
    ],
)
def test_unusable_epochs_are_refused(
    receipts: list[SignedReceipt], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(EpochError, match=reason):
        settled(receipts, **changes)


def test_nobody_countersigns_himself() -> None:
    own = signed(1, counterparty=WORKERS[0]).receipt
    item = SignedReceipt(own, own.sign(KEYS[0], DOMAIN), own.sign(KEYS[0], DOMAIN))
    with pytest.raises(EpochError, match="valid signature"):
        settled([item], owners=OWNERS)
