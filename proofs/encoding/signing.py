"""Signatures by a node's secp256k1 key, over chain messages and over everything else.

Chain messages are EIP-712 digests (`proofs.encoding.eip712`). All other messages are hashed with a
domain tag, as BIP-340 does, `sha256(sha256(tag) || sha256(tag) || payload)`, so that a signature
for one purpose is worthless for any other. A signature is the 65 bytes r || s || v that `ecrecover`
takes: v is 27 or 28 and s is in the lower half of the group order, as OpenZeppelin's ECDSA library
requires. Other encodings of the same signature are refused: nobody can make a second valid one.

Keys are 32 raw bytes, passed in and never kept. Signing is deterministic (RFC 6979).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated

from coincurve import PrivateKey, PublicKey
from Crypto.Hash import keccak as _keccak
from pydantic import AfterValidator, Field

from proofs.errors import ProofError

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SIGNATURE_LENGTH = 65
ZERO_ADDRESS = "0x" + "0" * 40

KNOWN_ADDRESSES = 1 << 14
"""The same few addresses stand in every receipt of an epoch; hashing them anew is most of the work
of reading it."""


class SigningError(ProofError):
    """A key, address or digest of one's own that cannot be used; the message says why."""


class SignatureError(ProofError):
    """A signature that is malformed or recovers to no key."""


def keccak256(data: bytes) -> bytes:
    """Ethereum's Keccak-256 (not NIST SHA-3)."""
    return _keccak.new(data=data, digest_bits=256).digest()


@lru_cache(maxsize=KNOWN_ADDRESSES)
def checksum_address(address: bytes) -> str:
    """EIP-55 text of a 20-byte address. Raises SigningError."""
    if len(address) != 20:
        raise SigningError(f"an address has 20 bytes, not {len(address)}")
    text = address.hex()
    nibbles = keccak256(text.encode("ascii")).hex()
    mixed = (c.upper() if int(n, 16) >= 8 else c for c, n in zip(text, nibbles, strict=False))
    return "0x" + "".join(mixed)


def address_bytes(address: str) -> bytes:
    """The 20 bytes of an EIP-55 address. Raises SigningError unless it is in exactly that form."""
    try:
        raw = bytes.fromhex(address.removeprefix("0x"))
    except ValueError as exc:
        raise SigningError(f"{address[:64]!r} is not a hexadecimal address") from exc
    if len(address) != 42 or len(raw) != 20 or checksum_address(raw) != address:
        raise SigningError(f"{address[:64]!r} is not a 0x-prefixed EIP-55 address")
    return raw


def _is_address(value: str) -> str:
    try:
        address_bytes(value)
    except SigningError as exc:
        raise ValueError(str(exc)) from exc  # pydantic collects ValueErrors
    return value


Address = Annotated[str, AfterValidator(_is_address)]
"""An EIP-55 address as text."""

Signature = Annotated[bytes, Field(min_length=SIGNATURE_LENGTH, max_length=SIGNATURE_LENGTH)]
"""r || s || v."""


def address_of(private_key: bytes) -> str:
    """EIP-55 address of a 32-byte private key. Raises SigningError."""
    return public_key_address(_private(private_key).public_key.format(compressed=False))


def public_key_address(public_key: bytes) -> str:
    """EIP-55 address of a compressed (33 B) or uncompressed (65 B) public key.

    Raises SigningError when it is not a point on the curve.
    """
    try:
        point = PublicKey(public_key).format(compressed=False)
    except ValueError as exc:
        raise SigningError("not a secp256k1 public key of 33 or 65 bytes") from exc
    return checksum_address(keccak256(point[1:])[12:])


def sign_digest(private_key: bytes, digest: bytes) -> bytes:
    """65-byte signature r || s || v of a 32-byte digest. Raises SigningError."""
    if len(digest) != 32:
        raise SigningError(f"a digest has 32 bytes, not {len(digest)}")
    compact = _private(private_key).sign_recoverable(digest, hasher=None)
    return bytes(compact[:64]) + bytes([27 + compact[64]])


def recover(digest: bytes, signature: bytes) -> str:
    """EIP-55 address that signed `digest`.

    Raises SignatureError for another length, v other than 27 or 28, r or s out of range, s in the
    upper half, or no key; SigningError when `digest` is not 32 bytes.
    """
    if len(digest) != 32:
        raise SigningError(f"a digest has 32 bytes, not {len(digest)}")
    if len(signature) != SIGNATURE_LENGTH:
        raise SignatureError(f"a signature has {SIGNATURE_LENGTH} bytes, not {len(signature)}")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if signature[64] not in (27, 28):
        raise SignatureError(f"v is {signature[64]}; it must be 27 or 28")
    if not (0 < r < ORDER and 0 < s < ORDER):
        raise SignatureError("r or s is outside the group order")
    if s > ORDER // 2:
        raise SignatureError("s is in the upper half; only the lower form is valid")
    try:
        key = PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] - 27]), digest, hasher=None
        )
    except ValueError as exc:
        raise SignatureError("the signature recovers to no key") from exc
    return public_key_address(key.format(compressed=False))


def tagged_hash(domain: str, payload: bytes) -> bytes:
    """sha256(sha256(tag) || sha256(tag) || payload) with tag = "prime-node/" + domain."""
    tag = hashlib.sha256(f"prime-node/{domain}".encode()).digest()
    return hashlib.sha256(tag + tag + payload).digest()


def sign_message(private_key: bytes, domain: str, payload: bytes) -> bytes:
    """Signature of an off-chain message. Raises SigningError."""
    return sign_digest(private_key, tagged_hash(domain, payload))


def verify_message(address: str, domain: str, payload: bytes, signature: bytes) -> bool:
    """Whether `address` signed the message; False for malformed signatures too."""
    return signed_by(address, tagged_hash(domain, payload), signature)


def signed_by(address: str, digest: bytes, signature: bytes) -> bool:
    """Whether `address` signed `digest`; False for malformed signatures too."""
    try:
        return recover(digest, signature) == address
    except SignatureError:
        return False


def _private(key: bytes) -> PrivateKey:
    if len(key) != 32 or not 0 < int.from_bytes(key, "big") < ORDER:
        raise SigningError("a private key has 32 bytes and is between 1 and the group order")
    return PrivateKey(key)
