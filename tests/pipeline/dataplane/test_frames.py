"""Byte formats: round trips, and every malformed input a typed error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataplane.errors import EdgeMisuse, EdgeViolation
from pipeline.dataplane.frames import (
    FRAME_HEAD,
    MAX_CERTIFICATE,
    MAX_HELLO,
    PREAMBLE_HEAD,
    EdgeLimits,
    FrameHead,
    Hello,
    Kind,
    decode_head,
    decode_hello,
    encode_head,
    encode_hello,
    encode_preamble,
    encode_refusal,
    preamble_certificate,
    preamble_missing,
)

limits = st.builds(
    EdgeLimits,
    st.integers(0, 2**20),
    st.integers(0, 2**40),
    st.integers(1, 255),
)


def test_head_bytes_are_as_documented() -> None:
    assert (
        encode_head(Kind.DATA, 7, 0x0102, 0x0304).hex() == "504404070000010200000000000003" + "04"
    )


@given(
    st.sampled_from(Kind), st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
)
def test_head_round_trip(kind: Kind, argument: int, header_len: int, payload_len: int) -> None:
    data = encode_head(kind, argument, header_len, payload_len)
    assert decode_head(data) == FrameHead(kind, argument, header_len, payload_len)


@given(st.binary(min_size=16, max_size=16))
def test_any_sixteen_bytes_decode_or_are_a_violation(data: bytes) -> None:
    try:
        head = decode_head(data)
    except EdgeViolation:
        assert data[:2] != b"PD" or data[2] not in set(Kind)
    else:
        assert encode_head(head.kind, head.argument, head.header_len, head.payload_len) == data


@given(limits, st.binary(max_size=MAX_HELLO))
def test_hello_round_trip(some: EdgeLimits, text: bytes) -> None:
    frame = encode_hello(Kind.HELLO, Hello(some, text))
    head = decode_head(frame[: FRAME_HEAD.size])
    assert (head.kind, head.header_len) == (Kind.HELLO, len(frame) - FRAME_HEAD.size)
    assert decode_hello(frame[FRAME_HEAD.size :]) == Hello(some, text)


@given(st.binary(max_size=64))
def test_any_hello_body_decodes_or_is_a_violation(body: bytes) -> None:
    try:
        hello = decode_hello(body)
    except EdgeViolation:
        return
    assert 1 <= hello.limits.window <= 255


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((0, b"\0\2"), "version 2"),
        ((2, b"\0\0"), "window 0"),
        ((4, b"\xff" * 4), "header"),
        ((8, b"\xff" * 8), "payload"),
    ],
)
def test_hello_out_of_bounds(change: tuple[int, bytes], words: str) -> None:
    body = bytearray(encode_hello(Kind.HELLO, Hello(EdgeLimits(), b""))[FRAME_HEAD.size :])
    offset, new = change
    body[offset : offset + len(new)] = new
    with pytest.raises(EdgeViolation, match=words):
        decode_hello(bytes(body))


def test_our_own_oversize_is_our_mistake() -> None:
    with pytest.raises(EdgeMisuse):
        encode_hello(Kind.HELLO, Hello(EdgeLimits(), bytes(MAX_HELLO + 1)))
    with pytest.raises(EdgeMisuse):
        encode_preamble(bytes(MAX_CERTIFICATE + 1))
    with pytest.raises(EdgeMisuse):
        EdgeLimits(window=256)


def test_long_refusals_are_cut() -> None:
    frame = encode_refusal("é" * MAX_HELLO)
    assert decode_head(frame[: FRAME_HEAD.size]).header_len == MAX_HELLO


@given(st.binary(min_size=1, max_size=MAX_CERTIFICATE), st.data())
def test_preamble_asks_for_exactly_what_is_missing(certificate: bytes, data: st.DataObject) -> None:
    preamble = encode_preamble(certificate)
    received = bytearray()
    while missing := preamble_missing(received):
        step = data.draw(st.integers(1, missing))
        received += preamble[len(received) : len(received) + step]
    assert received == preamble
    assert preamble_certificate(received) == certificate


@given(st.binary(min_size=1, max_size=40))
def test_garbage_preambles_fail_early(garbage: bytes) -> None:
    try:
        missing = preamble_missing(garbage)
    except EdgeViolation:
        return
    assert b"PRIMEDP1".startswith(garbage[:8])
    assert missing <= PREAMBLE_HEAD.size + MAX_CERTIFICATE
