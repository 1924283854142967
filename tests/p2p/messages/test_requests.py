"""Request/response and streams between real hosts, hostile ones included."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from p2p.errors import (
    ConfigError,
    PeerBanned,
    PeerUnreachable,
    ProtocolViolation,
    Refused,
    RemoteRefused,
    RequestTimeout,
)
from p2p.identity import peer_id_of
from p2p.messages.framing import encode_frame, encode_ok
from p2p.messages.serving import ServiceTiming
from p2p.messages.streams import StreamBroken
from p2p.network import NetworkConfig, open_network
from p2p.peering.addresses import peer_id_object
from p2p.peering.scores import Offence

ECHO = "/prime/echo/1"


@asynccontextmanager
async def client_and_server(key):
    async with (
        open_network(NetworkConfig(), key(0)) as server,
        open_network(NetworkConfig(bootstrap=server.addresses), key(1)) as client,
    ):
        await client.bootstrap(60)
        yield client, server


def score(node, peer) -> float:
    return node._scores.score(peer.peer_id, node._config.clock())


async def test_the_handler_gets_the_peer_and_the_bytes_and_answers(key):
    async with client_and_server(key) as (client, server):

        async def handler(peer_id: str, payload: bytes) -> bytes:
            return peer_id.encode() + payload

        server.serve(ECHO, handler, max_request=2 << 20)
        for payload in (b"", b"x", bytes(1_500_000)):
            answer = await client.request(
                server.peer_id, ECHO, payload, timeout=60, max_response=2 << 20
            )
            assert answer == client.peer_id.encode() + payload


async def test_both_directions_and_many_at_once(key):
    async with client_and_server(key) as (client, server):

        async def double(peer_id: str, payload: bytes) -> bytes:
            return payload * 2

        client.serve(ECHO, double)
        server.serve(ECHO, double)
        answers = {}

        async def ask(node, other, number):
            text = str(number).encode()
            answers[node.peer_id, number] = await node.request(
                other.peer_id, ECHO, text, timeout=60
            )

        async with trio.open_nursery() as nursery:
            for number in range(15):
                nursery.start_soon(ask, client, server, number)
                nursery.start_soon(ask, server, client, number)
        assert len(answers) == 30
        assert all(answer == str(n).encode() * 2 for (_, n), answer in answers.items())


async def test_a_refusal_reaches_the_caller_with_its_code(key):
    async with client_and_server(key) as (client, server):

        async def handler(peer_id: str, payload: bytes) -> bytes:
            raise Refused("not_invited", "ask the orchestrator first")

        server.serve(ECHO, handler)
        with pytest.raises(RemoteRefused) as refused:
            await client.request(server.peer_id, ECHO, b"", timeout=60)
        assert refused.value.code == "not_invited"
        assert refused.value.message == "ask the orchestrator first"


async def test_a_failing_handler_is_internal_and_tells_nothing(key):
    async with client_and_server(key) as (client, server):

        async def handler(peer_id: str, payload: bytes) -> bytes:
            raise RuntimeError("secret detail")

        server.serve(ECHO, handler)
        for _ in range(2):
            with pytest.raises(RemoteRefused) as refused:
                await client.request(server.peer_id, ECHO, b"", timeout=60)
            assert refused.value.code == "internal"
            assert "secret" not in refused.value.message
        assert score(server, client) == 0


async def test_a_slow_handler_times_out_on_the_side_that_waits_less(key):
    async with client_and_server(key) as (client, server):

        async def sleepy(peer_id: str, payload: bytes) -> bytes:
            await trio.sleep_forever()
            return b""

        server.serve(ECHO, sleepy)
        with pytest.raises(RequestTimeout):
            await client.request(server.peer_id, ECHO, b"", timeout=0.3)
        server.serve(ECHO, sleepy, timing=ServiceTiming(handler=0.1))
        with pytest.raises(RemoteRefused, match="timeout"):
            await client.request(server.peer_id, ECHO, b"", timeout=60)


async def test_an_unknown_protocol_is_said_so(key):
    async with client_and_server(key) as (client, server):
        with pytest.raises(RemoteRefused) as refused:
            await client.request(server.peer_id, "/prime/nothing/1", b"", timeout=60)
        assert refused.value.code == "unsupported_protocol"


async def test_an_unknown_peer_is_unreachable(key):
    async with client_and_server(key) as (client, _):
        with pytest.raises(PeerUnreachable):
            await client.request(peer_id_of(key(5)), ECHO, b"", timeout=3)
        with pytest.raises(PeerUnreachable):
            await client.request(client.peer_id, ECHO, b"", timeout=3)


async def test_too_many_calls_are_told_busy(key):
    async with client_and_server(key) as (client, server):
        inside, release = trio.Event(), trio.Event()

        async def handler(peer_id: str, payload: bytes) -> bytes:
            inside.set()
            await release.wait()
            return b"done"

        server.serve(ECHO, handler, concurrency=4)  # one of them for any single peer
        answers = []

        async def ask() -> None:
            answers.append(await client.request(server.peer_id, ECHO, b"", timeout=60))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await inside.wait()
            with pytest.raises(RemoteRefused) as refused:
                await client.request(server.peer_id, ECHO, b"", timeout=60)
            assert refused.value.code == "busy"
            release.set()
        assert answers == [b"done"]
        assert await client.request(server.peer_id, ECHO, b"", timeout=60) == b"done"


async def test_an_oversized_request_costs_score_and_is_not_read(key):
    async with client_and_server(key) as (client, server):

        async def never(peer_id: str, payload: bytes) -> bytes:
            raise AssertionError("called")

        server.serve(ECHO, never, max_request=1000)
        with pytest.raises(RemoteRefused, match="too_large"):
            await client.request(server.peer_id, ECHO, bytes(1001), timeout=60)
        assert score(server, client) < -9


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xff\xff\xff",
        encode_frame(b"\xc1"),
        encode_frame(encode_ok(bytes(200))),
    ],
    ids=["giant length", "no msgpack", "larger than asked"],
)
async def test_a_hostile_answer_is_a_violation_and_costs_score(key, answer):
    async with client_and_server(key) as (client, server):

        async def hostile(stream, peer_id: str) -> None:
            await stream.send_all(answer)

        server.serve_stream(ECHO, hostile)
        with pytest.raises(ProtocolViolation):
            await client.request(server.peer_id, ECHO, b"", timeout=60, max_response=100)
        assert score(client, server) < -9


async def test_an_answer_that_breaks_off_is_unreachable(key):
    async with client_and_server(key) as (client, server):

        async def half(stream, peer_id: str) -> None:
            await stream.send_all(b"\0\0\0\x10abc")

        server.serve_stream(ECHO, half)
        with pytest.raises(PeerUnreachable, match="3 of 16"):
            await client.request(server.peer_id, ECHO, b"", timeout=60)


async def test_death_during_a_call_is_noticed_at_once(key):
    async with client_and_server(key) as (client, server):
        inside = trio.Event()

        async def hang(peer_id: str, payload: bytes) -> bytes:
            inside.set()
            await trio.sleep_forever()
            return b""

        server.serve(ECHO, hang)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with trio.fail_after(60), pytest.raises(PeerUnreachable, match="broke"):
                    await client.request(server.peer_id, ECHO, b"", timeout=60)

            nursery.start_soon(ask)
            await inside.wait()
            for connection in server._host.get_network().live_connections(
                peer_id_object(client.peer_id)
            ):
                connection.muxed_conn._end()


async def test_a_peer_that_never_finishes_its_request_is_dropped(key):
    async with client_and_server(key) as (client, server):

        async def never(peer_id: str, payload: bytes) -> bytes:
            raise AssertionError("called")

        server.serve(ECHO, never, timing=ServiceTiming(read=0.1))
        stream = await client.open_stream(server.peer_id, ECHO, 5)
        await stream.send_all(b"\0\0\0\x10only a part")
        with trio.fail_after(60), pytest.raises(StreamBroken):
            await stream.receive_some()


async def test_a_banned_peer_is_not_asked(key):
    async with client_and_server(key) as (client, server):
        for _ in range(6):
            client._peers.offend(server.peer_id, Offence.PROTOCOL_VIOLATION, "test")
        with trio.fail_after(60):
            while client.connected(server.peer_id):
                await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(PeerBanned):
            await client.request(server.peer_id, ECHO, b"", timeout=60)


@pytest.mark.parametrize("protocol", ["echo", "/prime/echo", "/other/echo/1", "/prime/Echo/1"])
async def test_protocol_names_are_checked(key, protocol):
    async with client_and_server(key) as (client, server):
        with pytest.raises(ConfigError):
            client.serve(protocol, None)
        with pytest.raises(ConfigError):
            await client.request(server.peer_id, protocol, b"", timeout=60)


async def test_streams_behave_like_trios(key):
    async with client_and_server(key) as (client, server):
        accepted_send, accepted = trio.open_memory_channel(0)

        async def accept(stream, peer_id: str) -> None:
            assert peer_id == client.peer_id
            await accepted_send.send(stream)
            await trio.sleep_forever()

        server.serve_stream("/prime/data/1", accept)

        async def maker():
            one = await client.open_stream(server.peer_id, "/prime/data/1", 5)
            return one, await accepted.receive()

        one, two = await maker()
        async with one, two:
            big = bytes(range(256)) * 8192
            got = bytearray()

            async def receive() -> None:
                async for chunk in two:
                    got.extend(chunk)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await one.send_all(big)
                await one.send_eof()
            assert bytes(got) == big
            await two.send_all(b"the other way stays open")
            assert await one.receive_some(100) == b"the other way stays open"
            with pytest.raises(trio.ClosedResourceError):
                await one.send_all(b"after eof")
        one, two = await maker()
        await one.reset()
        with pytest.raises(trio.BrokenResourceError):
            await two.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await one.receive_some()


async def test_a_node_may_ask_itself(key):
    """A node with several roles is its own orchestrator, worker or validator."""

    async def handler(peer_id: str, payload: bytes) -> bytes:
        if payload == b"no":
            raise Refused("unwilling", "not today")
        return peer_id.encode() + payload

    async with open_network(NetworkConfig(), key(0)) as node:
        node.serve(ECHO, handler)
        answer = await node.request(node.peer_id, ECHO, b"!", timeout=60)
        assert answer == node.peer_id.encode() + b"!"
        with pytest.raises(RemoteRefused) as refused:
            await node.request(node.peer_id, ECHO, b"no", timeout=60)
        assert refused.value.code == "unwilling"
        with pytest.raises(ProtocolViolation):
            await node.request(node.peer_id, ECHO, b"!", timeout=60, max_response=8)
