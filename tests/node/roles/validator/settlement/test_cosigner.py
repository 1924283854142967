"""Which units of a proposed epoch a validator has not accepted, by its own verdicts alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.roles.validator.settlement.cosigner import Accepted, torn_apart, unaccepted
from node.roles.validator.settlement.pending import payable
from proofs.encoding.leaves import SignedReceipt
from tests.proofs.settlement.epochs import CREATOR, OWNERS, WORKERS, settled, signed


def job(number: int) -> bytes:
    return number.to_bytes(32, "big")


def unit(number: int, stages: int = 2) -> tuple[SignedReceipt, ...]:
    return tuple(signed(number, stage) for stage in range(stages))


def accepted(*numbers: int) -> Accepted:
    return {job(number): unit(number) for number in numbers}


def test_what_was_accepted_to_the_byte_is_known() -> None:
    epoch = settled([*unit(1), *unit(2)])
    assert unaccepted(epoch, accepted(1, 2, 3)) == ()


def test_units_that_were_never_accepted_are_named_once() -> None:
    epoch = settled([*unit(1), *unit(2), *unit(3)])
    assert set(unaccepted(epoch, accepted(2))) == {job(1), job(3)}
    assert len(unaccepted(epoch, {})) == 3


def test_a_receipt_that_differs_anywhere_makes_its_unit_foreign() -> None:
    for changes in (
        {"units": 11},
        {"commitment": b"x" * 32},
        {"seq": 1},
        {"counterparty": WORKERS[3]},
        {"stage": 4},
    ):
        receipt = unit(1)[0].receipt.model_copy(update=changes)
        other = SignedReceipt(receipt, b"w" * 65, b"c" * 65)
        assert unaccepted(settled(unit(1)), {job(1): (other, unit(1)[1])}) == (job(1),), changes


def test_a_unit_accepted_under_another_id_is_not_this_one() -> None:
    assert unaccepted(settled(unit(1)), {job(2): unit(1)}) == (job(1),)


def test_other_signatures_on_the_same_receipt_are_for_the_audit() -> None:
    """Both sides may sign twice; what they sign is the same."""
    same = tuple(SignedReceipt(i.receipt, b"w" * 65, b"c" * 65) for i in unit(1))
    assert unaccepted(settled(unit(1)), {job(1): same}) == ()


def test_a_unit_is_paid_whole_or_not_at_all() -> None:
    whole = settled([*unit(1), *unit(2)])
    assert not torn_apart(whole, accepted(1, 2))
    part = settled([*unit(1), unit(2)[0]])
    assert unaccepted(part, accepted(1, 2)) == ()
    assert torn_apart(part, accepted(1, 2))


@given(st.sets(st.integers(1, 6), min_size=1), st.sets(st.integers(1, 6)))
def test_the_foreign_units_are_the_proposed_ones_without_the_accepted(
    proposed: set[int], known: set[int]
) -> None:
    epoch = settled([SIGNED[n] for n in proposed])
    foreign = unaccepted(epoch, {job(n): (SIGNED[n],) for n in known})
    assert set(foreign) == {job(n) for n in proposed - known}
    assert len(foreign) == len(set(foreign))


SIGNED = {number: signed(number, number % 5) for number in range(1, 7)}


def test_only_work_between_known_nodes_is_payable() -> None:
    first, second = unit(1)
    assert payable((first, second), OWNERS, CREATOR)
    assert payable((), OWNERS, CREATOR)
    for missing in (first.receipt.worker, second.receipt.counterparty):
        owners = {node: owner for node, owner in OWNERS.items() if node != missing}
        assert not payable((first, second), owners, CREATOR)
    alone = signed(1, counterparty=CREATOR)
    assert payable((alone,), OWNERS, CREATOR)
    assert not payable((alone,), OWNERS, WORKERS[0])
