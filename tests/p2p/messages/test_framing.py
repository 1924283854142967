from __future__ import annotations

import msgpack
import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import ProtocolViolation, RemoteRefused
from p2p.messages.framing import (
    MAX_MESSAGE,
    decode_response,
    encode_error,
    encode_frame,
    encode_ok,
    envelope_limit,
    read_frame,
)
from p2p.messages.streams import StreamBroken


@given(st.binary(max_size=300))
def test_a_payload_survives_the_envelope_within_its_limit(payload):
    body = encode_ok(payload)
    assert len(body) <= envelope_limit(len(payload))
    assert decode_response(body, len(payload)) == payload


@given(st.text(), st.text())
def test_an_error_survives_cut_to_its_bounds(code, message):
    body = encode_error(code, message)
    assert len(body) <= envelope_limit(0)
    with pytest.raises(RemoteRefused) as refused:
        decode_response(body, 0)
    assert (refused.value.code, refused.value.message) == (code[:64], message[:MAX_MESSAGE])


@given(st.binary(max_size=200))
def test_garbage_is_a_violation(body):
    try:
        decode_response(body, 100)
    except (ProtocolViolation, RemoteRefused):
        return
    assert msgpack.unpackb(body)["ok"] is not None


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        {"ok": "text"},
        {"ok": b"x" * 11},
        {"ok": b"", "error": ["a", "b"]},
        {"error": ["a"]},
        {"error": [1, "b"]},
        {"error": ["c" * 65, "b"]},
        ["ok", b""],
        None,
    ],
)
def test_other_envelopes_are_violations(envelope):
    with pytest.raises(ProtocolViolation):
        decode_response(msgpack.packb(envelope), 10)


async def pipe(data: bytes, *, piecewise: bool = False) -> trio.abc.ReceiveStream:
    send, receive = trio.testing.memory_stream_one_way_pair()
    for piece in (bytes([b]) for b in data) if piecewise else (data,):
        await send.send_all(piece)
    await send.aclose()
    return receive


async def test_a_frame_may_come_byte_by_byte():
    body = bytes(range(200))
    assert await read_frame(await pipe(encode_frame(body), piecewise=True), 200) == body


async def test_the_length_is_checked_before_the_body():
    with pytest.raises(ProtocolViolation, match="4294967295"):
        await read_frame(await pipe(b"\xff\xff\xff\xff"), 1000)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\0\x05abc"])
async def test_a_cut_frame_is_a_broken_stream(data):
    with pytest.raises(StreamBroken):
        await read_frame(await pipe(data), 1000)
