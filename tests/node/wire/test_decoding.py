from __future__ import annotations

import threading
import time
from typing import Any

import msgpack
import pytest
import trio

from node.wire.codec import decode
from node.wire.decoding import SMALL, decode_for
from node.wire.messages.fields import MAX_REPORT
from node.wire.messages.work import Progress


class Charges:
    def __init__(self) -> None:
        self.of: dict[str, float] = {}

    def charge(self, peer_id: str, seconds: float) -> None:
        self.of[peer_id] = self.of.get(peer_id, 0.0) + seconds


def burn(data: bytes) -> str:
    started = time.thread_time()
    while time.thread_time() - started < 0.05:
        pass
    if data[:1] == b"!":
        raise ValueError("not that")
    return threading.current_thread().name


async def test_large_bodies_are_decoded_in_a_thread_at_their_senders_cost():
    network: Any = Charges()
    here = threading.current_thread().name
    assert await decode_for(network, "peer", bytes(SMALL), burn) == here
    assert network.of == {}  # the network charges what the loop does itself
    assert await decode_for(network, "peer", bytes(SMALL + 1), burn) != here
    assert network.of["peer"] >= 0.05
    with pytest.raises(ValueError, match="not that"):
        await decode_for(network, "other", b"!" * (SMALL + 1), burn)
    assert network.of["other"] >= 0.05


async def test_one_large_body_is_decoded_at_a_time():
    network: Any = Charges()
    going, most = 0, 0

    def work(data: bytes) -> None:
        nonlocal going, most
        going += 1
        most = max(most, going)
        time.sleep(0)  # lets other threads run
        going -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(decode_for, network, "peer", bytes(SMALL + 1), work)
    assert most == 1


def test_a_report_of_the_largest_size_is_hardly_more_than_small():
    run = {"sequence_id": b"s" * 16, "offset": 0, "ids": [300] * ((MAX_REPORT - 200) // 3)}
    ref = {"group_id": b"g" * 32, "generation": 1, "stage": 0}
    data = msgpack.packb({"ref": ref, "tokens": [run], "finished": []})
    assert MAX_REPORT - 200 < len(data) <= MAX_REPORT
    assert len(decode(Progress, data).tokens[0].ids) > 20_000
    assert MAX_REPORT <= 2 * SMALL
