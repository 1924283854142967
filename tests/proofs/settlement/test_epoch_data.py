"""Published data rebuild the root, to the byte, and every leaf proves into it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.encoding.canonical import CanonicalError
from proofs.encoding.leaves import ProvenLeaf, WorkLeaf
from proofs.encoding.merkle import MerkleError, payout_leaf, verify
from proofs.encoding.signing import address_bytes, checksum_address
from proofs.settlement.epoch_data import (
    Epoch,
    EpochData,
    EpochDataError,
    PaidAccount,
    data_hash,
    make,
    rebuild,
)
from tests.proofs.settlement.epochs import PROVIDERS, settled, signed
from tests.proofs.units import DOMAIN

NOBODY = "0x" + "0" * 39 + "1"
EPOCH = settled([signed(job, stage, 10 + job) for job in range(4) for stage in range(5)])


def test_the_bytes_rebuild_the_epoch() -> None:
    again = rebuild(EPOCH.content, DOMAIN)
    assert again == EPOCH
    assert (
        EPOCH.root.data_hash == data_hash(EPOCH.content) == hashlib.sha256(EPOCH.content).digest()
    )


def test_leaves_are_sorted_numbered_and_summed() -> None:
    before: WorkLeaf | None = None
    for number, leaf in enumerate(EPOCH.leaves):
        units = EPOCH.data.receipts[number].receipt.units
        same = before is not None and before.account == leaf.account
        assert leaf.index == number
        assert leaf.epoch_units == units + (before.epoch_units if before else 0)
        assert leaf.account_units == units + (before.account_units if before and same else 0)
        if before is not None:
            assert (address_bytes(before.account), before.receipt) < (
                address_bytes(leaf.account),
                leaf.receipt,
            )
        before = leaf
    assert before is not None
    assert before.epoch_units == EPOCH.root.total_units


def test_every_leaf_and_payout_is_proven_and_no_other() -> None:
    for number in range(EPOCH.root.receipt_count):
        proven = EPOCH.leaf(number)
        assert verify(EPOCH.root.receipts_root, proven.leaf.hash(), proven.proof)
        other = replace(proven.leaf, account_units=proven.leaf.account_units + 1)
        assert not verify(EPOCH.root.receipts_root, other.hash(), proven.proof)
        # In index order, a leaf's depth follows from its index: the contract asks for that.
        nodes = 2 * EPOCH.root.receipt_count - 1
        assert len(proven.proof) == (nodes - number).bit_length() - 1
    for account, amount in EPOCH.earned.items():
        payout = EPOCH.payout(account)
        assert payout is not None
        assert payout.cumulative == amount
        assert verify(EPOCH.root.payouts_root, payout_leaf(account, amount), payout.proof)
    assert EPOCH.payout(NOBODY) is None
    with pytest.raises((MerkleError, IndexError)):
        EPOCH.leaf(EPOCH.root.receipt_count)


def test_an_answer_shows_the_two_leaves_around_the_accounts_end() -> None:
    previous = settled([signed(90, 0)])
    for account in [*PROVIDERS, NOBODY, checksum_address(b"\xff" * 20)]:
        answer = EPOCH.answer(account, previous)
        own = [leaf for leaf in EPOCH.leaves if leaf.account == account]
        around: list[ProvenLeaf | None] = [answer.last, answer.next]
        places = [item.leaf.index if item else None for item in around]
        if own:
            assert places[0] == own[-1].index
            assert own[-1].account_units == EPOCH.units_of(account)
        first = places[1] if places[1] is not None else len(EPOCH.leaves)
        assert first == (places[0] + 1 if places[0] is not None else 0)
        assert answer.payout.cumulative == EPOCH.earned.get(account, 0)
        before = previous.payout(account)
        assert (answer.previous is None) == (before is None)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(EPOCH.content) - 1), st.integers(1, 255))
def test_no_flipped_byte_passes_for_the_same_root(place: int, change: int) -> None:
    spoilt = bytearray(EPOCH.content)
    spoilt[place] ^= change
    try:
        found = rebuild(bytes(spoilt), DOMAIN)
    except (CanonicalError, EpochDataError):
        return
    assert found.root != EPOCH.root


@pytest.mark.parametrize("content", [b"", b"\xc0", EPOCH.content[:-1], EPOCH.content + b"\0"])
def test_what_is_no_epoch_is_refused(content: bytes) -> None:
    with pytest.raises(CanonicalError):
        rebuild(content, DOMAIN)


def with_payouts(*payouts: PaidAccount) -> EpochData:
    return EPOCH.data.model_copy(update={"payouts": payouts})


def test_equal_leaves_and_sums_beyond_their_type_make_no_trees() -> None:
    one = PaidAccount(account=PROVIDERS[0], cumulative=1)
    with pytest.raises(EpochDataError, match="distinct"):
        make(with_payouts(one, one), DOMAIN)
    large = PaidAccount(account=PROVIDERS[1], cumulative=2**256 - 1)
    with pytest.raises(EpochDataError, match="too large"):
        make(with_payouts(one, large), DOMAIN)


def test_two_leaves_of_one_account_are_kept_apart() -> None:
    payouts = [PaidAccount(account=PROVIDERS[0], cumulative=amount) for amount in (1, 2)]
    epoch: Epoch = make(with_payouts(*payouts), DOMAIN)
    assert [p.cumulative for p in epoch.payouts_of(PROVIDERS[0])] == [1, 2]
    for payout in epoch.payouts_of(PROVIDERS[0]):
        leaf = payout_leaf(PROVIDERS[0], payout.cumulative)
        assert verify(epoch.root.payouts_root, leaf, payout.proof)
