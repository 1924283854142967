"""What the decisions over nonces, fees and refusals say, case by case."""

from __future__ import annotations

import pytest

from chain.transactions.fees import FeePolicy, first_offer, raised_offer, read_refusal
from chain.transactions.machine import (
    Accepted,
    Attempt,
    Broadcast,
    Bump,
    Look,
    Mined,
    Observed,
    Refusal,
    Refused,
    Rules,
    Signed,
    State,
    Transaction,
    handle,
)
from chain.transactions.nonces import hole, in_order, nonce_for
from chain.transactions.signing import Fees

RULES = Rules(confirmations=3, bump_after=4)


def tx(key: str, state: State, nonce: int | None = None, sent_at: int | None = None) -> Transaction:
    attempts = () if nonce is None else (Attempt(key.encode() * 32, b"raw", Fees(9, 1)),)
    mined = None
    if state in (State.MINED, State.CONFIRMED, State.REVERTED):
        mined = Mined(key.encode() * 32, 7, bytes(32), 1, state is not State.REVERTED)
    return Transaction(
        key, None, b"", 0, 21_000, state, nonce, attempts, sent_at, mined, refusal=""
    )


PLANNED = tx("p", State.PLANNED)


@pytest.mark.parametrize(
    ("count", "live", "nonce"),
    [
        (5, [], 5),
        (5, [tx("a", State.SENT, 5), tx("b", State.MINED, 6)], 7),
        (5, [tx("a", State.SENT, 5), tx("b", State.SENT, 7)], 6),  # the hole first
        (5, [tx("a", State.SIGNED, 5)], None),  # it may yet be refused
        (5, [tx("a", State.SIGNED, 6)], 5),  # what waits behind does not stop what is before
        (5, [tx("a", State.SENT, 5), tx("b", State.SENT, 6)], None),  # the limit of two
        (5, [tx("a", State.SENT, 6), tx("b", State.SENT, 7)], 5),  # which is not for holes
        (7, [tx("a", State.MINED, 5), tx("b", State.MINED, 6)], 7),  # nor for what is mined
        (5, [tx("a", State.DROPPED, 5)], 5),  # a refused one leaves its nonce
        (5, [tx("a", State.CONFIRMED, 5)], 6),  # final once, to be offered again
    ],
)
def test_the_nonce_of_a_new_transaction(
    count: int, live: list[Transaction], nonce: int | None
) -> None:
    assert nonce_for(PLANNED, count, [*live, PLANNED], limit=2) == nonce


@pytest.mark.parametrize(
    ("count", "others", "nonce"),
    [
        (5, [], 5),
        (6, [], None),  # used, but by whom is not final yet
        (5, [tx("a", State.SENT, 5)], None),  # given to another meanwhile
        (4, [tx("a", State.SIGNED, 4)], None),
    ],
)
def test_a_refused_transaction_keeps_its_nonce(
    count: int, others: list[Transaction], nonce: int | None
) -> None:
    refused = tx("r", State.DROPPED, 5)
    assert nonce_for(refused, count, [refused, *others], limit=2) == nonce


def test_holes_are_closed_once_what_is_behind_has_waited() -> None:
    behind = [tx("b", State.SENT, 7, sent_at=10)]
    assert hole(5, 13, behind, RULES) is None
    assert hole(5, 14, behind, RULES) == 5
    assert hole(6, 14, [tx("a", State.SENT, 6, sent_at=14), *behind], RULES) is None
    assert hole(5, 14, [PLANNED, *behind], RULES) is None  # it takes the nonce itself
    assert hole(8, 14, behind, RULES) is None
    assert hole(5, 14, [tx("m", State.MINED, 7, sent_at=1)], RULES) is None
    assert hole(5, 14, [], RULES) is None


def test_the_order_is_that_of_nonces() -> None:
    live = [PLANNED, tx("b", State.SENT, 7), tx("q", State.PLANNED), tx("a", State.SIGNED, 2)]
    assert in_order(live) == ["a", "b", "p", "q"]


def test_what_is_refused_after_it_was_sent_is_offered_again_at_the_same_fee() -> None:
    sent = tx("s", State.SENT, 5, sent_at=10)
    refused, commands = handle(sent, Refused(Refusal.NO_FUNDS, "insufficient funds"), RULES)
    assert (refused.state, commands) == (State.SENT, [])
    for head in (11, 99):
        assert handle(refused, Observed(head, 5, None), RULES)[1] == [Broadcast(sent.attempts[0])]
    taken, commands = handle(refused, Accepted(99), RULES)
    assert (taken.refusal, commands) == ("", [Look()])
    assert handle(taken, Observed(100, 5, None), RULES)[1] == []
    assert handle(taken, Observed(103, 5, None), RULES)[1] == [Bump(accepted=True)]


def test_a_busy_pool_drops_nothing_and_the_lack_of_funds_does() -> None:
    signed = tx("s", State.SIGNED, 5)
    busy, commands = handle(signed, Refused(Refusal.BUSY, "txpool is full"), RULES)
    assert (busy.state, commands) == (State.SIGNED, [])
    poor, _ = handle(signed, Refused(Refusal.NO_FUNDS, "insufficient funds"), RULES)
    assert poor.state is State.DROPPED


@pytest.mark.parametrize("state", [State.MINED, State.CONFIRMED, State.REVERTED])
def test_what_left_the_chain_is_sent_again_however_deep_it_was(state: State) -> None:
    mined = tx("m", state, 5)
    back, commands = handle(mined, Observed(20, 5, None), RULES)
    assert (back.state, back.mined, back.sent_at) == (State.SENT, None, 20)
    assert commands == [Broadcast(mined.attempts[0])]
    still, commands = handle(mined, Observed(20, 6, mined.mined), RULES)
    assert still.state is (State.CONFIRMED if state is State.MINED else state)
    assert commands == []


def test_final_means_as_deep_as_promised() -> None:
    sent = tx("s", State.SENT, 5, sent_at=6)
    mined = Mined(sent.attempts[0].hash, 7, bytes(32), 1, True)
    states = [handle(sent, Observed(head, 6, mined), RULES)[0].state for head in (7, 8, 9)]
    assert states == [State.MINED, State.MINED, State.CONFIRMED]


def test_the_same_bytes_are_one_attempt() -> None:
    dropped = tx("d", State.DROPPED, 5)
    again, commands = handle(dropped, Signed(5, dropped.attempts[0]), RULES)
    assert again.attempts == dropped.attempts
    assert commands == [Broadcast(dropped.attempts[0])]


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        ("already known", None),  # geth, reth
        ("transaction already imported", None),  # anvil
        ("AlreadyKnown", None),  # Nethermind
        ("Known transaction", None),  # Besu
        ("INTERNAL_ERROR: existing tx with same hash", None),  # Erigon
        ("nonce too low: next nonce 7, tx nonce 6", Refusal.NONCE_TOO_LOW),
        ("NONCE_TOO_LOW", Refusal.NONCE_TOO_LOW),
        ("OldNonce, Current nonce: 7, nonce of rejected tx: 6", Refusal.NONCE_TOO_LOW),
        ("replacement transaction underpriced", Refusal.UNDERPRICED),
        ("transaction underpriced: gas tip cap 0, minimum needed 1", Refusal.UNDERPRICED),
        ("max fee per gas less than block base fee", Refusal.UNDERPRICED),
        ("FeeTooLow, MaxFeePerGas too low", Refusal.UNDERPRICED),
        ("FeeTooLowToCompete", Refusal.UNDERPRICED),
        ("ReplacementNotAllowed", Refusal.UNDERPRICED),
        ("Gas price below configured minimum gas price", Refusal.UNDERPRICED),
        ("insufficient funds for gas * price + value: balance 0", Refusal.NO_FUNDS),
        ("Insufficient funds for gas * price + value", Refusal.NO_FUNDS),
        ("InsufficientFunds, Balance is 0", Refusal.NO_FUNDS),
        ("Upfront cost exceeds account balance", Refusal.NO_FUNDS),
        ("txpool is full", Refusal.BUSY),
        ("account limit exceeded: 16 pending", Refusal.BUSY),
        ("in-flight transaction limit reached for delegated accounts", Refusal.BUSY),
        ("gapped-nonce tx from delegated accounts", Refusal.BUSY),
        ("nonce too high: next nonce 5, nothing is queued", Refusal.BUSY),
        ("NonceGap, Future nonce. Expected nonce: 5", Refusal.BUSY),
        ("Too Many Requests", Refusal.BUSY),
        ("exceeds block gas limit", Refusal.OTHER),
        ("GasLimitExceeded", Refusal.OTHER),
        ("intrinsic gas too low: gas 20999, minimum needed 21000", Refusal.OTHER),
        ("invalid sender", Refusal.OTHER),
    ],
)
def test_refusals_as_clients_word_them(message: str, refusal: Refusal | None) -> None:
    assert read_refusal(message) is refusal


def test_the_code_of_a_rate_limit_counts_where_words_do_not() -> None:
    assert read_refusal("slow down", -32005) is Refusal.BUSY
    assert read_refusal("slow down", -32000) is Refusal.OTHER


def test_fees_rise_by_an_eighth_and_never_above_the_cap() -> None:
    policy = FeePolicy(max_fee_cap=1_000, min_tip=1)
    first = first_offer(100, 10, policy)
    assert first == Fees(210, 10)
    raised = raised_offer(first, 100, 10, policy)
    assert raised == Fees(237, 12)
    assert first_offer(10**6, 10**6, policy) == Fees(1_000, 1_000)
    assert raised_offer(Fees(900, 1), 1, 1, policy) is None
