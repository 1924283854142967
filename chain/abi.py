"""Contract ABIs: encode calls, decode results, errors and events.

An `Abi` is built from the JSON that the compiler writes. Types are spelled out canonically (a
struct becomes its components in parentheses), because selectors hash that spelling: `selector =
keccak("name(type,…)")[:4]`, an event's first topic the whole hash
(https://docs.soliditylang.org/en/latest/abi-spec.html). eth_abi converts the values.

Values: integers are int, `bytes32` bytes, addresses EIP-55 strings, structs dictionaries by field
name. A function with one result returns it bare, one with several a dictionary by name.
Data come from contracts, which are strangers: what does not decode raises `AbiError`, a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi import decode as abi_decode
from eth_abi import encode as abi_encode
from eth_abi.exceptions import DecodingError, EncodingError

from chain.hexdata import checksum_address, keccak

MAX_SHOWN = 1024


class AbiError(ValueError):
    """Values or bytes that do not fit an ABI, or an ABI that lacks what was asked of it."""


@dataclass(frozen=True)
class Parameter:
    """One input, output or field."""

    name: str
    type: str
    indexed: bool = False
    fields: tuple[Parameter, ...] = ()

    @staticmethod
    def parse(entry: Mapping[str, Any]) -> Parameter:
        """Read one entry of `inputs`, `outputs` or `components`."""
        fields = tuple(Parameter.parse(field) for field in entry.get("components", ()))
        kind = str(entry["type"])
        if kind.startswith("tuple"):
            kind = f"({','.join(field.type for field in fields)})" + kind.removeprefix("tuple")
        return Parameter(str(entry.get("name", "")), kind, bool(entry.get("indexed")), fields)


@dataclass(frozen=True)
class FunctionAbi:
    """A function: its selector and what goes in and out."""

    name: str
    selector: bytes
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]


@dataclass(frozen=True)
class ErrorAbi:
    """A custom error."""

    name: str
    inputs: tuple[Parameter, ...]


@dataclass(frozen=True)
class EventAbi:
    """An event; `topic` is the hash that marks it in a log."""

    name: str
    topic: bytes
    inputs: tuple[Parameter, ...]


class Abi:
    """All that one contract offers."""

    def __init__(self, name: str, entries: Sequence[Mapping[str, Any]]) -> None:
        self.name = name
        self.functions: dict[str, FunctionAbi] = {}
        self.errors: dict[bytes, ErrorAbi] = {}
        self.events: dict[bytes, EventAbi] = {}
        self._constructor: tuple[Parameter, ...] = ()
        for entry in entries:
            inputs = tuple(Parameter.parse(item) for item in entry.get("inputs", ()))
            label = str(entry.get("name", ""))
            digest = keccak(f"{label}({','.join(item.type for item in inputs)})".encode())
            match entry["type"]:
                case "constructor":
                    self._constructor = inputs
                case "function":
                    outputs = tuple(Parameter.parse(item) for item in entry.get("outputs", ()))
                    self.functions[label] = FunctionAbi(label, digest[:4], inputs, outputs)
                case "error":
                    self.errors[digest[:4]] = ErrorAbi(label, inputs)
                case "event":
                    self.events[digest] = EventAbi(label, digest, inputs)
                case _:  # fallback and receive carry no data
                    pass

    def encode_constructor(self, bytecode: bytes, *args: object) -> bytes:
        """Creation code with its arguments; raises AbiError."""
        return bytecode + _encode(f"{self.name} constructor", self._constructor, args)

    def encode(self, function: str, *args: object) -> bytes:
        """Calldata for a call; raises AbiError."""
        found = self._function(function)
        return found.selector + _encode(f"{self.name}.{function}", found.inputs, args)

    def decode(self, function: str, data: bytes) -> Any:
        """What a call returned; raises AbiError."""
        outputs = self._function(function).outputs
        values = _decode(f"{self.name}.{function}", outputs, data)
        return values[0] if len(values) == 1 else _named(outputs, values)

    def decode_event(self, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]]:
        """Name and arguments of a log; raises AbiError when it is none of this contract's events.

        An indexed argument of dynamic type is only there as its hash, and is returned as that.
        """
        event = self.events.get(topics[0]) if topics else None
        if event is None:
            raise AbiError(f"not an event of {self.name}")
        indexed = [item for item in event.inputs if item.indexed]
        if len(indexed) != len(topics) - 1:
            raise AbiError(f"{event.name} has {len(indexed)} indexed arguments")
        arguments: dict[str, Any] = {}
        for item, topic in zip(indexed, topics[1:], strict=True):
            arguments[item.name] = (
                topic if _dynamic(item.type) else _decode(event.name, (item,), topic)[0]
            )
        plain = [item for item in event.inputs if not item.indexed]
        return event.name, arguments | _named(plain, _decode(event.name, plain, data))

    def _function(self, name: str) -> FunctionAbi:
        found = self.functions.get(name)
        if found is None:
            raise AbiError(f"{self.name} has no function {name}; were the artifacts rebuilt?")
        return found


def decode_revert(data: bytes, errors: Mapping[bytes, ErrorAbi]) -> tuple[str, tuple[object, ...]]:
    """Name and arguments of revert data; `("", ())` when it matches nothing known."""
    found = (_BUILT_IN | dict(errors)).get(data[:4])
    if found is None:
        return "", ()
    try:
        values = _decode(found.name, found.inputs, data[4:])
    except AbiError:
        return "", ()
    return found.name, tuple(v[:MAX_SHOWN] if isinstance(v, str) else v for v in values)


def merge_errors(abis: Iterable[Abi]) -> dict[bytes, ErrorAbi]:
    """One table of the custom errors of several contracts."""
    return {selector: error for abi in abis for selector, error in abi.errors.items()}


_BUILT_IN = {
    keccak(b"Error(string)")[:4]: ErrorAbi("Error", (Parameter("message", "string"),)),
    keccak(b"Panic(uint256)")[:4]: ErrorAbi("Panic", (Parameter("code", "uint256"),)),
}


def _encode(what: str, parameters: Sequence[Parameter], args: Sequence[object]) -> bytes:
    if len(args) != len(parameters):
        raise AbiError(f"{what} takes {len(parameters)} arguments, not {len(args)}")
    try:
        encoded: bytes = abi_encode([item.type for item in parameters], args)
    except (EncodingError, TypeError, ValueError) as exc:
        raise AbiError(f"{what}: {exc}") from exc
    return encoded


def _decode(what: str, parameters: Sequence[Parameter], data: bytes) -> list[Any]:
    try:
        values = abi_decode([item.type for item in parameters], data)
    except (DecodingError, ValueError, OverflowError) as exc:
        raise AbiError(f"{what}: cannot decode {len(data)} bytes: {exc}") from exc
    return [_value(item, item.type, value) for item, value in zip(parameters, values, strict=True)]


def _value(item: Parameter, kind: str, value: Any) -> Any:
    if kind.endswith("]"):
        inner = kind[: kind.rindex("[")]
        return [_value(item, inner, part) for part in value]
    if item.fields:
        return _named(
            item.fields,
            [_value(f, f.type, part) for f, part in zip(item.fields, value, strict=True)],
        )
    return checksum_address(bytes.fromhex(value[2:])) if kind == "address" else value


def _named(parameters: Sequence[Parameter], values: Sequence[Any]) -> dict[str, Any]:
    return {
        item.name or str(index): value
        for index, (item, value) in enumerate(zip(parameters, values, strict=True))
    }


def _dynamic(kind: str) -> bool:
    return kind in ("string", "bytes") or kind.endswith("]") or kind.startswith("(")
