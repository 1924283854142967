"""Bytes and handlers that end a stock node: here they cost a stream and some score.

Each attack is made over a real connection by a node whose library calls are used directly, and each
test ends by showing that the victim still serves.
"""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed

from p2p.messages.streams import StreamBroken
from p2p.network import NetworkConfig, Validity, open_network
from p2p.peering.addresses import peer_id_object
from p2p.peering.events import PeerDisconnected

TOPIC = "/prime/records"


async def echo(peer: str, data: bytes) -> bytes:
    return data


@asynccontextmanager
async def victim_and_attacker(key):
    async with (
        open_network(NetworkConfig(), key(0)) as victim,
        open_network(NetworkConfig(), key(1)) as attacker,
        open_network(NetworkConfig(), key(2)) as witness,
    ):
        victim.serve("/prime/echo/1", echo)
        await attacker.connect(victim.addresses[0])
        yield victim, attacker
        await witness.connect(victim.addresses[0])
        assert await witness.request(victim.peer_id, "/prime/echo/1", b"alive", timeout=60)


def charged(victim, attacker) -> float:
    return victim._scores.score(attacker.peer_id, victim._config.clock())


async def until_charged(victim, attacker, at_most: float) -> None:
    with trio.fail_after(60):
        while charged(victim, attacker) > at_most:
            await trio.testing.wait_all_tasks_blocked(0.01)


async def raw_stream(attacker, victim, protocol: str):
    return await attacker._host.new_stream(peer_id_object(victim.peer_id), [protocol])


async def send_gossip(attacker, victim, *messages: rpc_pb2.Message) -> None:
    stream = await raw_stream(attacker, victim, "/meshsub/1.1.0")
    rpc = rpc_pb2.RPC(publish=list(messages))
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))


@pytest.mark.parametrize(
    "garbage",
    [b"\x05\xff\xff\xff\xff\xff", b"\x03\x12\x7f\x00", b"\x02\x0a\x05"],
    ids=["no protobuf", "cut field", "cut message"],
)
async def test_a_garbage_gossip_rpc(key, garbage):
    async with victim_and_attacker(key) as (victim, attacker):
        stream = await raw_stream(attacker, victim, "/meshsub/1.1.0")
        await stream.write(garbage)
        await stream.close()
        await until_charged(victim, attacker, -4.9)


@pytest.mark.parametrize(
    "fields",
    [
        {"from_id": b"\x12\x20" + bytes(32), "key": b"\x08\x02\x12\x03abc", "signature": b"x"},
        {"from_id": b"\x12\x20" + bytes(32), "key": b"garbage", "signature": b"x"},
        {"from_id": b"z" * 4000, "signature": b"x"},
    ],
    ids=["bad key", "garbage key", "long sender"],
)
async def test_a_gossip_message_with_a_bad_key_or_sender(key, fields):
    async with victim_and_attacker(key) as (victim, attacker):
        await send_gossip(
            attacker,
            victim,
            rpc_pb2.Message(data=b"x", seqno=b"12345678", topicIDs=[TOPIC], **fields),
        )
        await until_charged(victim, attacker, -4.9)


async def test_an_unsigned_message_is_not_delivered(key):
    async with victim_and_attacker(key) as (victim, attacker):
        got = []

        async def handle(author: str, data: bytes) -> None:
            got.append(data)

        victim.subscribe("news", lambda author, data: Validity.ACCEPT, handle)
        await trio.testing.wait_all_tasks_blocked()
        forged = rpc_pb2.Message(
            data=b"forged",
            from_id=ID.from_pubkey(create_new_key_pair(key(7)).public_key).to_bytes(),
            seqno=b"12345678",
            topicIDs=["/prime/news"],
        )
        await send_gossip(attacker, victim, forged)
        forged.signature = b"not a signature"
        await send_gossip(attacker, victim, forged)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert got == []


async def test_a_topic_validator_that_raises(key):
    async with victim_and_attacker(key) as (victim, attacker):
        tried = trio.Event()

        def broken(author: str, data: bytes) -> Validity:
            tried.set()
            raise RuntimeError("a bug in a validator")

        async def never(author: str, data: bytes) -> None:
            raise AssertionError("delivered without a verdict")

        async def ignore(author: str, data: bytes) -> None: ...

        victim.subscribe("news", broken, never)
        attacker.subscribe("news", lambda a, d: Validity.ACCEPT, ignore)
        with trio.fail_after(60):
            while victim.peer_id not in attacker._gossip.mesh_peers("news"):
                await trio.testing.wait_all_tasks_blocked(0.01)
            await attacker.publish("news", b"trigger")
            await tried.wait()
        assert charged(victim, attacker) == 0  # the fault is the victim's own


async def test_a_topic_handler_that_raises_does_not_end_the_topic(key):
    async with victim_and_attacker(key) as (victim, attacker):
        send, receive = trio.open_memory_channel[bytes](10)

        async def handle(author: str, data: bytes) -> None:
            if data == b"bad":
                raise RuntimeError("a bug in a handler")
            await send.send(data)

        async def ignore(author: str, data: bytes) -> None: ...

        victim.subscribe("news", lambda a, d: Validity.ACCEPT, handle)
        attacker.subscribe("news", lambda a, d: Validity.ACCEPT, ignore)
        with trio.fail_after(60):
            while victim.peer_id not in attacker._gossip.mesh_peers("news"):
                await trio.testing.wait_all_tasks_blocked(0.01)
            await attacker.publish("news", b"bad")
            await attacker.publish("news", b"good")
            assert await receive.receive() == b"good"


async def test_a_stream_handler_that_raises(key):
    async with victim_and_attacker(key) as (victim, attacker):

        async def broken(stream, peer_id: str) -> None:
            raise RuntimeError("a bug in a handler")

        victim.serve_stream("/prime/data/1", broken)
        stream = await attacker.open_stream(victim.peer_id, "/prime/data/1", 5)
        with trio.fail_after(60), pytest.raises(StreamBroken):
            await stream.receive_some()
        assert charged(victim, attacker) == 0


@pytest.mark.parametrize("data", [b"\xff" * 64, b"\0", b"\x04\xff\xff\xff\xff", bytes(range(256))])
async def test_garbage_on_every_protocol_that_a_node_serves(key, data):
    async with victim_and_attacker(key) as (victim, attacker):
        for protocol in victim._host.get_mux().get_protocols():
            stream = await raw_stream(attacker, victim, protocol)
            await stream.write(data)
            await stream.close()
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_garbage_before_the_handshake(key):
    async with victim_and_attacker(key) as (victim, _):
        host, port = victim.addresses[0].split("/")[2], int(victim.addresses[0].split("/")[4])
        for data in (b"\xff" * 1000, b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n\x00"):
            stream = await trio.open_tcp_stream(host, port)
            await stream.send_all(data)
            await stream.aclose()


async def test_a_flood_past_the_receive_window(key):
    async with victim_and_attacker(key) as (victim, attacker):

        async def never_reads(stream, peer_id: str) -> None:
            await trio.sleep_forever()

        victim.serve_stream("/prime/data/1", never_reads)
        events = victim.peer_events()
        stream = await raw_stream(attacker, victim, "/prime/data/1")
        stream.muxed_stream.send_credit = 2**31  # what the victim never gave
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:

                async def flood() -> None:
                    with pytest.raises(IOException):
                        await stream.write(bytes(32 << 20))

                nursery.start_soon(flood)
                assert await events.receive() == PeerDisconnected(attacker.peer_id)
        assert charged(victim, attacker) < -24


async def test_only_this_network_s_table_and_only_noise_and_yamux_are_offered(key):
    async with open_network(NetworkConfig(network="red"), key(0)) as node:
        served = {str(p) for p in node._host.get_mux().get_protocols()}
        assert "/red/kad/1.0.0" in served
        assert "/ipfs/kad/1.0.0" not in served
        upgrader = node._host.get_network().upgrader
        assert list(upgrader.security_multistream.transports) == ["/noise"]
        assert list(upgrader.muxer_multistream.transports) == ["/yamux/1.0.0"]
