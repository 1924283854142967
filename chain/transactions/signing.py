"""EIP-1559 transactions: encode, sign, hash.

An EIP-1559 transaction is `0x02 ‖ rlp([chainId, nonce, tip, maxFee, gas, to, value, data, [], v, r,
s])` and its hash the keccak of those bytes (https://eips.ethereum.org/EIPS/eip-1559). Contract
creation has an empty `to`. Two limits of the network are asserted here, before anything is signed:
a transaction may use at most 2^24 gas (EIP-7825), and nodes refuse to relay more than 128 KiB.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.errors import InvalidInput
from chain.hexdata import address_bytes, keccak
from proofs.signing import sign_digest

MAX_GAS = 16_777_216
MAX_RAW = 128 * 1024

Rlp = bytes | list["Rlp"]


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


def rlp(item: Rlp) -> bytes:
    """Recursive length prefix encoding of bytes and lists (Yellow Paper, appendix B)."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(0x80, len(item)) + item
    body = b"".join(rlp(part) for part in item)
    return _prefix(0xC0, len(body)) + body


def _prefix(offset: int, length: int) -> bytes:
    if length < 56:
        return bytes([offset + length])
    size = _integer(length)
    return bytes([offset + 55 + len(size)]) + size


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def sign(transaction: Unsigned, private_key: bytes) -> SignedTransaction:
    """Sign with a 32-byte secp256k1 key; raises InvalidInput when a network limit is exceeded."""
    if not 21_000 <= transaction.gas <= MAX_GAS:
        raise InvalidInput(
            f"a transaction may use 21000 to {MAX_GAS} gas, not {transaction.gas}; split the work"
        )
    if not 0 <= transaction.value < 2**256:
        raise InvalidInput("the value of a transaction must be an unsigned 256-bit integer")
    fields: list[Rlp] = [
        _integer(transaction.chain_id),
        _integer(transaction.nonce),
        _integer(transaction.fees.tip),
        _integer(transaction.fees.max_fee),
        _integer(transaction.gas),
        address_bytes(transaction.to) if transaction.to is not None else b"",
        _integer(transaction.value),
        transaction.data,
        [],
    ]
    signature = sign_digest(private_key, keccak(b"\x02" + rlp(fields)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    raw = b"\x02" + rlp([*fields, _integer(signature[64] - 27), _integer(r), _integer(s)])
    if len(raw) > MAX_RAW:
        raise InvalidInput(f"a transaction of {len(raw)} bytes exceeds the {MAX_RAW} nodes relay")
    return SignedTransaction(keccak(raw), raw)
