"""Many calls in as few transactions as the network's limits allow.

For contracts with OpenZeppelin's `multicall(bytes[])`, which runs each call on the contract itself.
Two limits hold for a transaction: 2^24 gas (EIP-7825), and 128 KiB, above which nodes do not relay
it. An eighth of the gas is left free: estimates are taken on another state than the one in which
the batch runs, a call receives at most 63/64 of what is left, and the sender adds headroom to its
own estimate. Some bytes are left for nonce, fees and signature.

The gas of a batch is bounded from above: what each call needs as a transaction of its own, less the
21,000 that are then paid once, plus the words that the ABI adds and the inner call. It is at least
EIP-7623's floor of 10 gas for each calldata token (a non-zero byte is four, a zero byte one).

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chain.errors import InvalidInput
from chain.transactions.signing import MAX_CALLDATA, MAX_GAS

BATCH_GAS = MAX_GAS - MAX_GAS // 8
INTRINSIC_GAS = 21_000
CALL_OVERHEAD = 3_000
"""Gas for one inner call: the call, copying its data and result, and its two or three ABI words."""
WORD = 32
ENVELOPE = 4 + 2 * WORD
"""Bytes of `multicall(bytes[])` without its calls: selector, offset and length of the array."""


class CallTooLarge(InvalidInput):
    """A call that fits into no transaction; `index` says which."""

    def __init__(self, index: int, gas: int, max_gas: int, size: int, max_size: int) -> None:
        super().__init__(
            f"call {index} needs up to {gas} gas and {size} bytes, and a batch may have {max_gas} "
            f"and {max_size}; split its work"
        )
        self.index = index


@dataclass(frozen=True)
class BatchedCall:
    """Calldata, and what `eth_estimateGas` says for it as a transaction of its own."""

    data: bytes
    gas: int


@dataclass(frozen=True)
class CallBatch:
    """Calls for one `multicall`, `first` being the index of the first; `gas` and `size` (bytes of
    calldata) are upper bounds for the transaction."""

    first: int
    calls: tuple[bytes, ...]
    gas: int
    size: int


def split_into_batches(
    calls: Sequence[BatchedCall], *, max_gas: int = BATCH_GAS, max_size: int = MAX_CALLDATA
) -> list[CallBatch]:
    """Split `calls` into batches, keeping their order; each is filled before the next is begun.

    `max_size` bounds the bytes of calldata. Raises CallTooLarge for a call that does not fit alone,
    and InvalidInput for gas that is no estimate of a transaction.
    """
    batches: list[CallBatch] = []
    load = _Load()
    first = 0
    for index, call in enumerate(calls):
        if call.gas < INTRINSIC_GAS:
            raise InvalidInput(f"call {index}: a transaction needs {INTRINSIC_GAS} gas or more")
        alone, more = _Load().plus(call), load.plus(call)
        if not alone.fits(max_gas, max_size):
            raise CallTooLarge(index, alone.gas, max_gas, alone.size, max_size)
        if not more.fits(max_gas, max_size):
            batches.append(_batch(calls, first, index, load))
            first, more = index, alone
        load = more
    if calls:
        batches.append(_batch(calls, first, len(calls), load))
    return batches


@dataclass(frozen=True)
class _Load:
    """What a batch comes to: bytes, gas of its execution, calldata tokens (all upper bounds)."""

    size: int = ENVELOPE
    execution: int = INTRINSIC_GAS
    tokens: int = 4 * ENVELOPE

    def plus(self, call: BatchedCall) -> _Load:
        """With one call more: its offset, its length, and its data padded to words."""
        padding = -len(call.data) % WORD
        zeros = call.data.count(0)
        return _Load(
            self.size + 2 * WORD + len(call.data) + padding,
            self.execution + call.gas - INTRINSIC_GAS + CALL_OVERHEAD,
            self.tokens + 2 * WORD + 2 * 4 * 3 + 4 * (len(call.data) - zeros) + zeros + padding,
        )

    @property
    def gas(self) -> int:
        """The larger of execution and EIP-7623's floor."""
        return max(self.execution + 4 * 4 * ENVELOPE, INTRINSIC_GAS + 10 * self.tokens)

    def fits(self, max_gas: int, max_size: int) -> bool:
        return self.gas <= max_gas and self.size <= max_size


def _batch(calls: Sequence[BatchedCall], first: int, end: int, load: _Load) -> CallBatch:
    return CallBatch(first, tuple(call.data for call in calls[first:end]), load.gas, load.size)
