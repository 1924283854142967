"""Epochs pay what receipts earned, within the budget, whatever the order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.epoch import Epoch, EpochError, cap, settle
from proofs.merkle import MerkleTree, payout_leaf, receipt_leaf, verify
from proofs.receipts import Receipt
from proofs.signing import SigningError, checksum_address
from tests.proofs.units import DOMAIN

WORKERS = [checksum_address(bytes([n]) * 20) for n in range(1, 6)]
PROVIDER = checksum_address(b"\xee" * 20)


def receipt(job: int, stage: int = 0, units: int = 10, **changes: Any) -> Receipt:
    fields = {
        "job_id": job.to_bytes(32, "big"),
        "worker": WORKERS[stage % 5],
        "pool_id": 1,
        "stage": stage,
        "seq": 0,
        "counterparty": WORKERS[(stage + 1) % 5],
        "epoch": 3,
        "units": units,
        "commitment": bytes(32),
    }
    return Receipt.model_validate(fields | changes)


def settled(receipts: list[Receipt], **changes: Any) -> Epoch:
    options: dict[str, Any] = {
        "domain": DOMAIN,
        "pool_id": 1,
        "epoch": 3,
        "price": 7,
        "budget": 10**30,
        "earned": {},
    }
    accounts = changes.pop("accounts", {})
    return settle(receipts, accounts, **(options | changes))


def test_payouts_are_units_times_price_on_top_of_what_was_earned() -> None:
    epoch = settled(
        [receipt(1, 0), receipt(1, 1, 20), receipt(2, 0, 5)], earned={WORKERS[0]: 100, PROVIDER: 9}
    )
    assert epoch.cumulative() == {WORKERS[0]: 100 + 15 * 7, WORKERS[1]: 140, PROVIDER: 9}
    assert epoch.root.total_payout == 100 + 15 * 7 + 140 + 9
    assert (epoch.root.pool_id, epoch.root.epoch) == (1, 3)


def test_workers_of_one_provider_share_its_leaf() -> None:
    accounts = {WORKERS[0]: PROVIDER, WORKERS[1]: PROVIDER}
    epoch = settled([receipt(1, 0), receipt(1, 1), receipt(1, 2)], accounts=accounts)
    assert epoch.cumulative() == {PROVIDER: 140, WORKERS[2]: 70}


@st.composite
def receipt_lists(draw: st.DrawFn) -> list[Receipt]:
    keys = draw(
        st.lists(
            st.tuples(st.integers(0, 30), st.integers(0, 4)), min_size=1, max_size=25, unique=True
        )
    )
    return [receipt(job, stage, draw(st.integers(0, 2**128 - 1))) for job, stage in keys]


@settings(deadline=None, max_examples=60)
@given(receipt_lists(), st.randoms(), st.integers(0, 10**40), st.integers(0, 10**6))
def test_any_order_gives_one_root_within_the_budget(
    receipts: list[Receipt], random: Any, budget: int, price: int
) -> None:
    earned = {WORKERS[2]: 11, PROVIDER: 1}
    epoch = settled(receipts, budget=budget, price=price, earned=earned)
    shuffled = list(receipts)
    random.shuffle(shuffled)
    again = dict(reversed(earned.items()))
    assert settled(shuffled, budget=budget, price=price, earned=again) == epoch
    assert sum(epoch.cumulative().values()) == epoch.root.total_payout
    assert epoch.root.total_payout - 12 <= budget
    for payout in epoch.payouts:
        assert payout.cumulative >= earned.get(payout.account, 0)
        leaf = payout_leaf(payout.account, payout.cumulative)
        assert verify(epoch.root.payouts_root, leaf, payout.proof)
        assert not verify(
            epoch.root.payouts_root,
            payout_leaf(payout.account, payout.cumulative + 1),
            payout.proof,
        )
    tree = MerkleTree.of([receipt_leaf(digest) for digest in epoch.receipts])
    assert tree.root == epoch.root.receipts_root
    assert set(epoch.receipts) == {item.digest(DOMAIN) for item in receipts}


amounts = st.dictionaries(st.sampled_from(WORKERS), st.integers(0, 10**30), min_size=1)


@given(amounts, st.integers(0, 10**31))
def test_a_cap_never_exceeds_the_budget_or_pays_more(wanted: dict[str, int], budget: int) -> None:
    capped = cap(wanted, budget)
    assert sum(capped.values()) <= budget
    assert all(capped[account] <= amount for account, amount in wanted.items())
    if sum(wanted.values()) <= budget:
        assert capped == wanted
    else:
        assert budget - sum(capped.values()) < len(wanted)  # only rounding stays behind


def test_the_data_hash_covers_receipts_and_payouts() -> None:
    roots = [
        settled([receipt(1)]).root,
        settled([receipt(2)]).root,
        settled([receipt(1)], price=8).root,
        settled([receipt(1)], earned={PROVIDER: 0}).root,
    ]
    assert len({root.data_hash for root in roots}) == len(roots)


def test_a_payout_is_found_by_account() -> None:
    epoch = settled([receipt(1)])
    payout = epoch.payout(WORKERS[0])
    assert payout is not None
    assert payout.cumulative == 70
    assert epoch.payout(PROVIDER) is None


def test_unusable_epochs_are_refused() -> None:
    with pytest.raises(EpochError, match="at least one"):
        settled([])
    with pytest.raises(EpochError, match="same stage"):
        settled([receipt(1), receipt(1, units=11)])
    with pytest.raises(EpochError, match="pool 1"):
        settled([receipt(1, pool_id=2)])
    for changes in ({"price": -1}, {"budget": -1}, {"earned": {PROVIDER: -1}}):
        with pytest.raises(EpochError, match="negative"):
            settled([receipt(1)], **changes)
    with pytest.raises(SigningError):
        settled([receipt(1)], accounts={WORKERS[0]: "nobody"})
