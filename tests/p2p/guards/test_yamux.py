"""The multiplexer against a scripted peer: bounds, cancellation, stalls, and the stock one."""

from __future__ import annotations

import contextlib
import time
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamEOF,
    MuxedStreamReset,
)
from libp2p.stream_muxer.yamux.yamux import Yamux as StockYamux

from p2p.admission.budgets import BudgetLimits, Budgets
from p2p.admission.shares import Limits, Share
from p2p.admission.standing import Standing
from p2p.guards import yamux as module
from p2p.guards.account import PeerAccount
from p2p.guards.yamux import MAX_INBOUND_STREAMS, MAX_UNANSWERED, PING_INTERVAL, GuardedYamux
from p2p.guards.yamux_frames import INITIAL_WINDOW, Flag, FrameType, encode
from p2p.guards.yamux_outbox import URGENT_LIMIT
from tests.p2p.guards.yamux_peer import Script, Session


@asynccontextmanager
async def guarded_and_script(initiator: bool = False):
    ours, theirs = trio.testing.memory_stream_pair()
    connection = GuardedYamux(Session(ours, initiator), "peer", is_initiator=initiator)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.start)
        await connection.event_started.wait()
        yield connection, Script(theirs)
        nursery.cancel_scope.cancel()


def open_frame(stream_id: int = 1) -> bytes:
    return encode(FrameType.WINDOW_UPDATE, flags=Flag.SYN, stream_id=stream_id)


def data_frame(payload: bytes, stream_id: int = 1, flags: Flag = Flag.NONE) -> bytes:
    return encode(FrameType.DATA, flags=flags, stream_id=stream_id, length=len(payload)) + payload


# -- bounds on what a peer can make us keep --------------------------------------------------------


async def test_a_peer_that_floods_past_its_window_is_cut_off():
    async with guarded_and_script() as (connection, script):
        await script.send(open_frame())
        stream = await connection.accept_stream()
        chunk = bytes(32 * 1024)
        for _ in range(INITIAL_WINDOW // len(chunk)):
            await script.send(data_frame(chunk))
        await trio.testing.wait_all_tasks_blocked()
        assert not connection.is_closed
        assert len(stream._buffer) == INITIAL_WINDOW
        await script.send(data_frame(b"x"))
        await connection.event_closed.wait()
        assert "receive window" in connection.violation
        assert not stream._buffer


async def test_an_announced_giant_frame_is_refused_before_its_body_comes():
    async with guarded_and_script() as (connection, script):
        await script.send(open_frame())
        await script.send(
            encode(FrameType.DATA, stream_id=1, length=INITIAL_WINDOW + 1) + b"only the start"
        )
        await connection.event_closed.wait()
        assert "exceeds the receive window" in connection.violation


async def test_streams_beyond_the_limit_are_refused_and_harm_nobody():
    async with guarded_and_script() as (connection, script):
        for number in range(MAX_INBOUND_STREAMS):
            await script.send(open_frame(2 * number + 1))
        extra = 2 * MAX_INBOUND_STREAMS + 1
        await script.send(open_frame(extra), data_frame(b"lost", extra))
        header, _ = await script.frame(FrameType.WINDOW_UPDATE, Flag.RST)
        assert header.stream_id == extra
        assert not connection.is_closed
        first = await connection.accept_stream()
        await first.reset()
        await script.send(open_frame(extra + 2))
        header, _ = await script.frame(FrameType.WINDOW_UPDATE, Flag.ACK)
        while header.stream_id != extra + 2:
            header, _ = await script.frame(FrameType.WINDOW_UPDATE, Flag.ACK)


async def test_a_peer_that_provokes_answers_and_never_reads_is_cut_off():
    class Deaf(Session):
        async def write(self, data: bytes) -> None:
            await trio.sleep_forever()

    ours, theirs = trio.testing.memory_stream_pair()
    connection = GuardedYamux(Deaf(ours, False), "peer", is_initiator=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.start)
        ping = encode(FrameType.PING, flags=Flag.SYN, length=7)
        while not connection.is_closed:
            await theirs.send_all(ping * 1024)
            await trio.testing.wait_all_tasks_blocked()
        await connection.event_closed.wait()
        assert "does not read" in connection.violation


@pytest.mark.parametrize(
    "frames",
    [
        b"\x01" + bytes(11),
        encode(FrameType.PING, flags=Flag.SYN, length=1)[:1] + b"\x09" + bytes(10),
        encode(FrameType.DATA, stream_id=0, length=0),
        encode(FrameType.PING, stream_id=5),
        open_frame(2),
        open_frame(1) + open_frame(1),
        open_frame(1) + data_frame(b"end", flags=Flag.FIN) + data_frame(b"more"),
        open_frame(1) + encode(FrameType.WINDOW_UPDATE, stream_id=1, length=2**32 - 1) * 2,
    ],
    ids=["version", "type", "data-0", "ping-id", "our-id", "twice", "after-fin", "overflow"],
)
async def test_broken_rules_end_the_connection(frames):
    async with guarded_and_script() as (connection, script):
        await script.send(frames)
        await connection.event_closed.wait()
        assert connection.violation


async def test_a_silent_peer_is_given_up(autojump_clock):
    async with guarded_and_script() as (connection, _):
        began = trio.current_time()
        await connection.event_closed.wait()
        assert trio.current_time() - began <= (MAX_UNANSWERED + 1) * PING_INTERVAL
        assert connection.violation is None


async def test_a_stall_of_our_own_event_loop_blames_nobody(autojump_clock):
    async with pair(GuardedYamux) as (one, two):
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.jump(600)  # as if the machine had been suspended
        await trio.sleep(10 * PING_INTERVAL)
        assert not one.is_closed
        assert not two.is_closed


async def test_a_stream_that_the_peer_never_closes_is_reclaimed(autojump_clock):
    async with guarded_and_script() as (connection, script):
        await script.send(open_frame())
        stream = await connection.accept_stream()
        await stream.close()

        async def answer_pings() -> None:
            while True:
                header, _ = await script.frame(FrameType.PING, Flag.SYN)
                await script.send(encode(FrameType.PING, flags=Flag.ACK, length=header.length))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_pings)
            await trio.sleep(module.LINGER + 3 * module.PING_INTERVAL)
            with pytest.raises(MuxedStreamReset):
                await stream.read(1)
            assert not connection._streams
            nursery.cancel_scope.cancel()


async def test_an_answer_may_take_minutes(autojump_clock):
    """Whoever asked has nothing more to say, and waits: for a model that is being loaded, say."""
    async with pair(GuardedYamux) as (one, two):
        asking = await one.open_stream()
        await asking.write(b"load it")
        await asking.close()
        answering = await two.accept_stream()
        assert await answering.read() == b"load it"
        answer: list[bytes] = []

        async def wait() -> None:
            answer.append(await asking.read())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(10 * module.LINGER)
            await answering.write(b"loaded")
        assert answer == [b"loaded"]


# -- cancellation ----------------------------------------------------------------------------------


async def test_a_cancelled_write_leaves_the_connection_in_order(autojump_clock):
    async with guarded_and_script(initiator=True) as (connection, script):
        stream = await connection.open_stream()
        with trio.move_on_after(0.5) as scope:
            await stream.write(bytes(4 * INITIAL_WINDOW))  # more than the peer gives credit for
        assert scope.cancelled_caught
        await stream.reset()
        other = await connection.open_stream()
        await other.write(b"still in order")
        await script.frame(FrameType.WINDOW_UPDATE, Flag.RST)
        header, payload = await script.frame(FrameType.DATA)
        assert (header.stream_id, payload) == (other.stream_id, b"still in order")


async def test_cancelling_at_every_moment_never_tears_a_frame(autojump_clock):
    async with guarded_and_script(initiator=True) as (connection, script):
        for step in range(20):
            stream = await connection.open_stream()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.write, bytes(200_000))
                    for _ in range(step):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            await stream.reset()
        last = await connection.open_stream()
        await last.write(b"marker")
        while True:
            header, payload = await script.frame(FrameType.DATA)
            if header.stream_id == last.stream_id:
                assert payload == b"marker"
                return


# -- two ends --------------------------------------------------------------------------------------


@asynccontextmanager
async def pair(second_class):
    left, right = trio.testing.memory_stream_pair()
    one = GuardedYamux(Session(left, True), "right", is_initiator=True)
    two = (
        GuardedYamux(Session(right, False), "left", is_initiator=False)
        if second_class is GuardedYamux
        else StockYamux(Session(right, False), "left", is_initiator=False)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.start)
        nursery.start_soon(two.start)
        await one.event_started.wait()
        await two.event_started.wait()
        yield one, two
        nursery.cancel_scope.cancel()


async def read_all(stream, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        got += await stream.read(65536)
    return bytes(got)


@pytest.mark.parametrize("second", [GuardedYamux, StockYamux])
async def test_megabytes_both_ways_and_an_orderly_end(second):
    size = 2_000_003
    up, down = bytes(range(256)) * (size // 256 + 1), bytes(size)
    async with pair(second) as (one, two):
        stream = await one.open_stream()
        await stream.write(b"\0")  # the stock end accepts on the first frame
        remote = await two.accept_stream()
        assert await remote.read(1) == b"\0"
        results = {}

        async def receive(name, end, count):
            results[name] = await read_all(end, count)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, up[:size])
            nursery.start_soon(remote.write, down)
            nursery.start_soon(receive, "up", remote, size)
            nursery.start_soon(receive, "down", stream, size)
        assert results == {"up": up[:size], "down": down}
        await stream.close()
        with pytest.raises(MuxedStreamEOF):
            await remote.read(1)
        await remote.close()
        with pytest.raises(MuxedStreamEOF):
            await stream.read(1)


async def test_a_reader_may_stall_for_minutes(autojump_clock):
    async with pair(GuardedYamux) as (one, two):
        stream = await one.open_stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(3 * INITIAL_WINDOW))
            remote = await two.accept_stream()
            await trio.sleep(300)
            assert len(remote._buffer) == INITIAL_WINDOW
            assert await read_all(remote, 3 * INITIAL_WINDOW) == bytes(3 * INITIAL_WINDOW)


async def test_reset_reaches_the_other_end():
    async with pair(GuardedYamux) as (one, two):
        stream = await one.open_stream()
        remote = await two.accept_stream()
        await stream.reset()
        with pytest.raises(MuxedStreamReset):
            await remote.read(1)
        with pytest.raises(MuxedStreamReset):
            await remote.write(b"x")


async def test_what_came_before_a_reset_can_still_be_read():
    async with guarded_and_script() as (connection, script):
        await script.send(open_frame())
        stream = await connection.accept_stream()
        data = encode(FrameType.DATA, stream_id=stream.stream_id, length=5) + b"reply"
        reset = encode(FrameType.WINDOW_UPDATE, flags=Flag.RST, stream_id=stream.stream_id)
        await script.send(data + reset)
        await trio.testing.wait_all_tasks_blocked()
        assert await stream.read(100) == b"reply"
        with pytest.raises(MuxedStreamReset):
            await stream.read(1)
        with pytest.raises(MuxedStreamReset):
            await stream.write(b"more")


async def test_the_end_of_a_connection_wakes_everybody():
    async with pair(GuardedYamux) as (one, two):
        stream, _ = await one.open_stream(), await one.open_stream()
        await two.accept_stream()
        idle = await two.accept_stream()
        failures = []

        async def expect(kind, fn, *args):
            with pytest.raises(kind):
                await fn(*args)
            failures.append(kind)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, MuxedStreamReset, idle.read, 1)
            nursery.start_soon(expect, MuxedStreamReset, stream.write, bytes(2 * INITIAL_WINDOW))
            nursery.start_soon(expect, MuxedConnUnavailable, two.accept_stream)
            await trio.testing.wait_all_tasks_blocked()
            await one.close()
        assert len(failures) == 3


async def test_round_trip_time_is_measured(autojump_clock):
    async with pair(GuardedYamux) as (one, _):
        await trio.testing.wait_all_tasks_blocked()
        assert one.rtt is not None
        assert 0 <= one.rtt < 1


async def test_a_peer_that_opens_and_resets_streams_and_never_reads_is_cut_off():
    class Deaf(Session):
        async def write(self, data: bytes) -> None:
            await trio.sleep_forever()

    ours, theirs = trio.testing.memory_stream_pair()
    connection = GuardedYamux(Deaf(ours, False), "peer", is_initiator=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.start)
        with contextlib.suppress(trio.BrokenResourceError, MuxedConnUnavailable):
            for stream_id in range(1, 4 * URGENT_LIMIT, 2):
                reset = encode(FrameType.WINDOW_UPDATE, flags=Flag.RST, stream_id=stream_id)
                await theirs.send_all(open_frame(stream_id) + reset)
                await connection.accept_stream()
        await connection.event_closed.wait()
        assert "does not read" in connection.violation


async def test_unread_bytes_count_for_the_peer_and_beyond_its_budget_the_stream_is_reset():
    ours, theirs = trio.testing.memory_stream_pair()
    share = Share(3000, 3000, 3000)
    limits = BudgetLimits(bytes=Limits(share, share, share, kept=0))
    budgets = Budgets(limits, clock=time.monotonic)
    connection = GuardedYamux(Session(ours, False), "peer", is_initiator=False)
    connection.account = PeerAccount(budgets, "peer", None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.start)
        await connection.event_started.wait()
        script = Script(theirs)
        await script.send(open_frame(1) + open_frame(3))
        one, two = await connection.accept_stream(), await connection.accept_stream()
        await script.send(data_frame(bytes(2000), 1) + data_frame(bytes(2000), 3))
        await trio.testing.wait_all_tasks_blocked()
        assert budgets.bytes.held == 2000
        with pytest.raises(MuxedStreamReset):
            await two.read(1)
        assert len(await one.read(1500)) == 1500
        assert budgets.bytes.held == 500
        await script.send(data_frame(bytes(2000), 1, Flag.FIN))
        await trio.testing.wait_all_tasks_blocked()
        assert budgets.bytes.held == 2500
        await one.close()  # nobody will read the rest in the connection's name
        assert budgets.bytes.held == 0
        assert not connection.is_closed
        nursery.cancel_scope.cancel()


async def test_unread_bytes_are_measured_by_how_the_peer_stands_now():
    """Connections outlive what was known of a peer when they began."""
    ours, theirs = trio.testing.memory_stream_pair()
    little, much = Share(1000, 1000, 1000), Share(5000, 5000, 5000)
    standings = {"peer": Standing.STRANGER}
    budgets = Budgets(
        BudgetLimits(bytes=Limits(little, little, much, kept=0)),
        judge=standings.__getitem__,
        clock=time.monotonic,
    )
    connection = GuardedYamux(Session(ours, False), "peer", is_initiator=False)
    connection.account = PeerAccount(budgets, "peer", None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.start)
        await trio.testing.wait_all_tasks_blocked()  # it reads
        standings["peer"] = Standing.STAKED
        with budgets.bytes.take(budgets.asker("peer"), 3000):
            script = Script(theirs)
            await script.send(open_frame(1))
            stream = await connection.accept_stream()
            await script.send(data_frame(b"asked", 1))
            assert await stream.read(5) == b"asked"
        nursery.cancel_scope.cancel()
