"""One conformance suite for edges, run over TCP and over a Unix socket."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dataplane import (
    Edge,
    EdgeBroken,
    EdgeClosed,
    EdgeLimits,
    EdgeMisuse,
    EdgeStats,
    EdgeTimeout,
    Timing,
)

from .conftest import SMALL, Net, in_thread, soon

BRISK = Timing(heartbeat=0.05, dead_after=0.5, per_trip=0.0)


def past() -> float:
    return time.monotonic() - 1


def take(edge: Edge) -> tuple[bytes, bytes]:
    header, payload = edge.recv(soon())
    return header, bytes(payload)


def test_hellos_and_pins_are_known_to_both(net: Net) -> None:
    dialled, accepted = net.pair()
    assert dialled.peer_hello == b"re:hello"
    assert accepted.peer_hello == b"hello"
    assert dialled.peer_fingerprint == net.server.fingerprint
    assert accepted.peer_fingerprint == net.client.fingerprint


@pytest.mark.parametrize("size", [0, 1, 4096, 16368, 16369, 100_000, 1 << 20])
def test_frames_arrive_as_sent_both_ways(net: Net, size: int) -> None:
    payload = os.urandom(size)
    for source, sink in (pair := net.pair(), pair[::-1]):
        source.send(b"header", memoryview(payload), soon())
        assert take(sink) == (b"header", payload)


def test_payload_may_be_any_contiguous_view(net: Net) -> None:
    dialled, accepted = net.pair()
    floats = memoryview(bytearray(48)).cast("f", (3, 4))
    dialled.send(b"", floats, soon())
    assert take(accepted) == (b"", bytes(48))
    dialled.send(b"none", None, soon())
    assert take(accepted) == (b"none", b"")


def test_order_is_kept_through_more_frames_than_the_window(net: Net) -> None:
    dialled, accepted = net.pair()
    frames = [(f"{i}".encode(), os.urandom(i * 977 % 40_000)) for i in range(60)]
    sending = in_thread(
        lambda: [dialled.send(head, memoryview(body), soon()) for head, body in frames]
    )
    assert [take(accepted) for _ in frames] == frames
    sending()


def test_both_directions_at_once_with_large_frames(net: Net) -> None:
    """Neither side may wait for the other's reader: the sockets' buffers are far too small."""
    big = os.urandom(1 << 20)
    jobs = []
    for edge in net.pair():
        jobs.append(
            in_thread(lambda e=edge: [e.send(b"x", memoryview(big), soon()) for _ in range(12)])
        )
        jobs.append(in_thread(lambda e=edge: [take(e) == (b"x", big) for _ in range(12)]))
    results = [job() for job in jobs]
    assert all(results[1]) and all(results[3])  # noqa: PT018


def test_several_senders_do_not_mix_frames(net: Net) -> None:
    dialled, accepted = net.pair()
    bodies = {bytes([i]): bytes([i]) * (20_000 + i) for i in range(4)}
    jobs = [
        in_thread(
            lambda h=head, b=body: [dialled.send(h, memoryview(b), soon()) for _ in range(10)]
        )
        for head, body in bodies.items()
    ]
    for _ in range(40):
        head, body = take(accepted)
        assert bodies[head] == body
    for job in jobs:
        job()


def test_payload_buffers_are_reused(net: Net) -> None:
    """Many frames, few buffers: at most one for each frame of the window."""
    dialled, accepted = net.pair()
    seen = set()
    for _ in range(20):
        dialled.send(b"", memoryview(bytes(1000)), soon())
        _, payload = accepted.recv(soon())
        seen.add(id(payload.obj))
    assert len(seen) <= SMALL.window


def test_a_slow_consumer_holds_the_sender_back_and_keeps_the_edge_alive(net: Net) -> None:
    dialled, accepted = net.pair(timing=BRISK)
    for i in range(SMALL.window):
        dialled.send(bytes([i]), None, soon())
    with pytest.raises(EdgeTimeout, match="no credit"):
        # Longer than dead_after: heartbeats pass although nobody reads frames.
        dialled.send(b"late", None, time.monotonic() + 3 * BRISK.dead_after)
    waiting = in_thread(lambda: dialled.send(b"next", None, soon()))
    heads = [take(accepted)[0] for _ in range(SMALL.window + 1)]
    assert heads == [b"\0", b"\1", b"\2", b"\3", b"next"]
    waiting()


def test_deadlines_leave_the_edge_usable(net: Net) -> None:
    dialled, accepted = net.pair()
    with pytest.raises(EdgeTimeout):
        accepted.recv(past())
    dialled.send(b"still here", None, soon())
    assert take(accepted)[0] == b"still here"


def test_frames_over_the_peers_limits_are_refused_locally(net: Net) -> None:
    dialled, accepted = net.pair()
    with pytest.raises(EdgeMisuse, match="the peer accepts"):
        dialled.send(bytes(SMALL.max_header + 1), None, soon())
    with pytest.raises(EdgeMisuse, match="the peer accepts"):
        dialled.send(b"", memoryview(bytes(SMALL.max_payload + 1)), soon())
    dialled.send(b"good", None, soon())
    assert take(accepted)[0] == b"good"


def test_window_of_one(net: Net) -> None:
    dialled, accepted = net.pair(limits=EdgeLimits(100, 100, 1))
    sending = in_thread(lambda: [dialled.send(bytes([i]), None, soon()) for i in range(10)])
    assert [take(accepted)[0] for _ in range(10)] == [bytes([i]) for i in range(10)]
    sending()


def test_close_delivers_what_was_sent_and_then_says_so(net: Net) -> None:
    dialled, accepted = net.pair()
    for i in range(3):
        dialled.send(bytes([i]), memoryview(bytes(100_000)), soon())
    dialled.close()
    dialled.close()
    assert [take(accepted)[0] for _ in range(3)] == [b"\0", b"\1", b"\2"]
    for _ in range(2):
        with pytest.raises(EdgeClosed, match="the peer closed"):
            accepted.recv(soon())
    with pytest.raises(EdgeClosed, match="the peer closed"):
        accepted.send(b"", None, soon())
    for call in (lambda: dialled.send(b"", None, soon()), lambda: dialled.recv(soon())):
        with pytest.raises(EdgeClosed, match="this side closed"):
            call()


def test_close_wakes_a_blocked_receiver_and_a_blocked_sender(net: Net) -> None:
    dialled, accepted = net.pair()
    for _ in range(SMALL.window):
        dialled.send(b"", None, soon())
    receiving = in_thread(lambda: dialled.recv(soon()))
    sending = in_thread(lambda: dialled.send(b"", None, soon()))
    dialled.close()
    for job in (receiving, sending):
        with pytest.raises(EdgeClosed):
            job()
    accepted.close()


def test_both_may_close_at_once(net: Net) -> None:
    jobs = [in_thread(edge.close) for edge in net.pair()]
    for job in jobs:
        job()


def test_a_lost_peer_wakes_everyone(net: Net) -> None:
    dialled, accepted = net.pair()
    for _ in range(SMALL.window):
        dialled.send(b"", None, soon())
    receiving = in_thread(lambda: dialled.recv(soon()))
    sending = in_thread(lambda: dialled.send(b"", None, soon()))
    accepted._channel.abort()  # what the kernel does when the peer's process is killed
    for job in (receiving, sending):
        with pytest.raises(EdgeBroken):
            job()


def test_statistics_count_user_bytes(net: Net) -> None:
    dialled, accepted = net.pair()
    for _ in range(3):
        dialled.send(b"abc", memoryview(bytes(100)), soon())
        take(accepted)
    assert dialled.stats == EdgeStats(frames_sent=3, bytes_sent=309)
    assert accepted.stats == EdgeStats(frames_received=3, bytes_received=309)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1]), st.binary(max_size=50), st.integers(0, 60_000)),
        max_size=25,
    )
)
def test_any_exchange_keeps_order_and_content(
    net: Net, script: list[tuple[int, bytes, int]]
) -> None:
    ends = net.pair()
    body = os.urandom(60_000)

    def send(side: int) -> None:
        for who, header, size in script:
            if who == side:
                ends[side].send(header, memoryview(body)[:size], soon())

    jobs = [in_thread(lambda s=side: send(s)) for side in (0, 1)]
    for side in (0, 1):
        expected = [(header, body[:size]) for who, header, size in script if who != side]
        assert [take(ends[side]) for _ in expected] == expected
    for job in jobs:
        job()
    for end in ends:
        end.close()
