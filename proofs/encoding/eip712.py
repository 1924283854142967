"""EIP-712 hashing of flat structs of bytes32, address and unsigned integers.

digest = keccak(0x19 0x01 || separator || hashStruct), hashStruct = keccak(typeHash || one word a
field). The separator binds a signature to one chain and one contract. Nothing here is general:
our messages have no nested types, arrays or strings, and what is left fits on a screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from proofs.encoding.signing import address_bytes, checksum_address, keccak256
from proofs.errors import ProofError

DOMAIN_NAME = "PrimeNode"
DOMAIN_VERSION = "1"
_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


class EncodingError(ProofError):
    """A value that its Solidity type cannot hold; the message names the type."""


def word(kind: str, value: int | bytes | str) -> bytes:
    """One 32-byte ABI word of type bytes32, address or uintN. Raises EncodingError."""
    if kind == "bytes32" and isinstance(value, bytes) and len(value) == 32:
        return value
    if kind == "address" and isinstance(value, str):
        return address_bytes(value).rjust(32, b"\0")
    if kind.startswith("uint") and isinstance(value, int) and 0 <= value < 2 ** int(kind[4:]):
        return value.to_bytes(32, "big")
    raise EncodingError(f"{value!r:.80} is not a {kind}")


def unword(kind: str, data: bytes) -> int | bytes | str:
    """Inverse of `word`. Raises EncodingError for stray high bits or another length."""
    if len(data) != 32:
        raise EncodingError(f"an ABI word has 32 bytes, not {len(data)}")
    value: int | bytes | str = data
    if kind == "address":
        value = checksum_address(data[12:])
    elif kind.startswith("uint"):
        value = int.from_bytes(data, "big")
    if word(kind, value) != data:
        raise EncodingError(f"{data.hex()} is not a {kind}")
    return value


@dataclass(frozen=True)
class StructType:
    """A struct's name and its fields, (Solidity type, name), in the order of the contract."""

    name: str
    fields: tuple[tuple[str, str], ...]

    @cached_property
    def type_string(self) -> str:
        """encodeType of EIP-712: the name and the fields with their types."""
        return f"{self.name}({','.join(f'{kind} {name}' for kind, name in self.fields)})"

    @cached_property
    def type_hash(self) -> bytes:
        """typeHash, 32 bytes."""
        return keccak256(self.type_string.encode("ascii"))

    def hash(self, values: Sequence[int | bytes | str]) -> bytes:
        """hashStruct of `values` in field order. Raises EncodingError or SigningError."""
        if len(values) != len(self.fields):
            raise EncodingError(f"{self.name} has {len(self.fields)} fields, not {len(values)}")
        words = (word(kind, v) for (kind, _), v in zip(self.fields, values, strict=True))
        return keccak256(self.type_hash + b"".join(words))


@dataclass(frozen=True)
class Domain:
    """Where a signature is valid: a chain and the contract (EIP-55 address) that checks it."""

    chain_id: int
    verifying_contract: str

    @cached_property
    def separator(self) -> bytes:
        """domainSeparator, 32 bytes."""
        return keccak256(
            keccak256(_DOMAIN_TYPE.encode("ascii"))
            + keccak256(DOMAIN_NAME.encode("ascii"))
            + keccak256(DOMAIN_VERSION.encode("ascii"))
            + word("uint256", self.chain_id)
            + word("address", self.verifying_contract)
        )

    def digest(self, struct_hash: bytes) -> bytes:
        """The 32 bytes to sign for a struct hash."""
        return keccak256(b"\x19\x01" + self.separator + struct_hash)
