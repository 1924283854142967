"""Blocks, receipts and logs as an endpoint reports them, checked.

Pure. The parsers take any JSON value and raise ValueError for what does not fit; fields that this
package does not use are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chain.hexdata import parse_address, parse_data, parse_quantity

MAX_RECEIPT_LOGS = 10_000


@dataclass(frozen=True)
class Block:
    """A block header: hash and parent are 32 bytes, the timestamp is Unix seconds, fees are wei."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp: int
    base_fee: int


@dataclass(frozen=True)
class Log:
    """One event as stored: contract, topics of 32 bytes each, data, and where it lies."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    index: int


@dataclass(frozen=True)
class Receipt:
    """What became of a mined transaction; `contract` is set when it created one."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    gas_used: int
    succeeded: bool
    contract: str | None
    logs: tuple[Log, ...]


def parse_block(value: object) -> Block:
    """Check a block; raises ValueError."""
    fields = _fields(value)
    return Block(
        number=parse_quantity(fields.get("number"), bits=63),
        hash=parse_data(fields.get("hash"), size=32),
        parent_hash=parse_data(fields.get("parentHash"), size=32),
        timestamp=parse_quantity(fields.get("timestamp"), bits=63),
        base_fee=parse_quantity(fields.get("baseFeePerGas", "0x0"), bits=128),
    )


def parse_log(value: object) -> Log:
    """Check a log of a mined block; raises ValueError."""
    fields = _fields(value)
    topics = fields.get("topics")
    if not isinstance(topics, list) or len(topics) > 4:
        raise ValueError("a log has a list of at most four topics")
    return Log(
        address=_address(fields.get("address")),
        topics=tuple(parse_data(topic, size=32) for topic in topics),
        data=parse_data(fields.get("data")),
        block_number=parse_quantity(fields.get("blockNumber"), bits=63),
        block_hash=parse_data(fields.get("blockHash"), size=32),
        tx_hash=parse_data(fields.get("transactionHash"), size=32),
        index=parse_quantity(fields.get("logIndex"), bits=63),
    )


def parse_receipt(value: object) -> Receipt:
    """Check a receipt; raises ValueError."""
    fields = _fields(value)
    logs = fields.get("logs")
    if not isinstance(logs, list) or len(logs) > MAX_RECEIPT_LOGS:
        raise ValueError("a receipt has a list of logs")
    contract = fields.get("contractAddress")
    status = parse_quantity(fields.get("status"), bits=1)
    return Receipt(
        tx_hash=parse_data(fields.get("transactionHash"), size=32),
        block_number=parse_quantity(fields.get("blockNumber"), bits=63),
        block_hash=parse_data(fields.get("blockHash"), size=32),
        gas_used=parse_quantity(fields.get("gasUsed"), bits=63),
        succeeded=status == 1,
        contract=_address(contract) if contract is not None else None,
        logs=tuple(parse_log(log) for log in logs),
    )


def _fields(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


def _address(value: object) -> str:
    """An address in any case: endpoints differ in whether they checksum."""
    return parse_address(value.lower() if isinstance(value, str) else value)
