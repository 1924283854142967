"""Peer ids: the text form of a node's secp256k1 public key.

A libp2p peer id is the multihash of the protobuf-encoded public key. Keys of at most 42 bytes use
the *identity* hash, so the key is inside the id and can be read back without asking anybody
(libp2p specs, peer-ids: "Keys that serialize to more than 42 bytes must be hashed using sha256").
A compressed secp256k1 key takes 37 bytes in that protobuf, which gives this fixed layout:

    00 25        multihash: identity, 37 bytes
    08 02        protobuf field 1 (type) = 2 (Secp256k1)
    12 21 <33>   protobuf field 2 (data) = compressed key

Only such ids are accepted in this network: the hot key is also the EVM node address.
"""

from __future__ import annotations

import base58
import coincurve

from p2p.errors import ConfigError, InvalidPeerId

_PREFIX = bytes((0x00, 0x25, 0x08, 0x02, 0x12, 0x21))
_COMPRESSED_LENGTH = 33
# base58 of the 39 bytes above is 53 characters; the bound keeps the (quadratic) decoder cheap.
MAX_PEER_ID_LENGTH = 64


def peer_id_of(private_key: bytes) -> str:
    """The peer id of a raw 32-byte secp256k1 private key.

    Raises:
        ConfigError: the bytes are not a private key of that curve.
    """
    return peer_id_from_public_key(public_key_of(private_key))


def public_key_of(private_key: bytes) -> bytes:
    """The compressed (33-byte) public key of a raw 32-byte private key."""
    if len(private_key) != 32:
        raise ConfigError(f"a secp256k1 private key has 32 bytes, not {len(private_key)}")
    try:
        return bytes(coincurve.PrivateKey(private_key).public_key.format(compressed=True))
    except ValueError as exc:
        raise ConfigError("the private key is outside the secp256k1 group order") from exc


def peer_id_from_public_key(compressed: bytes) -> str:
    """The peer id that carries this compressed public key (33 bytes)."""
    if len(compressed) != _COMPRESSED_LENGTH:
        raise ConfigError(f"a compressed public key has 33 bytes, not {len(compressed)}")
    return str(base58.b58encode(_PREFIX + compressed), "ascii")


def is_peer_id(text: str) -> bool:
    """Whether `peer_public_key` takes the text; for ids that others choose."""
    try:
        peer_public_key(text)
    except InvalidPeerId:
        return False
    return True


def peer_public_key(peer_id: str) -> bytes:
    """The compressed public key (33 bytes) inside a peer id, checked to be a curve point.

    Raises:
        InvalidPeerId: not base58, not a secp256k1 identity id, or not a point of the curve.
    """
    if not isinstance(peer_id, str) or not 0 < len(peer_id) <= MAX_PEER_ID_LENGTH:
        raise InvalidPeerId("a peer id is a base58 text of at most 64 characters")
    try:
        raw = base58.b58decode(peer_id)
    except ValueError as exc:
        raise InvalidPeerId(f"{peer_id!r} is not base58") from exc
    if len(raw) != len(_PREFIX) + _COMPRESSED_LENGTH or not raw.startswith(_PREFIX):
        raise InvalidPeerId(f"{peer_id!r} does not carry a secp256k1 public key")
    compressed = raw[len(_PREFIX) :]
    try:
        coincurve.PublicKey(compressed)
    except ValueError as exc:
        raise InvalidPeerId(f"{peer_id!r} carries no point of the curve") from exc
    return compressed
