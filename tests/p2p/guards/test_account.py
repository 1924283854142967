"""Measuring a task, and reading a stream no faster than a peer's budgets allow."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.io.exceptions import MessageTooLarge
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.utils import encode_varint_prefixed

from p2p.admission.budgets import BudgetLimits, Budgets
from p2p.admission.shares import Limits, Share
from p2p.guards.account import PeerAccount, metered
from p2p.guards.paced import PacedStream

PLENTY = Share(1 << 20, 1 << 20, 1 << 20)


def burn(seconds: float) -> None:
    started = time.thread_time()
    while time.thread_time() - started < seconds:
        pass


async def test_each_step_is_measured_and_waiting_is_not():
    told: list[float] = []

    async def work() -> str:
        for _ in range(3):
            burn(0.02)
            await trio.lowlevel.checkpoint()
        return "done"

    async def other() -> None:
        for _ in range(3):
            burn(0.05)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await metered(work(), told.append) == "done"
    assert 0.06 <= sum(told) < 0.1


async def test_errors_and_cancellation_pass_through_and_the_cost_is_told():
    told: list[float] = []
    seen: list[str] = []

    async def fails() -> None:
        burn(0.01)
        raise KeyError("x")

    async def waits() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.append("cancelled")
            burn(0.01)
            raise

    with pytest.raises(KeyError):
        await metered(fails(), told.append)
    with trio.move_on_after(0) as scope:
        await metered(waits(), told.append)
    assert scope.cancelled_caught
    assert seen == ["cancelled"]
    assert sum(told) >= 0.02


class Scripted:
    """A stream that hands out chunks as they were sent, then ends."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.asked = 0

    async def read(self, n: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if not self.chunks:
            raise StreamEOF
        chunk, rest = self.chunks[0][:n], self.chunks[0][n:]
        if rest:
            self.chunks[0] = rest
        else:
            del self.chunks[0]
        return chunk


def account_and_budgets(clock=lambda: 0.0, kept: int = 0) -> tuple[PeerAccount, Budgets]:
    share = Share(100, 100, 100)
    limits = BudgetLimits(bytes=Limits(share, share, share, kept=kept))
    budgets = Budgets(limits, clock=clock)
    return PeerAccount(budgets, "peer", ("203.0.113.7", 1)), budgets


def paced(stream: Any, account: PeerAccount, limit: int = 64, idle: float = math.inf):
    return PacedStream(stream, account, account.hold(0), limit, idle)


async def read_all(stream: PacedStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.read(count - len(data))
    return data


async def test_messages_come_whole_and_hold_their_bytes_until_the_next_is_asked_for():
    account, budgets = account_and_budgets()
    first, second = (encode_varint_prefixed(text) for text in (b"hello", b"you"))
    script = Scripted(first[:2], first[2:4], first[4:] + second)
    stream = paced(script, account)
    assert await read_all(stream, len(first)) == first
    assert budgets.bytes.held == len(first)
    assert await read_all(stream, len(second)) == second
    assert budgets.bytes.held == len(second)
    with pytest.raises(StreamEOF):
        await stream.read(1)


async def test_a_message_that_is_too_large_is_not_gathered():
    account, budgets = account_and_budgets()
    script = Scripted(encode_varint_prefixed(bytes(65)))
    with pytest.raises(MessageTooLarge):
        await paced(script, account).read(1)
    assert script.asked == 1
    assert budgets.bytes.held == 0


async def test_a_message_waits_for_room_and_for_the_cpu_budget(autojump_clock):
    account, _ = account_and_budgets(clock=trio.current_time)
    taken = account.hold(98)
    account.spend(4.0)
    message = encode_varint_prefixed(b"hello")
    script, got = Scripted(message), []

    async def read() -> None:
        got.append(await read_all(paced(script, account), len(message)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(5.0)
        assert script.asked == 0  # above the CPU budget
        await trio.sleep(20.0)
        assert script.asked == 1  # the length, and no room for the rest
        taken.close()
    assert got == [message]


async def test_a_silent_stream_ends(autojump_clock):
    class Silent(Scripted):
        async def read(self, n: int) -> bytes:
            await trio.sleep_forever()
            return b""

    account, _ = account_and_budgets()
    with pytest.raises(StreamReset):
        await paced(Silent(), account, idle=30.0).read(1)
