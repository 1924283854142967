"""Malformed, oversized and mistyped bodies on every method: refused by name, and nothing breaks."""

from __future__ import annotations

import time

import msgpack
import pytest

from node.roles.orchestrator.coordinator.units import UnitState
from node.wire import methods
from node.wire.codec import BadBody, decode
from node.wire.messages.verification import BundleUpload
from node.wire.messages.work import Progress
from node.wire.methods import Method

METHODS = {value.name: value for value in vars(methods).values() if isinstance(value, Method)}
WORKER = ("ping", "invite", "load", "edge", "ring", "assign", "claim", "countersign")
ORCHESTRATOR = ("progress", "trouble", "verdict")
VALIDATOR = ("verify", "bundle", "cosign", "convict")
REF = {"group_id": b"g" * 32, "generation": 1, "stage": 0}
GARBAGE = (
    b"",
    b"\xc1",
    b"\x91" * 500,
    b"\xdf\xff\xff\xff\xff",
    b"\xc7\x01\x05a",
    msgpack.packb([1, 2, 3]),
    msgpack.packb({1: 2}, strict_types=True),
    msgpack.packb({"ref": REF, "nonsense": 1}),
    msgpack.packb({"ref": {**REF, "generation": -1}}),
    msgpack.packb({"ref": {**REF, "stage": "0"}}),
)
TURNED_AWAY = {
    "bad_request",
    "not_a_member",
    "not_a_validator",
    "not_asked",
    "not_my_orchestrator",
    "not_my_neighbour",
    "not_offered",
    "too_large",
}


async def test_garbage_from_a_stranger_is_refused_on_every_method(net) -> None:
    async with net() as network:
        served = [(network.stage(0), name) for name in (*WORKER, "forget", "fetch")]
        served += [(network.boss, name) for name in (*ORCHESTRATOR, "fetch")]
        served += [(network.judge, name) for name in (*VALIDATOR, "fetch")]
        assert {name for _, name in served} == set(METHODS)
        for node, name in served:
            for data in GARBAGE:
                code = await network.mallory.refused(node.peer_id, METHODS[name], data)
                assert code in TURNED_AWAY, (name, data)
        (unit,) = await network.submit()
        await network.reached(unit, UnitState.SETTLED)


async def test_garbage_from_those_who_may_ask_is_refused_too(net) -> None:
    async with net(judges=()) as network:
        worker, generation = network.stage(0), network.group.generation
        for name in WORKER:
            sender = network.stage(1) if name in ("edge", "countersign") else network.boss
            for data in GARBAGE:
                assert await sender.refused(worker.peer_id, METHODS[name], data) == "bad_request"
        for name in ("progress", "trouble"):
            for data in GARBAGE:
                code = await worker.refused(network.boss.peer_id, METHODS[name], data)
                assert code == "bad_request"
        assert network.group.generation == generation


async def test_an_oversized_body_is_not_read(net) -> None:
    async with net(judges=()) as network:
        method = METHODS["trouble"]
        data = bytes(method.max_request + 1)
        assert await network.stage(0).refused(network.boss.peer_id, method, data) == "too_large"


def test_a_list_of_a_million_bad_items_costs_one_complaint() -> None:
    """A report on every item took 76 s and 7 GB."""
    run = {"sequence_id": b"s" * 16, "offset": 0, "ids": [None] * (1 << 20)}
    data = msgpack.packb({"ref": REF, "tokens": [run] * 7, "finished": []})
    started = time.process_time()
    with pytest.raises(BadBody, match=r"tokens\.0\.ids\.0"):
        decode(Progress, data)
    assert time.process_time() - started < 20.0


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd" + (1 << 20).to_bytes(4, "big") + b"\x80" * (1 << 20),
        b"\x81\xa6bundle\xdd" + (70_000).to_bytes(4, "big") + b"\x90" * 70_000,
        b"\x91" * (1 << 20),
        b"\xde\x00\xff" + b"\xa1a\xc0" * 255,
    ],
    ids=["a million maps", "many arrays", "deep", "wide map"],
)
def test_containers_are_counted_before_they_fill_the_memory(data: bytes) -> None:
    with pytest.raises(BadBody):
        decode(BundleUpload, data)
