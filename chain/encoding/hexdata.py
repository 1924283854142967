"""The two hexadecimal encodings of Ethereum JSON-RPC, strictly.

A *quantity* is an unsigned integer as `0x` and hex digits (we write it without leading zeros, and
read it with them, since servers differ); *data* are bytes as `0x` and an even number of digits.
Source: https://ethereum.org/en/developers/docs/apis/json-rpc/#hex-encoding. Both the client and the
embedded chain read untrusted bytes through these functions, so all of them take `object`, check
type and length before they convert, and raise `ValueError` only.
"""

from __future__ import annotations

import re

from proofs.encoding.signing import checksum_address

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_DATA = re.compile(r"0x([0-9a-fA-F]{2})*")


def to_quantity(value: int) -> str:
    """`value` (non-negative) as a JSON-RPC quantity."""
    return hex(value)


def to_data(value: bytes) -> str:
    """`value` as JSON-RPC data."""
    return "0x" + value.hex()


def parse_quantity(value: object, *, bits: int = 256) -> int:
    """Read a quantity of at most `bits` bits; raises ValueError."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise ValueError(f"expected a hex quantity, got {_short(value)}")
    number = int(value, 16)
    if number >> bits:
        raise ValueError(f"quantity {_short(value)} exceeds {bits} bits")
    return number


def parse_data(value: object, *, size: int | None = None, limit: int = 1 << 20) -> bytes:
    """Read data of exactly `size` bytes, or at most `limit`; raises ValueError."""
    if not isinstance(value, str) or len(value) > 2 + 2 * limit or not _DATA.fullmatch(value):
        raise ValueError(f"expected hex data, got {_short(value)}")
    data = bytes.fromhex(value[2:])
    if size is not None and len(data) != size:
        raise ValueError(f"expected {size} bytes, got {len(data)}")
    return data


def parse_address(value: object) -> str:
    """Read a 20-byte address in any case; returns its EIP-55 checksum form. Raises ValueError.

    A mixed-case address whose checksum is wrong is refused, since a digit of it was mistyped.
    """
    address = checksum_address(parse_data(value, size=20))
    assert isinstance(value, str)
    digits = value[2:]
    if digits not in (digits.lower(), digits.upper()) and value != address:
        raise ValueError(f"address {value} has a wrong checksum")
    return address


def address_bytes(address: str) -> bytes:
    """The 20 bytes of a hex address; raises ValueError."""
    return parse_data(address, size=20)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
