"""EIP-1559 transactions, signed with eth_account.

Two limits of the network are asserted here, before anything leaves: a transaction may use at most
2^24 gas (EIP-7825), and nodes refuse to relay more than 128 KiB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_account import Account

from chain.encoding.hexdata import address_bytes
from chain.errors import InvalidInput

MAX_GAS = 16_777_216
MAX_RAW = 128 * 1024
MAX_CALLDATA = MAX_RAW - 512
"""Calldata that certainly fits; nonce, fees, recipient and signature take less than the rest."""


@dataclass(frozen=True)
class Fees:
    """What a transaction offers, in wei for each unit of gas."""

    max_fee: int
    tip: int


@dataclass(frozen=True)
class Unsigned:
    """An EIP-1559 transaction without its signature; `to` is None for contract creation."""

    chain_id: int
    nonce: int
    to: str | None
    value: int
    data: bytes
    gas: int
    fees: Fees


@dataclass(frozen=True)
class SignedTransaction:
    """Bytes ready to broadcast, and their hash (32 bytes)."""

    hash: bytes
    raw: bytes


def check_limits(data: bytes, value: int, gas: int) -> None:
    """Raises InvalidInput for what no node would take, before anything is stored or signed."""
    if not 21_000 <= gas <= MAX_GAS:
        raise InvalidInput(
            f"a transaction may use 21000 to {MAX_GAS} gas, not {gas}; split the work"
        )
    if not 0 <= value < 2**256:
        raise InvalidInput("the value of a transaction must be an unsigned 256-bit integer")
    if len(data) > MAX_CALLDATA:
        raise InvalidInput(
            f"calldata of {len(data)} bytes exceeds the {MAX_CALLDATA} that nodes relay"
        )


def sign(transaction: Unsigned, private_key: bytes) -> SignedTransaction:
    """Sign with a 32-byte secp256k1 key; raises InvalidInput when a network limit is exceeded."""
    check_limits(transaction.data, transaction.value, transaction.gas)
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": transaction.chain_id,
        "nonce": transaction.nonce,
        "maxPriorityFeePerGas": transaction.fees.tip,
        "maxFeePerGas": transaction.fees.max_fee,
        "gas": transaction.gas,
        "to": address_bytes(transaction.to) if transaction.to is not None else b"",
        "value": transaction.value,
        "data": transaction.data,
    }
    signed = Account.sign_transaction(fields, private_key)
    raw = bytes(signed.raw_transaction)
    if len(raw) > MAX_RAW:
        raise InvalidInput(f"a transaction of {len(raw)} bytes exceeds the {MAX_RAW} nodes relay")
    return SignedTransaction(bytes(signed.hash), raw)
