"""Frames and bodies between control process and engine."""

from __future__ import annotations

import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.control import ipc, operations
from pipeline.engine.control.messages import MAX_FRAME, Finished, Loaded, Submit
from pipeline.engine.errors import EngineDied, EngineError, IpcViolation
from proofs.evidence.sequence import FinishReason
from proofs.sampling.settings import SamplingSettings
from tests.pipeline.engine.sequences import make_spec


def one(frame: bytes) -> dict[str, object]:
    (value,) = ipc.FrameSplitter().feed(frame)
    return value


SUBMIT = Submit(
    sequences=(
        make_spec(
            b"s" * 16,
            (1, 2),
            generated=(3,),
            sampling=SamplingSettings(temperature=1, noise_key=2**64 - 1),
            max_tokens=4,
            stop=("end",),
            eos_ids=(2,),
        ),
    )
)
FINISHED = Finished(generation=1, sequence_id=b"s" * 16, reason=FinishReason.STOP, ids=(1,))


def test_a_request_survives_the_wire() -> None:
    parsed = ipc.parse_request(one(ipc.pack_request(5, operations.SUBMIT, SUBMIT)))
    assert parsed == ipc.Request(5, operations.SUBMIT, SUBMIT)


def test_replies_survive_the_wire() -> None:
    assert ipc.parse_reply(one(ipc.pack_event("finished", FINISHED))) == ipc.Event(
        "finished", FINISHED
    )
    answer = ipc.parse_reply(
        one(ipc.pack_answer(3, Loaded(weights_bytes=1, kv_bytes=2, seconds=1)))
    )
    assert isinstance(answer, ipc.Answer)
    assert ipc.validate(Loaded, answer.body, "load").model_dump()["kv_bytes"] == 2
    failure = ipc.parse_reply(one(ipc.pack_failure(4, EngineError("model", "no such folder"))))
    assert isinstance(failure, ipc.Failure)
    assert (failure.id, failure.error.code, failure.error.message) == (4, "model", "no such folder")


def test_codes_that_the_protocol_does_not_know_become_internal() -> None:
    failure = ipc.parse_reply(one(ipc.pack_failure(4, EngineDied("x"))))
    assert isinstance(failure, ipc.Failure)
    assert failure.error.code == "internal"


@given(st.lists(st.integers(0, 300)), st.lists(st.integers(1, 40)))
def test_any_cut_of_the_stream_gives_the_same_frames(sizes: list[int], cuts: list[int]) -> None:
    values: list[dict[str, object]] = [
        {"id": n, "pad": bytes(size)} for n, size in enumerate(sizes)
    ]
    stream = b"".join(map(ipc.pack, values))
    splitter, seen = ipc.FrameSplitter(), []
    for cut in cuts:
        seen += splitter.feed(stream[:cut])
        stream = stream[cut:]
    assert seen + splitter.feed(stream) == values


def test_an_oversized_frame_is_refused_by_its_length_alone() -> None:
    with pytest.raises(IpcViolation, match="over the limit"):
        ipc.FrameSplitter().feed(struct.pack(">I", MAX_FRAME + 1))
    with pytest.raises(IpcViolation, match="over the limit"):
        ipc.pack({"pad": bytes(MAX_FRAME)})


@pytest.mark.parametrize("body", [b"\xc1", msgpack.packb([1]), msgpack.packb({1: 2}), b"\x81\xa1a"])
def test_frames_that_are_no_maps(body: bytes) -> None:
    with pytest.raises(IpcViolation):
        ipc.FrameSplitter().feed(struct.pack(">I", len(body)) + body)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({}, "no valid id"),
        ({"id": -1}, "no valid id"),
        ({"id": 1, "op": "format_disk"}, "unknown operation 'format_disk'"),
        ({"id": 1, "op": "status"}, "status: body"),
        ({"id": 1, "op": "status", "body": {"x": 1}}, "status: x: Extra inputs"),
        ({"id": 1, "op": "listen", "body": {"host": "h", "port": "80"}}, "listen: port"),
        ({"id": 1, "op": "listen", "body": {"host": "h" * 5000}}, "listen: host"),
        ({"id": 1, "op": "abort", "body": {"sequence_ids": (b"short",)}}, "sequence_ids.0"),
    ],
)
def test_bad_requests_name_what_is_wrong(frame: dict[str, object], reason: str) -> None:
    with pytest.raises(IpcViolation, match=reason):
        ipc.parse_request(frame)


@pytest.mark.parametrize(
    "frame",
    [
        {"event": "surprise", "body": {}},
        {"event": "tokens", "body": {}},
        {"id": 1},
        {"id": 1, "error": {"code": "weird", "message": "m"}},
        {"id": 1, "error": {"code": "model", "message": 3}},
        {"ok": {}},
    ],
)
def test_bad_replies(frame: dict[str, object]) -> None:
    with pytest.raises(IpcViolation):
        ipc.parse_reply(frame)
