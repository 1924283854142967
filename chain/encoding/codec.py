"""Contract ABIs: encode calls, decode errors and events, with web3's codec.

An `Abi` is built from the JSON that the compiler writes, and works without an endpoint. Values:
integers are int, `bytes32` bytes, addresses EIP-55 strings, structs tuples going in and named
tuples or dictionaries coming out.

The data comes from contracts that are not trusted: whatever does not fit raises `AbiError`, a
ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from eth_abi.exceptions import DecodingError, EncodingError
from eth_typing import ABIError, ABIFunction
from eth_utils import is_address, to_checksum_address
from eth_utils.abi import (
    abi_to_signature,
    event_abi_to_log_topic,
    filter_abi_by_type,
    function_signature_to_4byte_selector,
    get_abi_input_types,
)
from hexbytes import HexBytes
from web3 import AsyncWeb3
from web3.exceptions import Web3Exception
from web3.providers.async_base import AsyncBaseProvider

from chain.encoding.records import Log

MAX_SHOWN = 1024

_UNFIT = (Web3Exception, EncodingError, DecodingError, ValueError, TypeError, OverflowError)
_BUILT_IN: tuple[ABIError, ...] = (
    {"type": "error", "name": "Error", "inputs": [{"name": "message", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
)


class AbiError(ValueError):
    """Values or bytes that do not fit an ABI, or an ABI that lacks what was asked of it."""


@cache
def _web3() -> AsyncWeb3[AsyncBaseProvider]:
    """web3 for encoding and decoding only; it reaches no endpoint."""
    return AsyncWeb3(AsyncBaseProvider(), middleware=[])


class Abi:
    """All that one contract offers."""

    def __init__(self, name: str, entries: Sequence[Mapping[str, Any]]) -> None:
        self.name = name
        self.entries = entries
        self.functions = {entry["name"]: entry for entry in filter_abi_by_type("function", entries)}
        self.errors = _by_selector(filter_abi_by_type("error", entries))
        self._contract = _web3().eth.contract(abi=entries)
        self._events = {
            event_abi_to_log_topic(entry): self._contract.events[abi_to_signature(entry)]
            for entry in filter_abi_by_type("event", entries)
        }

    def encode_constructor(self, bytecode: bytes, *args: object) -> bytes:
        """Creation code with its arguments; raises AbiError."""
        creator = _web3().eth.contract(abi=self.entries, bytecode=bytecode)
        try:
            return bytes(HexBytes(creator.constructor(*args).data_in_transaction))
        except _UNFIT as exc:
            raise _error(f"{self.name} constructor", exc) from exc

    def encode(self, function: str, *args: object) -> bytes:
        """Calldata for a call; raises AbiError."""
        fitted = self.arguments(function, *args)
        try:
            return bytes(HexBytes(self._contract.encode_abi(function, args=fitted)))
        except _UNFIT as exc:
            raise _error(f"{self.name}.{function}", exc) from exc

    def arguments(self, function: str, *args: object) -> list[object]:
        """`args` with addresses in EIP-55 form, which web3 insists on; raises AbiError."""
        kinds = get_abi_input_types(self._found(function))
        if len(args) != len(kinds):
            raise AbiError(f"{self.name}.{function} takes {len(kinds)} arguments, not {len(args)}")
        return [
            to_checksum_address(arg) if kind == "address" and is_address(arg) else arg
            for kind, arg in zip(kinds, args, strict=True)
        ]

    def _found(self, function: str) -> ABIFunction:
        found: ABIFunction | None = self.functions.get(function)
        if found is None:
            raise AbiError(f"{self.name} has no function {function}; were the artifacts rebuilt?")
        return found

    def selector(self, function: str) -> bytes:
        """The first 4 bytes of a function's calldata; raises AbiError when there is no such
        function."""
        return bytes(function_signature_to_4byte_selector(abi_to_signature(self._found(function))))

    def topic(self, event: str) -> bytes:
        """The 32 bytes that mark an event's logs; raises AbiError when there is no such event."""
        for topic, known in self._events.items():
            if known.event_name == event:
                return bytes(topic)
        raise AbiError(f"{self.name} has no event {event}; were the artifacts rebuilt?")

    def decode_event(self, log: Log) -> tuple[str, dict[str, Any]]:
        """Name and arguments of a log; raises AbiError when it is not one of this contract's
        events.

        An indexed argument of dynamic type is only there as its hash, and is returned as that.
        """
        event = self._events.get(log.topics[0]) if log.topics else None
        if event is None:
            raise AbiError(f"not an event of {self.name}")
        try:
            found = event.process_log(log.model_dump(by_alias=True))
        except _UNFIT as exc:
            raise _error(f"{self.name}.{event.event_name}", exc) from exc
        return found["event"], found["args"]


def decode_revert(data: bytes, errors: Mapping[bytes, ABIError]) -> tuple[str, tuple[object, ...]]:
    """Name and arguments of revert data; `("", ())` when it matches nothing known."""
    found = (_by_selector(_BUILT_IN) | dict(errors)).get(data[:4])
    if found is None:
        return "", ()
    kinds = get_abi_input_types(found)
    try:
        values = _web3().codec.decode(kinds, data[4:])
    except _UNFIT:
        return "", ()
    return found["name"], tuple(map(_shown, kinds, values))


def merge_errors(abis: Iterable[Abi]) -> dict[bytes, ABIError]:
    """One table of the custom errors of several contracts."""
    return {selector: error for abi in abis for selector, error in abi.errors.items()}


def _by_selector(errors: Iterable[ABIError]) -> dict[bytes, ABIError]:
    return {
        function_signature_to_4byte_selector(abi_to_signature(error)): error for error in errors
    }


def _shown(kind: str, value: object) -> object:
    if kind == "address":
        return to_checksum_address(value)
    return value[:MAX_SHOWN] if isinstance(value, str) else value


def _error(what: str, exc: Exception) -> AbiError:
    return AbiError(f"{what}: {' '.join(str(exc).split())[:300]}")
