"""Blocks, receipts and logs as an endpoint reports them, checked.

Pure. web3 turns the hexadecimal of an answer into integers, bytes and EIP-55 addresses, but passes
through what it does not know; these models then hold every field that this package uses to its type
and range. Fields that it does not use are ignored.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic.alias_generators import to_camel

MAX_LOGS = 10_000
MAX_DATA = 1 << 20

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A block number, time, nonce, index or amount of gas."""
Wei = Annotated[int, Field(ge=0, lt=2**256)]
Hash = Annotated[bytes, Field(min_length=32, max_length=32)]
Data = Annotated[bytes, Field(max_length=MAX_DATA)]
Topics = Annotated[tuple[Hash, ...], Field(max_length=4), Strict(False)]


class _Record(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class Block(_Record):
    """A block header: hash and parent are 32 bytes, the timestamp is Unix seconds, fees are wei."""

    number: Count
    hash: Hash
    parent_hash: Hash
    timestamp: Count
    base_fee: Wei = Field(default=0, alias="baseFeePerGas")


class Log(_Record):
    """One event as stored: contract, topics of 32 bytes each, data, and where it lies."""

    address: str
    topics: Topics
    data: Data
    block_number: Count
    block_hash: Hash
    transaction_hash: Hash
    transaction_index: Count
    log_index: Count


Logs = Annotated[tuple[Log, ...], Field(max_length=MAX_LOGS), Strict(False)]


class TransactionReceipt(_Record):
    """What became of a mined transaction; `contract` is set when it created one."""

    transaction_hash: Hash
    block_number: Count
    block_hash: Hash
    gas_used: Count
    status: Annotated[int, Field(ge=0, le=1)]
    contract: str | None = Field(alias="contractAddress")
    logs: Logs
