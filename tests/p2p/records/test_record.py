from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2p.errors import InvalidRecord
from p2p.identity import peer_id_of
from p2p.records.record import MAX_RECORD_BYTES, NodeRecord, encode_record, open_record, sign_record

FULL = {
    "addresses": ("/ip4/127.0.0.1/tcp/4001",),
    "roles": ("worker", "validator"),
    "pools": ("pool-1",),
    "agent": "prime-node/0.1.0",
    "device": "NVIDIA H100",
    "vram_bytes": 80 << 30,
    "layer_seconds": 0.0012,
    "models": (bytes(range(32)),),
    "location": (52.5, 13.4),
    "region": "eu",
    "provider": "0x" + "ab" * 20,
    "http": "http://127.0.0.1:7070",
}


def test_a_full_record_survives_the_wire(key, record):
    statement = record(peer_id_of(key(0)), **FULL)
    opened = open_record(sign_record(statement, key(0), "test").wire, "test")
    assert opened.record == statement


def test_equal_records_have_equal_bytes(key, record):
    one, two = (record(peer_id_of(key(0)), **FULL) for _ in range(2))
    assert encode_record(one) == encode_record(two)


def test_a_record_belongs_to_its_network(signed):
    with pytest.raises(InvalidRecord, match="not signed by"):
        open_record(signed(0, at=1.0, network="red"), "blue")


def test_nobody_signs_for_another(key, record):
    with pytest.raises(InvalidRecord, match="own peer id"):
        sign_record(record(peer_id_of(key(0))), key(1), "test")
    stolen = msgpack.unpackb(sign_record(record(peer_id_of(key(1))), key(1), "test").wire)
    stolen[0] = encode_record(record(peer_id_of(key(0))))
    with pytest.raises(InvalidRecord, match="not signed by"):
        open_record(msgpack.packb(stolen), "test")


def test_every_changed_byte_is_noticed(signed):
    wire = signed(0, at=1.0, region="eu")
    for position in range(len(wire)):
        changed = bytearray(wire)
        changed[position] ^= 1
        with pytest.raises(InvalidRecord):
            open_record(bytes(changed), "test")


def test_other_encodings_of_the_same_values_are_refused(key, record):
    import coincurve

    payload = msgpack.unpackb(encode_record(record(peer_id_of(key(0)))))
    loose = msgpack.packb(payload, use_single_float=True)
    signature = coincurve.PrivateKey(key(0)).sign_recoverable(b"prime-node-record/1:test\0" + loose)
    with pytest.raises(InvalidRecord, match="canonical"):
        open_record(msgpack.packb([loose, signature]), "test")


@given(st.binary(max_size=600))
def test_garbage_is_an_invalid_record(data):
    with pytest.raises(InvalidRecord):
        open_record(data, "test")


nested = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=80),
    lambda inner: st.lists(inner, max_size=20),
)


@given(nested, st.binary(min_size=65, max_size=65))
def test_well_formed_msgpack_garbage_too(value, signature):
    for wire in (msgpack.packb(value), msgpack.packb([msgpack.packb(value), signature])):
        with pytest.raises(InvalidRecord):
            open_record(wire, "test")


def test_size_is_checked_first():
    with pytest.raises(InvalidRecord, match="at most"):
        open_record(bytes(MAX_RECORD_BYTES + 1), "test")


def test_our_own_record_must_fit(key, record):
    fat = record(
        peer_id_of(key(0)),
        addresses=("x" * 256,) * 16,
        models=tuple(bytes([n]) * 32 for n in range(64)),
        pools=("p" * 64,) * 16,
        http="h" * 256,
        device="d" * 128,
    )
    assert len(sign_record(fat, key(0), "test").wire) <= MAX_RECORD_BYTES
    wide = record(peer_id_of(key(0)), addresses=("\U0001f4a1" * 256,) * 16)
    with pytest.raises(InvalidRecord, match="takes"):
        sign_record(wide, key(0), "test")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", -1),
        ("sequence", 2**63),
        ("expires_at", float("nan")),
        ("issued_at", float("inf")),
        ("addresses", ("a",) * 17),
        ("addresses", ("a" * 257,)),
        ("roles", ("king",)),
        ("models", (bytes(31),)),
        ("vram_bytes", "80 GiB"),
        ("layer_seconds", -0.1),
        ("location", (91.0, 0.0)),
        ("location", (0.0, 181.0)),
        ("region", "r" * 65),
        ("surprise", 1),
    ],
)
def test_every_field_is_bounded(name, value):
    fields = {"peer_id": "p", "sequence": 0, "issued_at": 0.0, "expires_at": 0.0} | {name: value}
    with pytest.raises(ValidationError):
        NodeRecord(**fields)
