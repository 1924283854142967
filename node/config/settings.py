"""Types of settings, written as people write them, and the reading of TOML files.

A size is `"8GiB"`, a location `"52.5,13.4"`, a list `"a,b"` (or a TOML array). Each type here turns
that text into a plain value and refuses anything else with a message that shows a valid example.
"""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from node.config.typed import decode_text
from node.errors import InputError, system_error

MAX_FILE = 1 << 20

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*$", re.IGNORECASE)
_HOST = r"/(?:ip4/\d{1,3}(?:\.\d{1,3}){3}|ip6/[0-9a-fA-F:.]+|dns[46]?/[A-Za-z0-9.-]+)"
_LISTEN = re.compile(rf"^{_HOST}/tcp/(\d{{1,5}})$")
_BOOTSTRAP = re.compile(rf"^{_HOST}/tcp/(\d{{1,5}})/p2p/[1-9A-HJ-NP-Za-km-z]{{10,128}}$")
_ACCOUNT = re.compile(r"^0x[0-9a-fA-F]{40}$")
_WEI = re.compile(r"^\s*(\d{1,20}(?:\.\d{1,18})?)\s*(gwei|ether)\s*$")
_AGES = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_AGE = re.compile(r"^\s*(\d{1,12}(?:\.\d{1,6})?)\s*([smhd]?)\s*$", re.IGNORECASE)
MAX_AGE = 100 * 365 * 86_400.0
_HOUR = r"([01]?\d|2[0-4]):([0-5]\d)"
_HOURS = re.compile(rf"^\s*{_HOUR}\s*-\s*{_HOUR}\s*$")
_DEVICE = re.compile(r"^(auto|cpu|cuda(:\d{1,3})?)$")


def parse_size(value: object) -> int:
    """Bytes of `"8GiB"`, `"500 MB"`, `"auto"` (0) or a whole number. Raises `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif value == "auto":
        size = 0
    else:
        match = _SIZE.match(value) if isinstance(value, str) else None
        if match is None or match[2].upper() == "I":
            raise ValueError('a size is like "8GiB", "500MB" or "auto"')
        size = int(float(match[1]) * _UNITS[match[2].upper()])
    if not 0 <= size < 2**63:
        raise ValueError("a size is between 0 and 2^63 bytes")
    return size


def parse_age(value: object) -> float:
    """Seconds of `"90d"`, `"12h"`, `"30m"`, `"never"` (0) or a number. Raises `ValueError`."""
    if value == "never":
        return 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        match = _AGE.match(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('an age is like "90d", "12h" or "never"')
        seconds = float(match[1]) * _AGES[match[2].lower()]
    if not 0 <= seconds <= MAX_AGE:
        raise ValueError("an age is at most 100 years")
    return seconds


def parse_location(value: object) -> tuple[float, float] | None:
    """(latitude, longitude) in degrees of `"52.5,13.4"` or a pair; None of an empty text."""
    if value is None or value == "":
        return None
    parts: Any = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) != 2:
        raise ValueError('a location is "latitude,longitude" in degrees, like "52.5,13.4"')
    try:
        latitude, longitude = float(parts[0]), float(parts[1])
    except (TypeError, ValueError) as exc:
        raise ValueError('a location is two numbers, like "52.5,13.4"') from exc
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError("latitude is within ±90 and longitude within ±180 degrees")
    return latitude, longitude


def parse_wei(value: object) -> object:
    """Whole wei of `"0.01 ether"` or `"2 gwei"`; anything else is left to the next check."""
    match = _WEI.match(value) if isinstance(value, str) else None
    if match is None:
        return value
    wei = Decimal(match[1]) * 10 ** (9 if match[2] == "gwei" else 18)
    if wei != int(wei):
        raise ValueError("there is nothing smaller than a wei")
    return int(wei)


def parse_hours(value: object) -> tuple[int, int]:
    """(start, end) in minutes after midnight of `"22:00-06:30"`, or such a pair. Raises
    `ValueError`."""
    match = _HOURS.match(value) if isinstance(value, str) else None
    if match is not None:
        start, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
        if max(start, end) <= 24 * 60:
            return start % (24 * 60), end % (24 * 60)
    if isinstance(value, list | tuple) and len(value) == 2:
        first, last = value
        if type(first) is int and type(last) is int and 0 <= min(value) <= max(value) < 24 * 60:
            return first, last
    raise ValueError('hours are like "22:00-06:30", local time')


def _split_unless_any(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return value if value == "any" else _split(value)


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _check_listen(value: str) -> str:
    if value.startswith("/dns"):
        raise ValueError(
            "an address to listen on or to announce has numbers, since other nodes look up no "
            "names, like /ip4/203.0.113.7/tcp/4001"
        )
    match = _LISTEN.match(value)
    if match is None or int(match[1]) > 65535:
        raise ValueError("an address is a multiaddr like /ip4/0.0.0.0/tcp/4001")
    return value


def _check_bootstrap(value: str) -> str:
    match = _BOOTSTRAP.match(value)
    if match is None or not 0 < int(match[1]) <= 65535:
        raise ValueError(
            "a bootstrap address is a multiaddr with a peer id, like "
            "/ip4/1.2.3.4/tcp/4001/p2p/16Uiu2HAm…"
        )
    return value


def _check_device(value: str) -> str:
    if not _DEVICE.match(value):
        raise ValueError("a device is auto, cpu, cuda or cuda:0")
    return value


def parse_account(value: object) -> str | None:
    """An EVM address in EIP-55 form; None of an empty text. Raises `ValueError` for a typing error.

    One of lower or upper case only is taken as it is; mixed case must have the right checksum.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _ACCOUNT.match(value):
        raise ValueError("an address is 0x and 40 hex digits")
    from proofs.encoding.signing import checksum_address

    digits = value[2:]
    right = checksum_address(bytes.fromhex(digits))
    if digits not in (digits.lower(), digits.upper(), right[2:]):
        raise ValueError("this address has a typing error: its checksum is wrong")
    return right


CommaSeparated = BeforeValidator(_split)
PoolId = Annotated[int, Field(ge=0, lt=2**63)]
PoolChoice = Annotated[
    Literal["any"] | Annotated[tuple[PoolId, ...], Field(max_length=1024)],
    BeforeValidator(_split_unless_any),
]
ModelChoice = Annotated[
    Literal["any"]
    | Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=512)], ...], Field(max_length=1024)
    ],
    BeforeValidator(_split_unless_any),
]
Wei = Annotated[int, BeforeValidator(parse_wei), Field(ge=0, lt=2**128)]
Hours = Annotated[tuple[int, int], BeforeValidator(parse_hours)]
Size = Annotated[int, BeforeValidator(parse_size)]
Age = Annotated[float, BeforeValidator(parse_age)]
Account = Annotated[str | None, BeforeValidator(parse_account)]
Location = Annotated[tuple[float, float] | None, BeforeValidator(parse_location)]
ListenAddress = Annotated[str, AfterValidator(_check_listen)]
BootstrapAddress = Annotated[str, AfterValidator(_check_bootstrap)]
Device = Annotated[str, AfterValidator(_check_device)]


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises `InputError` naming the file (and line, for bad TOML)."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise InputError(f"{path}: larger than {MAX_FILE} bytes", "is it the right file?")
        return tomllib.loads(decode_text(data, path))
    except FileNotFoundError as exc:
        raise InputError(f"{path}: no such file", "prime-node init makes one") from exc
    except OSError as exc:
        raise system_error(path, "cannot read", exc) from exc
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise InputError(f"{path}: not valid TOML: {exc}") from exc
