"""Splitting calls into batches: nothing lost, order kept, limits met by what is really signed."""

from __future__ import annotations

import pytest
from eth_abi import encode
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chain.errors import InvalidInput
from chain.transactions.batches import (
    BATCH_GAS,
    BatchedCall,
    CallBatch,
    CallTooLarge,
    split_into_batches,
)
from chain.transactions.signing import MAX_CALLDATA, MAX_GAS, MAX_RAW, Fees, Unsigned, sign

SELECTOR = bytes.fromhex("ac9650d8")  # multicall(bytes[])
KEY = b"\x01" * 32

small = st.builds(
    BatchedCall,
    st.binary(max_size=400),
    st.integers(21_000, 400_000) | st.integers(21_000, 3_000_000),
)
sized = st.builds(
    lambda size, fill, gas: BatchedCall(bytes([fill]) * size, gas),
    st.integers(0, 60_000),
    st.sampled_from([0, 255]),
    st.integers(1_000_000, 4_000_000),
)


def encoded(batch: CallBatch) -> bytes:
    return SELECTOR + encode(["bytes[]"], [list(batch.calls)])


@hypothesis_settings(deadline=None)
@given(st.lists(small | sized, max_size=40))
def test_batches_keep_all_calls_in_order_and_within_the_limits(calls: list[BatchedCall]) -> None:
    batches = split_into_batches(calls)
    assert [data for batch in batches for data in batch.calls] == [call.data for call in calls]
    position = 0
    for batch in batches:
        assert batch.first == position
        assert batch.calls
        position += len(batch.calls)
        data = encoded(batch)
        assert len(data) == batch.size <= MAX_CALLDATA
        zeros = data.count(0)
        assert batch.gas >= 21_000 + 10 * (4 * (len(data) - zeros) + zeros)
        assert batch.gas <= BATCH_GAS < MAX_GAS


@hypothesis_settings(deadline=None)
@given(st.lists(small | sized, max_size=40))
def test_a_batch_is_closed_only_when_the_next_call_does_not_fit(calls: list[BatchedCall]) -> None:
    batches = split_into_batches(calls)
    for batch in batches[1:]:
        before = batches[batches.index(batch) - 1]
        joined = calls[before.first : batch.first + 1]
        assert len(split_into_batches(joined)) == 2
    assert len(split_into_batches(calls[:1])) == min(len(calls), 1)


@hypothesis_settings(deadline=None)
@given(st.lists(small, min_size=1, max_size=40), st.integers(60_000, 10**6))
def test_tighter_limits_hold_too(calls: list[BatchedCall], max_gas: int) -> None:
    try:
        batches = split_into_batches(calls, max_gas=max_gas, max_size=1_000)
    except CallTooLarge as exc:
        with pytest.raises(CallTooLarge):
            split_into_batches(calls[exc.index : exc.index + 1], max_gas=max_gas, max_size=1_000)
        return
    assert all(batch.gas <= max_gas and batch.size <= 1_000 for batch in batches)


def test_the_fullest_batch_can_be_signed() -> None:
    to, fees = "0x" + "ff" * 20, Fees(2**255, 2**255)
    calls = [BatchedCall(b"\xff" * 100, 21_000)] * 3_000
    for batch in split_into_batches(calls):
        raw = sign(Unsigned(2**63, 2**63, to, 2**255, encoded(batch), MAX_GAS, fees), KEY).raw
        assert len(raw) <= MAX_RAW


def test_a_call_that_fits_nowhere_is_named() -> None:
    fine = BatchedCall(b"", 21_000)
    with pytest.raises(CallTooLarge, match="call 1 ") as caught:
        split_into_batches([fine, BatchedCall(b"", MAX_GAS)])
    assert caught.value.index == 1
    with pytest.raises(CallTooLarge):
        split_into_batches([BatchedCall(bytes(MAX_CALLDATA), 21_000)])
    with pytest.raises(InvalidInput, match="21000"):
        split_into_batches([BatchedCall(b"", 20_999)])
    assert split_into_batches([]) == []
