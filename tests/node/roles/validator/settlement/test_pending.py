"""Accepted units that wait to be paid, and whose turn it is to propose their epoch."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from node.roles.validator.settlement.pending import EpochRules, PendingPool
from node.roles.validator.settlement.turns import turn_of
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.receipts import Receipt
from proofs.encoding.signing import address_of

NEVER = float("inf")
RULES = EpochRules(max_units=3, max_receipts=5, quiet=3.0, longest=60.0)
VALIDATORS = [address_of(bytes([n]) * 32) for n in range(1, 6)]


def receipts(number: int, count: int = 1, epoch: int = 1) -> tuple[SignedReceipt, ...]:
    worker, other = address_of(bytes([number]) * 32), address_of(b"\xee" * 32)
    return tuple(
        SignedReceipt(
            Receipt(
                job_id=bytes([number]) * 32,
                worker=worker,
                pool_id=1,
                stage=stage,
                seq=0,
                counterparty=other,
                epoch=epoch,
                units=1,
                commitment=bytes(32),
            ),
            b"w" * 65,
            b"c" * 65,
        )
        for stage in range(count)
    )


def taken(pool: PendingPool, number: int, now: float, count: int = 1, epoch: int = 1) -> bytes:
    items = receipts(number, count, epoch)
    unit_id = items[0].receipt.job_id
    pool.take(unit_id, items, now)
    return unit_id


def test_an_epoch_is_due_when_it_is_quiet_or_late_or_full() -> None:
    pool = PendingPool(1)
    assert pool.due_at(1e9, RULES) == NEVER
    taken(pool, 1, 100.0)
    assert pool.due_at(100.0, RULES) == 103.0
    taken(pool, 2, 159.0)
    assert pool.due_at(159.0, RULES) == 160.0
    taken(pool, 3, 159.5)
    assert pool.due_at(159.5, RULES) == 159.5
    pool.retry_at = 1000.0
    assert pool.due_at(159.5, RULES) == 1000.0


def test_paid_units_leave_and_the_rest_starts_waiting_anew() -> None:
    pool = PendingPool(1)
    first, second = taken(pool, 1, 0.0), taken(pool, 2, 1.0)
    pool.put_aside([first, second], 50.0)
    pool.paid([first, b"unknown"], 10.0)
    assert list(pool.units) == [second]
    assert list(pool.aside) == [second]
    assert pool.oldest == 10.0
    pool.paid([first], 20.0)
    assert pool.oldest == 10.0


def test_a_unit_after_an_empty_time_is_the_oldest() -> None:
    pool = PendingPool(1)
    pool.paid([taken(pool, 1, 0.0)], 5.0)
    taken(pool, 2, 500.0)
    assert (pool.oldest, pool.due_at(500.0, RULES)) == (500.0, 503.0)


def test_units_put_aside_are_left_out_until_their_time() -> None:
    pool = PendingPool(1)
    first, second = taken(pool, 1, 0.0), taken(pool, 2, 1.0)
    pool.put_aside([first, b"never seen"], 30.0)
    assert list(pool.aside) == [first]
    assert pool.ready(29.9) == [second]
    assert pool.choose(29.9, 1, RULES) == [second]
    assert pool.ready(30.0) == [first, second]
    pool.put_aside([second], 40.0)
    assert pool.due_at(20.0, RULES) == 30.0  # nothing is ready before


def test_a_proposal_takes_the_oldest_that_fit() -> None:
    pool = PendingPool(1)
    units = [taken(pool, number, float(number), count=2) for number in range(1, 5)]
    assert pool.choose(9.0, 1, RULES) == units[:2]  # six receipts are too many
    pool = PendingPool(1)
    units = [taken(pool, number, float(number)) for number in range(1, 6)]
    assert pool.choose(9.0, 1, RULES) == units[:3]


def test_receipts_of_a_later_epoch_wait_for_it_and_hold_nobody_up() -> None:
    """After a voided root the next epoch may be one that a receipt is too new for."""
    pool = PendingPool(1)
    late, early = taken(pool, 1, 0.0, epoch=3), taken(pool, 2, 1.0, epoch=2)
    assert pool.choose(9.0, 1, RULES) == []
    assert pool.choose(9.0, 2, RULES) == [early]
    assert pool.choose(9.0, 3, RULES) == [late, early]


def test_every_validator_has_a_turn_and_all_agree_on_it() -> None:
    for order in (VALIDATORS, VALIDATORS[::-1]):
        turns = [turn_of(address, order, 7, 3) for address in VALIDATORS]
        assert sorted(turns) == [0, 1, 2, 3, 4]
        assert turns == [turn_of(address, VALIDATORS, 7, 3) for address in VALIDATORS]
    assert turn_of(address_of(b"\x77" * 32), VALIDATORS, 7, 3) == len(VALIDATORS)


def test_each_epoch_has_another_order() -> None:
    firsts = {
        next(a for a in VALIDATORS if turn_of(a, VALIDATORS, 7, epoch) == 0)
        for epoch in range(1, 60)
    }
    assert firsts == set(VALIDATORS)


def test_one_validator_fewer_does_not_change_the_order_of_the_others() -> None:
    """Who sees the list a block later than others still comes after the same ones."""
    gone = VALIDATORS[2]
    rest = [a for a in VALIDATORS if a != gone]
    before = sorted(rest, key=lambda a: turn_of(a, VALIDATORS, 1, 1))
    assert sorted(rest, key=lambda a: turn_of(a, rest, 1, 1)) == before
    assert all(
        turn_of(a, list(order), 1, 1) == turn_of(a, rest, 1, 1)
        for order in permutations(rest)
        for a in rest
    )


MOVES = st.tuples(st.sampled_from(["take", "pay", "aside", "wait"]), st.integers(1, 9))


@given(st.lists(MOVES, max_size=60))
def test_what_was_accepted_is_proposed_until_it_is_paid(moves: list[tuple[str, int]]) -> None:
    pool, now, unpaid = PendingPool(1), 0.0, set[bytes]()
    for move, number in moves:
        now += 1.0
        unit_id = bytes([number]) * 32
        if move == "take":
            taken(pool, number, now)
            unpaid.add(unit_id)
        elif move == "pay":
            pool.paid([unit_id], now)
            unpaid.discard(unit_id)
        elif move == "aside":
            pool.put_aside([unit_id], now + 20.0)
        assert set(pool.units) == unpaid
        assert set(pool.aside) <= unpaid
        due = pool.due_at(now, RULES)
        assert (due < NEVER) == bool(unpaid)
    seen = set[bytes]()
    while unpaid - seen:
        now += 100.0
        assert pool.due_at(now, RULES) <= now
        chosen = pool.choose(now, 1, RULES)
        assert chosen
        seen |= set(chosen)
        pool.paid(chosen, now)
    assert pool.due_at(now, RULES) == NEVER
