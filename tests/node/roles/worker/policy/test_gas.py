"""A day's gas."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.roles.worker.policy.gas import DAY, MAX_ENTRIES, GasEntry, GasLedger


def test_a_day_holds_its_budget_and_frees_it_a_day_later() -> None:
    ledger = GasLedger(100)
    ledger.plan("join/1", 60, now=0.0)
    ledger.finish("join/1", 50)
    assert ledger.spent(1.0) == 50
    assert ledger.affords(50, 1.0)
    assert not ledger.affords(51, 1.0)
    assert ledger.affords_at(51, 1.0) == DAY
    assert ledger.affords(100, DAY)
    assert ledger.affords_at(101, 1.0) is None


def test_a_transaction_whose_outcome_is_unknown_is_counted_once() -> None:
    ledger = GasLedger(100)
    ledger.plan("join/1", 60, now=0.0)
    again = GasLedger(100, ledger.entries)
    again.plan("join/1", 60, now=5.0)
    assert again.spent(6.0) == 60
    again.finish("join/1", None)
    again.plan("join/1", 30, now=7.0)
    assert again.spent(8.0) == 90


def test_a_clock_that_goes_back_frees_nothing() -> None:
    ledger = GasLedger(10)
    ledger.plan("leave/1", 10, now=1000.0)
    assert not ledger.affords(1, 0.0)


def test_ever_so_many_tiny_transactions_fill_the_day() -> None:
    ledger = GasLedger(10**9, [GasEntry(f"join/{n}", 0.0, 1, open=False) for n in range(5000)])
    assert not ledger.affords(0, 1.0)
    ledger.plan("leave/1", 1, 1.0)
    assert len(ledger.entries) == MAX_ENTRIES


@given(st.lists(st.tuples(st.integers(0, 3 * int(DAY)), st.integers(0, 40)), max_size=60))
def test_no_day_costs_more_than_its_budget(asked) -> None:
    ledger, sent = GasLedger(100), []
    for number, (at, wei) in enumerate(sorted(asked)):
        if ledger.affords(wei, at):
            ledger.plan(f"join/{number}", wei, at)
            sent.append((at, wei))
        else:
            later = ledger.affords_at(wei, at)
            assert later is not None
            assert later >= at
            assert ledger.affords(wei, later)
    for end, _ in sent:
        assert sum(wei for at, wei in sent if end - DAY < at <= end) <= 100
