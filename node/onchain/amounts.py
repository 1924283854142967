"""Amounts and times as people write and read them.

Amounts are whole numbers of the smallest unit (10^-18) everywhere inside, and decimal text outside;
nothing goes through a float. In JSON they are the whole number as a string.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from node.errors import InputError

DECIMALS = 18
UNIT = 10**DECIMALS
TOKEN = "PRIME"
GAS = "ETH"
MAX_AMOUNT = 2**128
_AMOUNT = re.compile(r"([0-9]{1,40})(?:\.([0-9]{1,18}))?")


def parse_tokens(text: str) -> int:
    """`"12.5"` → 12500000000000000000. Raises `InputError` unless it is exact and above 0."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"{text[:64]!r} is not an amount of {TOKEN}",
            f'like "12.5", at most {DECIMALS} decimals',
        )
    amount: int = int(match[1]) * UNIT + int((match[2] or "").ljust(DECIMALS, "0"))
    if not 0 < amount < MAX_AMOUNT:
        raise InputError(
            f"{text[:64]} {TOKEN}: an amount is above 0 and below 2^128 smallest units"
        )
    return amount


def decimal(amount: int) -> str:
    """12500000000000000000 → `"12.5"`, exactly."""
    whole, rest = divmod(amount, UNIT)
    return f"{whole}.{rest:018d}".rstrip("0").removesuffix(".")


def tokens(amount: int) -> str:
    """An amount of the token (10^-18 PRIME), with its name: `"12.5 PRIME"`."""
    return f"{decimal(amount)} {TOKEN}"


def gas(wei: int) -> str:
    """An amount of what pays for gas (wei), with its name: `"0.01 ETH"`."""
    return f"{decimal(wei)} {GAS}"


def moment(unix: int) -> str:
    """A time on chain: `2026-01-31 12:00:00 UTC`."""
    try:
        return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"second {unix} since 1970"
