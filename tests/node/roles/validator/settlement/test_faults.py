"""What a validator makes of an epoch: what it signs, and what it raises about a posted one."""

from __future__ import annotations

from node.roles.validator.settlement.cosigner import torn_apart, unaccepted
from node.roles.validator.settlement.disputes import plain_and_doubtful
from node.settlement.history import PoolHistory, PostedEpoch
from proofs.encoding.leaves import PostedRoot
from proofs.settlement.audit import BadPayout, BadReceipt, audit
from proofs.settlement.epoch_data import make
from tests.proofs.settlement.epochs import DOMAIN, PROVIDERS, facts, settled, signed

UNIT = {(1).to_bytes(32, "big"): (signed(1), signed(1, 1))}


def posted(history: PoolHistory, root: PostedRoot, block: int = 1) -> None:
    assert history.post(PostedEpoch(root, 100, block, "0x00"))


def test_a_unit_is_paid_with_all_its_receipts_or_not_at_all() -> None:
    whole, part = settled([signed(1), signed(1, 1)]), settled([signed(1)])
    assert not torn_apart(whole, UNIT)
    assert torn_apart(part, UNIT)
    assert unaccepted(part, UNIT) == ()
    assert unaccepted(settled([signed(2)]), UNIT) == ((2).to_bytes(32, "big"),)


def test_a_missing_signature_is_doubted_after_what_nobody_can_answer() -> None:
    right = settled([signed(1), signed(1, 1), signed(2, 2)])
    receipts = list(right.data.receipts)
    receipts[0] = receipts[0].model_copy(update={"counter_signature": bytes(65)})
    receipts[1] = receipts[1].model_copy(
        update={"account": receipts[2].account, "worker_signature": bytes(65)}
    )
    wrong = make(right.data.model_copy(update={"receipts": tuple(receipts)}), DOMAIN)
    plain, doubtful = plain_and_doubtful(audit(wrong.root, wrong, facts()))
    assert {fault.index for fault in doubtful if isinstance(fault, BadReceipt)} == {0, 1}
    assert any(isinstance(fault, BadReceipt) and fault.index == 1 for fault in plain)
    assert any(isinstance(fault, BadPayout) for fault in plain)


def test_sums_that_a_root_states_beside_its_trees_are_audited() -> None:
    """Else leaving an account out, with the total that the contract asks for, could be answered by
    any leaf that somebody happens to ask about."""
    right = settled([signed(1), signed(1, 1)])
    left_out = right.data.payouts[0].account
    data = right.data.model_copy(update={"payouts": right.data.payouts[1:]})
    made = make(data, DOMAIN)
    root = made.root.model_copy(update={"total_payout": right.root.total_payout})
    history = PoolHistory(1)
    posted(history, PostedRoot(root, tuple(PROVIDERS)))
    assert history.fill(1, made)
    faults = audit(root, made, facts())
    assert faults == [BadPayout(left_out, None, right.root.total_payout // 2)]


def test_a_leaf_that_is_counted_and_not_there_is_asked_for() -> None:
    epoch = settled([signed(1), signed(1, 1)])
    root = epoch.root.model_copy(update={"receipt_count": 3})
    assert [f.index for f in audit(root, epoch, facts()) if isinstance(f, BadReceipt)] == [2]


def test_a_voided_root_is_known_until_its_voiding_leaves_the_chain() -> None:
    epoch = settled([signed(1)])
    history = PoolHistory(1)
    posted(history, PostedRoot(epoch.root, tuple(PROVIDERS)))
    assert not history.was_voided(epoch.root)
    history.void(1, 5)
    assert history.was_voided(epoch.root)
    again = settled([signed(1)], attempt=1)
    assert again.root.data_hash != epoch.root.data_hash
    assert not history.was_voided(again.root)
    history.rewind(4)
    assert not history.was_voided(epoch.root)
