"""Blocks, transactions, receipts and logs of the embedded chain as JSON-RPC shows them.

Pure. eth-tester's backend hands out snake-case dictionaries of integers and bytes; the functions
here turn them into the camel-case hex of the JSON-RPC specification. `LogIndex` keeps the receipts
of every mined transaction, by hash and by block, and answers `eth_getLogs`.
"""

from __future__ import annotations

from typing import Any

from chain.devnet.jsonrpc import INVALID_PARAMS, SERVER_ERROR, Fault
from chain.encoding.hexdata import (
    parse_data,
    parse_quantity,
    to_data,
    to_quantity,
)
from proofs.encoding.signing import checksum_address

MAX_LOGS = 10_000

_RENAMED = {"coinbase": "miner", "data": "input"}
_ADDRESSES = frozenset({"from", "to", "contract_address", "coinbase", "address"})


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _json(name: str, value: Any) -> object:
    if name in _ADDRESSES:
        return checksum_address(value) if value else None
    if name == "logs_bloom":
        return to_data(value.to_bytes(256, "big"))
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return to_quantity(value)
    if isinstance(value, bytes):
        return to_data(value)
    return [_record(item) if isinstance(item, dict) else _json("", item) for item in value]


def _record(fields: dict[str, Any]) -> dict[str, object]:
    return {_RENAMED.get(name, _camel(name)): _json(name, value) for name, value in fields.items()}


def block_json(block: dict[str, Any]) -> dict[str, object]:
    """A block of the backend as `eth_getBlockByNumber` returns it."""
    return _record(block)


def transaction_json(transaction: dict[str, Any]) -> dict[str, object]:
    """A transaction of the backend as `eth_getTransactionByHash` returns it."""
    return _record(transaction)


def receipt_json(receipt: dict[str, Any]) -> dict[str, Any]:
    """A receipt of the backend as `eth_getTransactionReceipt` returns it."""
    shown: dict[str, Any] = _record({k: v for k, v in receipt.items() if k != "state_root"})
    shown["logs"] = [
        {_camel(name): _json(name, value) for name, value in log.items() if name != "type"}
        | {"removed": False}
        for log in receipt["logs"]
    ]
    return shown


class LogIndex:
    """Receipts of the canonical chain, by transaction hash and block number."""

    def __init__(self) -> None:
        self._receipts: dict[bytes, dict[str, Any]] = {}

    def add(self, receipt: dict[str, Any]) -> None:
        """Take the receipt of a newly mined transaction."""
        self._receipts[parse_data(receipt["transactionHash"], size=32)] = receipt

    def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """The receipt of a mined transaction."""
        return self._receipts.get(tx_hash)

    def truncate(self, head: int) -> None:
        """Forget everything mined above block `head`."""
        self._receipts = {
            tx_hash: receipt
            for tx_hash, receipt in self._receipts.items()
            if parse_quantity(receipt["blockNumber"]) <= head
        }

    def search(self, query: object, *, head: int) -> list[dict[str, Any]]:
        """Answer `eth_getLogs`; raises ValueError or `Fault` (too many results)."""
        if not isinstance(query, dict) or "blockHash" in query:
            raise ValueError("expected an object with fromBlock and toBlock")
        first = _block_number(query.get("fromBlock", "latest"), head)
        last = _block_number(query.get("toBlock", "latest"), head)
        addresses = _addresses(query.get("address"))
        topics = _topics(query.get("topics", []))
        found: list[dict[str, Any]] = []
        for receipt in self._receipts.values():
            if not first <= parse_quantity(receipt["blockNumber"]) <= last:
                continue
            found.extend(log for log in receipt["logs"] if _matches(log, addresses, topics))
            if len(found) > MAX_LOGS:
                raise Fault(SERVER_ERROR, f"more than {MAX_LOGS} logs; ask for fewer blocks")
        return found


def _block_number(tag: object, head: int) -> int:
    if tag in ("latest", "safe", "finalized", "pending"):
        return head
    return 0 if tag == "earliest" else parse_quantity(tag, bits=63)


def _addresses(value: object) -> frozenset[bytes] | None:
    if value is None or value == []:
        return None  # any address, as in geth
    return frozenset(
        parse_data(item, size=20) for item in (value if isinstance(value, list) else [value])
    )


def _topics(value: object) -> list[frozenset[bytes] | None]:
    if not isinstance(value, list) or len(value) > 4:
        raise Fault(INVALID_PARAMS, "topics is a list of at most four")
    return [
        None
        if item is None
        else frozenset(
            parse_data(one, size=32) for one in (item if isinstance(item, list) else [item])
        )
        for item in value
    ]


def _matches(
    log: dict[str, Any], addresses: frozenset[bytes] | None, topics: list[frozenset[bytes] | None]
) -> bool:
    if addresses is not None and parse_data(log["address"], size=20) not in addresses:
        return False
    if len(topics) > len(log["topics"]):
        return False
    return all(
        wanted is None or parse_data(topic, size=32) in wanted
        for wanted, topic in zip(topics, log["topics"], strict=False)
    )
