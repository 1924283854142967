"""Spot checks: the rate deters, and the choice is everybody's."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.thresholds.spotcheck import (
    DEFAULT_TERMS,
    MAX_AGE,
    ONE,
    CheckTerms,
    SpotCheckError,
    check_rate,
    chosen,
    deters,
    may_choose,
    rate_of,
)

PRIME = 10**18
OLD = DEFAULT_TERMS.probation
FREE = replace(DEFAULT_TERMS, floor=0)


@pytest.mark.parametrize(
    ("pay", "loss", "sequences", "verified", "nodes", "rate"),
    [
        (4, 20, 4, OLD, 1, 15740),  # 1 - (1 - 1.2 / 2 / 0.9) ** (1 / 4): what doubt alone deters
        (4, 2000, 4, OLD, 50, 15740),
        (4, 20, 4, OLD, 50, ONE),  # fifty nodes lose it only once
        (4, 20, 4, OLD - 1, 1, ONE),  # a newcomer
        (4, 0, 4, OLD, 1, ONE),  # nothing to lose
        (0, 0, 4, OLD, 1, ONE // 16),  # nothing to gain
        (4, 4, 64, OLD, 1, ONE // 16),
    ],
)
def test_rates(pay: int, loss: int, sequences: int, verified: int, nodes: int, rate: int) -> None:
    found = check_rate(pay * PRIME, loss * PRIME, sequences, verified, nodes)
    assert abs(found - rate) <= 1


amounts = st.integers(0, 10**24)
counts = st.integers(1, 40)
shares = st.fractions(Fraction(1, 100), 1, max_denominator=1000)
fleets = st.integers(1, 30)


@given(
    amounts, amounts, counts, shares, shares, st.fractions(0, 3, max_denominator=100), fleets,
    st.integers(0, 4),
)  # fmt: skip
def test_a_rate_below_one_deters_and_none_lower_does(
    pay: int, loss: int, n: int, saved: Fraction, power: Fraction, margin: Fraction, nodes: int,
    late: int,
) -> None:  # fmt: skip
    """In every single unit, in any number of its sequences, by either way of cheating, whichever
    of a provider's units are under way; so no mixture of strategies gains either."""
    terms = CheckTerms(saved, power, power, margin, late=late, floor=0)
    rate = check_rate(pay, loss, n, OLD, nodes, terms)
    assert rate == 0 or not deters(rate - 1, pay, loss, n, nodes, terms)
    if rate == ONE or pay == 0:
        return
    share = Fraction(rate, ONE)
    for some in range(1, n + 1):
        found = power * (1 - (1 - share) ** some)
        assert found >= margin * saved * Fraction(some, n)
    open_units = nodes * (1 + late)
    found = power * (1 - (1 - share) ** n)
    for some in (1, max(1, open_units // 2), open_units):
        lost = loss * (1 - (1 - found) ** some) + some * pay * found
        assert lost >= margin * some * pay * (1 - Fraction(1, 10**6))


@given(amounts, amounts, amounts, counts, fleets)
def test_more_at_stake_is_not_checked_more(
    pay: int, loss: int, more: int, n: int, nodes: int
) -> None:
    rate = check_rate(pay, loss, n, OLD, nodes, FREE)
    assert check_rate(pay, loss + more, n, OLD, nodes, FREE) <= rate
    assert check_rate(pay, loss, n, OLD, nodes + 1, FREE) >= rate


@given(amounts, amounts, amounts, counts, shares, shares)
def test_more_gain_and_less_power_are_not_checked_less(
    pay: int, loss: int, more: int, n: int, one: Fraction, other: Fraction
) -> None:
    assert check_rate(pay + more, loss, n, OLD, 1, FREE) >= check_rate(pay, loss, n, OLD, 1, FREE)
    weak, strong = (
        replace(FREE, power=power, forged_power=power) for power in sorted((one, other))
    )
    assert check_rate(pay, loss, n, OLD, 1, weak) >= check_rate(pay, loss, n, OLD, 1, strong)
    little, much = (replace(FREE, saved=saved) for saved in sorted((one, other)))
    assert check_rate(pay, loss, n, OLD, 1, much) >= check_rate(pay, loss, n, OLD, 1, little)


@given(amounts, amounts, counts, st.integers(0, ONE))
def test_no_rate_is_below_the_floor(pay: int, loss: int, n: int, floor: int) -> None:
    terms = replace(DEFAULT_TERMS, floor=floor)
    free = check_rate(pay, loss, n, OLD, 1, FREE)
    assert check_rate(pay, loss, n, OLD, 1, terms) == max(floor, free)


def test_the_choice_is_fair_and_of_each_by_itself() -> None:
    rate, hits, pairs, trials = ONE // 16, [0] * 8, 0, 20_000
    for trial in range(trials):
        picked = chosen(sha256(b"%d" % trial).digest(), bytes(32), 8, rate)
        pairs += 0 in picked and 1 in picked
        for number in picked:
            hits[number] += 1
    deviation = (trials * (1 / 16) * (15 / 16)) ** 0.5
    assert all(abs(count - trials / 16) < 4.5 * deviation for count in hits)
    assert abs(pairs - trials / 256) < 4.5 * (trials / 256) ** 0.5


def test_the_choice_follows_from_beacon_bundle_and_rate_alone() -> None:
    beacon, bundle = sha256(b"block").digest(), sha256(b"bundle").digest()
    picked = chosen(beacon, bundle, 4096, ONE // 4)
    assert picked == chosen(beacon, bundle, 4096, ONE // 4)
    assert picked[:6] == (0, 2, 16, 19, 33, 40)  # what every implementation must give
    assert picked != chosen(bundle, beacon, 4096, ONE // 4)
    assert set(picked) < set(chosen(beacon, bundle, 4096, ONE // 2))
    assert chosen(beacon, bundle, 5, ONE) == (0, 1, 2, 3, 4)
    assert chosen(beacon, bundle, 5, 0) == ()


@pytest.mark.parametrize(
    ("committed", "seen", "may"),
    [
        (0, 0, False),
        (0, 5, False),
        (5, 5, True),
        (5, 5 + MAX_AGE, True),
        (5, 6 + MAX_AGE, False),
        (50, 50 - MAX_AGE, True),
        (50, 49 - MAX_AGE, False),
    ],
)
def test_an_old_or_missing_commitment_allows_no_choice(
    committed: int, seen: int, may: bool
) -> None:
    assert may_choose(committed, seen) is may


def test_shares_round_up() -> None:
    assert [rate_of(share) for share in (0.0, 1e-9, 0.0625, 0.5, 1.0)] == [
        0,
        1,
        4096,
        ONE // 2,
        ONE,
    ]
    for share in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(SpotCheckError):
            rate_of(share)


def test_figures_out_of_range_are_named() -> None:
    with pytest.raises(SpotCheckError, match="not negative"):
        check_rate(-1, 0, 1, 0)
    with pytest.raises(SpotCheckError, match="0 sequences"):
        check_rate(1, 0, 0, 0)
    with pytest.raises(SpotCheckError, match="32 bytes"):
        chosen(b"", bytes(32), 1, 1)
    with pytest.raises(SpotCheckError, match="out of range"):
        chosen(bytes(32), bytes(32), 1, ONE + 1)
    with pytest.raises(SpotCheckError, match="power"):
        CheckTerms(power=Fraction(0))
