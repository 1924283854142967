"""Headers between stages: what goes in comes out, and nothing else gets through."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.errors import StageViolation
from pipeline.engine.ring.frames import (
    MAX_HEADER,
    Hello,
    check_hello,
    decode_step,
    decode_tokens,
    encode_step,
    encode_tokens,
)
from pipeline.engine.schedule.batch import MAX_CLOSES, MAX_ITEMS, Batch, Close, Grow, Item, Open
from proofs.sampling.settings import SamplingSettings

ids = st.binary(min_size=16, max_size=16)
numbers = st.integers(0, 2**31 - 1)
counts = st.integers(1, 2**31 - 1)
samplings = st.builds(
    SamplingSettings,
    temperature=st.just(0.0) | st.floats(0.001, 10),
    top_k=numbers,
    top_p=st.floats(0.01, 1),
    noise_key=st.integers(0, 2**64 - 1),
)
batches = st.builds(
    Batch,
    numbers,
    st.lists(st.builds(Item, ids, numbers, counts, st.booleans()), max_size=4).map(tuple),
    st.lists(
        st.builds(Open, ids, counts, counts, samplings, st.binary(min_size=32, max_size=32)),
        max_size=4,
    ).map(tuple),
    st.lists(st.builds(Close, ids, numbers, numbers), max_size=4).map(tuple),
    st.lists(st.builds(Grow, ids, counts), max_size=4).map(tuple),
)
HELLO = Hello(b"g" * 32, 3, 1, 4, b"m" * 32, 10, "torch.float32")


@given(batches)
def test_a_step_survives_the_wire(batch: Batch) -> None:
    assert decode_step(encode_step(7, batch), 7) == batch


@given(batches, st.data())
def test_mutated_steps_are_refused_or_well_formed(batch: Batch, data: st.DataObject) -> None:
    raw = bytearray(encode_step(7, batch))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_step(bytes(raw), 7)
    except StageViolation:
        return
    assert decode_step(encode_step(7, decoded), 7) == decoded


def test_the_largest_step_fits_the_header_limit() -> None:
    large, sampling = 2**31 - 1, SamplingSettings(temperature=1, top_p=0.5, noise_key=2**64 - 1)
    keys = [n.to_bytes(16, "big") for n in range(MAX_CLOSES)]
    batch = Batch(
        2**62,
        tuple(Item(key, large, large, True) for key in keys[:MAX_ITEMS]),
        tuple(Open(key, large, large, sampling, bytes(32)) for key in keys[:MAX_ITEMS]),
        tuple(Close(key, large, large) for key in keys),
        tuple(Grow(key, large) for key in keys[:MAX_ITEMS]),
    )
    assert len(encode_step(2**62, batch)) < MAX_HEADER


def entry(**changes: object) -> bytes:
    fields = {"generation": 7, "step": 0, "closes": [], "opens": [], "items": []} | changes
    return bytes(msgpack.packb(list(fields.values())))


GOOD = [0.0, 0, 1.0, 0]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        b"\x91" * 5000,
        entry()[:-1],
        entry() + b"\0",
        msgpack.packb({}),
        entry(generation=6),
        entry(generation=True),
        entry(step=-1),
        entry(items=7),
        entry(items=[[b"x" * 15, 0, 1, True]]),
        entry(items=[["x" * 16, 0, 1, True]]),
        entry(items=[[b"x" * 16, 0, 0, True]]),
        entry(items=[[b"x" * 16, -1, 1, True]]),
        entry(items=[[b"x" * 16, 0, 2**31, True]]),
        entry(items=[[b"x" * 16, 0, 1.0, True]]),
        entry(items=[[b"x" * 16, 0, 1, 1]]),
        entry(items=[[b"x" * 16, 0, 1]]),
        entry(items=[[b"x" * 16, 0, 1, True]] * (MAX_ITEMS + 1)),
        entry(opens=[[b"x" * 16, 1, 1, GOOD[:3]]]),
        entry(opens=[[b"x" * 16, 1, 1, [-1.0, *GOOD[1:]]]]),
        entry(opens=[[b"x" * 16, 1, 1, [float("nan"), *GOOD[1:]]]]),
        entry(opens=[[b"x" * 16, 0, 1, GOOD]]),
        entry(opens=[[b"x" * 16, 1, 1]]),
        entry(closes=[[b"x" * 16, -1, 0]]),
        entry(closes=[[b"x" * 16, 1, -1]]),
        entry(closes=[[b"x" * 16, 1, 2**32 - 1]]),
        entry(closes=[[b"x" * 16, 1]]),
        entry(closes=[b"x" * 16]),
    ],
)
def test_malformed_steps(header: bytes) -> None:
    with pytest.raises(StageViolation):
        decode_step(header, 7)


def test_tokens_survive_the_wire() -> None:
    assert decode_tokens(encode_tokens(7, 4, (1, 9)), 7, 4, count=2, vocab=10) == [1, 9]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        encode_tokens(6, 4, (1, 9)),
        encode_tokens(7, 5, (1, 9)),
        encode_tokens(7, 4, (1,)),
        encode_tokens(7, 4, (1, 9, 9)),
        encode_tokens(7, 4, (1, 10)),
        encode_tokens(7, 4, (1, -1)),
        msgpack.packb([7, 4, [1, True]]),
        msgpack.packb([7, 4, 1]),
    ],
)
def test_wrong_tokens(header: bytes) -> None:
    with pytest.raises(StageViolation):
        decode_tokens(header, 7, 4, count=2, vocab=10)


def test_a_hello_is_accepted_if_it_says_just_what_is_expected() -> None:
    check_hello(HELLO.encode(), HELLO)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (replace(HELLO, generation=2), "generation is 2, this stage expects 3"),
        (replace(HELLO, group_id=b"h" * 32), "group_id is 68686868"),
        (replace(HELLO, layer=11), "layer is 11, this stage expects 10"),
        (replace(HELLO, dtype="torch.bfloat16"), "dtype is torch.bfloat16"),
    ],
)
def test_another_hello_is_refused_with_the_difference(other: Hello, reason: str) -> None:
    with pytest.raises(StageViolation, match=reason):
        check_hello(other.encode(), HELLO)


@pytest.mark.parametrize("raw", [b"", b"\x90", HELLO.encode()[:-1], msgpack.packb([1] * 9)])
def test_garbage_hellos_are_refused(raw: bytes) -> None:
    with pytest.raises(StageViolation):
        check_hello(raw, HELLO)
