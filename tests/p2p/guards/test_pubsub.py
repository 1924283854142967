"""Gossip under a peer's budgets: what is dropped or delayed, and that nobody is blamed for it."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager, suppress

import trio
import trio.testing
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX
from libp2p.utils import encode_varint_prefixed

from p2p.guards.pubsub import MAX_AT_ONCE, MAX_CONTROL, MAX_STREAMS, split_rpc
from p2p.network import NetworkConfig, Validity, open_network
from p2p.peering.addresses import peer_id_object

TOPIC = "/prime/news"


def signed(number: int, data: bytes) -> rpc_pb2.Message:
    pair = create_new_key_pair(hashlib.sha256(b"author").digest())
    message = rpc_pb2.Message(
        data=data,
        from_id=ID.from_pubkey(pair.public_key).to_bytes(),
        seqno=number.to_bytes(8, "big"),
        topicIDs=[TOPIC],
    )
    content = PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString()
    message.signature = pair.private_key.sign(content)
    return message


@asynccontextmanager
async def hearing(key, validate=lambda author, data: Validity.ACCEPT):
    """A node that hears the topic, two that may send, and what was heard."""
    send, heard = trio.open_memory_channel[bytes](1000)

    async def handle(author: str, data: bytes) -> None:
        await send.send(data)

    async with (
        open_network(NetworkConfig(clock=lambda: 0.0), key(0)) as victim,  # forgets nothing
        open_network(NetworkConfig(), key(1)) as one,
        open_network(NetworkConfig(), key(2)) as two,
    ):
        victim.subscribe("news", validate, handle)
        for node in (one, two):
            await node.connect(victim.addresses[0])
        with trio.fail_after(60):
            while TOPIC not in victim._gossip._pubsub.topic_ids:
                await trio.testing.wait_all_tasks_blocked()
        yield victim, one, two, heard


async def gossip_stream(sender, receiver):
    target = peer_id_object(receiver.peer_id)
    return await sender._host.new_stream(target, ["/meshsub/1.1.0"])


def rpc(*messages: rpc_pb2.Message) -> bytes:
    return encode_varint_prefixed(rpc_pb2.RPC(publish=messages).SerializeToString())


async def test_a_peer_above_its_budget_is_not_heard_and_others_are(key):
    async with hearing(key) as (victim, greedy, honest, heard):
        victim.budgets.charge(victim.budgets.asker(greedy.peer_id), 3.0)
        await (await gossip_stream(greedy, victim)).write(rpc(signed(1, b"greedy")))
        await (await gossip_stream(honest, victim)).write(rpc(signed(2, b"honest")))
        with trio.fail_after(60):
            assert await heard.receive() == b"honest"
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert heard.statistics().current_buffer_used == 0
        assert victim._scores.offenders() == ()


async def test_the_messages_of_one_rpc_are_taken_one_in_each_round_of_the_loop(key):
    rounds = 0
    taken_in: list[int] = []

    def validate(author: str, data: bytes) -> Validity:
        taken_in.append(rounds)
        return Validity.ACCEPT

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await trio.lowlevel.checkpoint()

    async with hearing(key, validate) as (victim, sender, _, heard), trio.open_nursery() as nursery:
        stream = await gossip_stream(sender, victim)
        nursery.start_soon(count)
        await stream.write(rpc(*(signed(number, b"x") for number in range(50))))
        with trio.fail_after(60):
            for _ in range(50):
                await heard.receive()
        nursery.cancel_scope.cancel()
    assert len(set(taken_in)) == 50


async def test_a_peer_has_a_few_gossip_streams_and_no_more(key):
    async with hearing(key) as (victim, sender, _, heard):
        streams = [await gossip_stream(sender, victim) for _ in range(MAX_STREAMS + 3)]
        for number, stream in enumerate(streams):
            with suppress(StreamError):
                await stream.write(rpc(signed(number, b"x")))
        with trio.fail_after(60):
            await heard.receive()
            while len(victim._gossip._pubsub._forwarders) < 1:
                await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked(0.05)
        peer = victim._gossip._pubsub._forwarders[peer_id_object(sender.peer_id)]
        assert peer.streams <= MAX_STREAMS
        assert heard.statistics().current_buffer_used < MAX_STREAMS


def parsed(data: bytes) -> rpc_pb2.RPC:
    rpc = rpc_pb2.RPC()
    rpc.ParseFromString(data)
    return rpc


def test_a_large_rpc_is_split_and_loses_nothing_but_endless_control():
    messages = [rpc_pb2.Message(data=str(n).encode(), topicIDs=[TOPIC]) for n in range(1000)]
    whole = rpc_pb2.RPC(publish=messages, senderRecord=b"record")
    whole.subscriptions.add(subscribe=True, topicid=TOPIC)
    whole.control.graft.add(topicID=TOPIC)
    first, *parts = (parsed(part) for part in split_rpc(whole.SerializeToString()))
    assert (first.subscriptions, first.control) == (whole.subscriptions, whole.control)
    assert first.senderRecord == b"record"
    assert max(len(part.publish) for part in parts) == MAX_AT_ONCE
    assert [message for part in parts for message in part.publish] == messages
    whole.control.ihave.add(topicID=TOPIC, messageIDs=[b"x"] * MAX_CONTROL)
    assert not parsed(split_rpc(whole.SerializeToString())[0]).HasField("control")


def test_a_small_rpc_and_garbage_are_left_as_they_are():
    small = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=b"x")]).SerializeToString()
    for data in (small, b"", b"\xff" * 20):
        assert split_rpc(data) == [data]
