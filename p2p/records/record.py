"""Node records: what a node says about itself, signed with its hot key.

A record is a flat list of values in the order of the fields below, as canonical msgpack (a record
whose encoding is not exactly what `encode_record` would produce is refused, so equal records have
equal bytes). Over the wire it travels as msgpack ``[payload, signature]``; the signature is ECDSA
over secp256k1 and SHA-256 of ``DOMAIN + payload``, 64-byte compact plus recovery byte, and must
recover to the public key inside `peer_id`. The domain tag keeps a record's signature from meaning
anything elsewhere, and carries the network's name, so records do not travel between networks.

Everything is bounded before it is parsed; a record of `MAX_RECORD_BYTES` is the largest there is.
"""

from __future__ import annotations

import math
from typing import Annotated

import coincurve
import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from p2p.errors import InvalidPeerId, InvalidRecord
from p2p.identity import peer_id_of, peer_public_key

MAX_RECORD_BYTES = 8 * 1024
RECORD_VERSION = 1
SIGNATURE_BYTES = 65

Text = Annotated[str, Field(max_length=64)]
Address = Annotated[str, Field(min_length=1, max_length=256)]
ModelId = Annotated[bytes, Field(min_length=32, max_length=32)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
PositiveTime = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class NodeRecord(BaseModel):
    """A node's statement about itself. Times are unix seconds, `sequence` unix milliseconds."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    peer_id: Text
    sequence: Annotated[int, Field(ge=0, lt=2**63)]
    issued_at: PositiveTime
    expires_at: PositiveTime
    addresses: Annotated[tuple[Address, ...], Field(max_length=16)] = ()
    roles: Annotated[tuple[Text, ...], Field(max_length=8)] = ()
    pools: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    agent: Text = ""
    device: Annotated[str, Field(max_length=128)] = ""
    vram_bytes: Annotated[int, Field(ge=0, lt=2**63)] = 0
    layer_seconds: PositiveTime = 0.0
    """Measured seconds for one decode step of one layer; 0 when unknown."""
    models: Annotated[tuple[ModelId, ...], Field(max_length=64)] = ()
    location: tuple[Latitude, Longitude] | None = None
    """(latitude, longitude) in degrees."""
    region: Text = ""
    provider: Text = ""
    """EVM address of the provider that stakes for this node, ``0x`` and 40 hex digits, or empty."""
    http: Annotated[str, Field(max_length=256)] = ""

    @field_validator("roles")
    @classmethod
    def _known_roles(cls, roles: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(roles) - {"worker", "validator", "orchestrator"}:
            raise ValueError(f"unknown roles {sorted(unknown)}")
        return roles


_FIELDS = tuple(NodeRecord.model_fields)
_TUPLES = frozenset({"addresses", "roles", "pools", "models", "location"})


class SignedRecord(BaseModel):
    """A record with the exact bytes that were signed."""

    model_config = ConfigDict(frozen=True, strict=True)

    record: NodeRecord
    wire: bytes
    """``[payload, signature]`` as received or made, at most `MAX_RECORD_BYTES`."""


def encode_record(record: NodeRecord) -> bytes:
    """The canonical payload that is signed."""
    values = [getattr(record, name) for name in _FIELDS]
    return bytes(msgpack.packb([RECORD_VERSION, *values]))


def sign_record(record: NodeRecord, private_key: bytes, network: str) -> SignedRecord:
    """Sign our own record.

    Raises:
        InvalidRecord: the record names another peer or is too large.
    """
    if peer_id_of(private_key) != record.peer_id:
        raise InvalidRecord("a node signs records of its own peer id only")
    payload = encode_record(record)
    signature = coincurve.PrivateKey(private_key).sign_recoverable(_domain(network) + payload)
    wire = bytes(msgpack.packb([payload, signature]))
    if len(wire) > MAX_RECORD_BYTES:
        raise InvalidRecord(f"the record takes {len(wire)} bytes, at most {MAX_RECORD_BYTES}")
    return SignedRecord(record=record, wire=wire)


def open_record(wire: bytes, network: str) -> SignedRecord:
    """Parse and verify a record from the wire; freshness is the table's business.

    Raises:
        InvalidRecord: too large, malformed, not canonical, out of bounds or mis-signed.
    """
    if len(wire) > MAX_RECORD_BYTES:
        raise InvalidRecord(f"a record has at most {MAX_RECORD_BYTES} bytes, not {len(wire)}")
    payload, signature = _unpack_wire(wire)
    record = _decode_payload(payload)
    if encode_record(record) != payload:
        raise InvalidRecord("the record is not canonically encoded")
    try:
        expected = peer_public_key(record.peer_id)
        signer = coincurve.PublicKey.from_signature_and_message(
            signature, _domain(network) + payload
        )
    except (InvalidPeerId, ValueError) as exc:
        raise InvalidRecord(f"the record's key or signature is malformed: {exc}") from exc
    if signer.format(compressed=True) != expected:
        raise InvalidRecord("the record is not signed by the node that it names")
    return SignedRecord(record=record, wire=wire)


def _domain(network: str) -> bytes:
    return b"prime-node-record/1:" + network.encode() + b"\0"


def _unpack_wire(wire: bytes) -> tuple[bytes, bytes]:
    match _unpack(wire):
        case [bytes(payload), bytes(signature)] if len(signature) == SIGNATURE_BYTES:
            return payload, signature
    raise InvalidRecord("a signed record is [payload, 65-byte signature]")


def _decode_payload(payload: bytes) -> NodeRecord:
    values = _unpack(payload)
    if not isinstance(values, list) or len(values) != len(_FIELDS) + 1:
        raise InvalidRecord("the record has the wrong number of fields")
    if values[0] != RECORD_VERSION:
        raise InvalidRecord(f"record version {values[0]!r} is not supported")
    named = dict(zip(_FIELDS, values[1:], strict=True))
    for name in _TUPLES:
        if isinstance(named[name], list):
            named[name] = tuple(named[name])
    try:
        return NodeRecord(**named)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        raise InvalidRecord(f"record field {first['loc']}: {first['msg']}") from exc


def _unpack(data: bytes) -> object:
    try:
        return msgpack.unpackb(
            data, max_ext_len=0, max_map_len=0, max_array_len=64, strict_map_key=True
        )
    except (ValueError, msgpack.UnpackException) as exc:
        raise InvalidRecord("the record is no valid msgpack") from exc


def sequence_at(now: float) -> int:
    """The sequence number for a record issued at `now` (unix seconds): unix milliseconds."""
    return math.floor(now * 1000)
