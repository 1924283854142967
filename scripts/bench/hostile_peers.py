"""The peers of `bench_hostile.py`, each a process of its own: one that misuses, one that is honest.

A process waits on its pipe for `(address, seconds, turn)`, does its part that long (the attacker as
long as it is connected) and answers with its figures, until it is told None.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import msgpack
import structlog
import trio
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import IOException
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX
from libp2p.utils import encode_varint_prefixed

from node.wire.messages.fields import MAX_BUNDLE, MAX_REPORT
from node.wire.methods import ASSIGN, COUNTERSIGN, PROGRESS
from p2p.errors import P2PError, RemoteRefused
from p2p.network import Network, NetworkConfig, open_network
from p2p.peering.addresses import peer_id_object, split_peer_address
from p2p.peering.events import PeerDisconnected
from p2p.records.exchange import PROTOCOL as RECORDS

NETWORK = "bench"
TOPIC = f"/{NETWORK}/bench"
PING = "/prime/bench-ping/1"
MISFORTUNES = (P2PError, IOException, BaseLibp2pError, trio.BrokenResourceError)
UPLOADS, REPORTS, QUESTIONS, TABLES = 88, 16, 12, 8
"""Streams of one peer at a time; with gossip and identify they are nearly all that it may open."""
BATCH = 400
"""Messages in one gossip RPC."""

Figures = dict[str, float]


def serve_orders(pipe: Connection, name: str) -> None:
    """The process: take orders until there are no more."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    part = attack if name == "attacker" else behave
    signed = sign_messages(name) if name == "attacker" else []
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        address, seconds, turn = order
        pipe.send(trio.run(play, part, name + str(turn), address, seconds, signed))


async def play(
    part: Callable[..., Awaitable[Figures]],
    name: str,
    address: str,
    seconds: float,
    signed: list[bytes],
) -> Figures:
    """Join, connect to the node at `address` and do a part for `seconds`."""
    key = hashlib.sha256(name.encode()).digest()
    async with open_network(NetworkConfig(network=NETWORK), key) as network:
        await network.connect(address, timeout=60.0)
        return await part(network, split_peer_address(address)[0], seconds, signed)


async def behave(network: Network, peer_id: str, seconds: float, _signed: list[bytes]) -> Figures:
    """Ask a small question twenty times a second; how long answers took, in milliseconds (all the
    time that there was, where none came)."""
    took, refused = [], 0
    with trio.move_on_after(seconds):
        while True:
            started = time.perf_counter()
            try:
                await network.request(peer_id, PING, b"?", timeout=30.0)
                took.append(time.perf_counter() - started)
            except MISFORTUNES:
                refused += 1
            await trio.sleep(0.05)
    took.sort()
    return {
        "asked": len(took) + refused,
        "refused": refused,
        "answer_median_ms": 1000 * (took[len(took) // 2] if took else seconds),
        "answer_p99_ms": 1000 * (took[int(len(took) * 0.99)] if took else seconds),
    }


async def attack(network: Network, peer_id: str, seconds: float, signed: list[bytes]) -> Figures:
    """Misuse every protocol as fast as it goes."""
    counts = {"uploads": 0, "reports": 0, "questions": 0, "tables": 0, "rpcs": 0, "refused": 0}
    run = {"sequence_id": b"s" * 16, "offset": 0, "ids": [300] * ((MAX_REPORT - 300) // 3)}
    ref = {"group_id": b"g" * 32, "generation": 1, "stage": 0}
    report = msgpack.packb({"ref": ref, "tokens": [run], "finished": []})
    target = peer_id_object(peer_id)

    async def upload() -> None:
        method = (ASSIGN, COUNTERSIGN)[counts["uploads"] % 2]
        counts["uploads"] += 1
        stream = await network.open_stream(peer_id, method.protocol, 30.0)
        try:
            await stream.send_all(MAX_BUNDLE.to_bytes(4, "big") + bytes(MAX_BUNDLE - 1))
            while await stream.receive_some():
                pass
        finally:
            await stream.reset()

    async def work() -> None:
        counts["reports"] += 1
        await network.request(peer_id, PROGRESS.protocol, report, timeout=30.0)

    async def table() -> None:
        counts["tables"] += 1
        question = msgpack.packb([b"", ""])
        await network.request(peer_id, RECORDS, question, timeout=30.0)

    async def question() -> None:
        counts["questions"] += 1
        stream = await network._host.new_stream(target, [f"/{NETWORK}/kad/1.0.0"])
        try:
            asked = Message(type=Message.MessageType.FIND_NODE, key=target.to_bytes())
            for _ in range(100):
                await stream.write(encode_varint_prefixed(asked.SerializeToString()))
                await stream.read(1 << 16)
        finally:
            await stream.reset()

    async def gossip() -> None:
        stream = await network._host.new_stream(target, ["/meshsub/1.1.0"])
        try:
            for rpc in signed:
                counts["rpcs"] += 1
                await stream.write(rpc)
        finally:
            await stream.reset()

    async def again(misuse: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await misuse()
            except RemoteRefused:
                counts["refused"] += 1
            except MISFORTUNES:
                await trio.sleep(0.01)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            events = network.peer_events()
            for misuse, streams in (
                (gossip, 1),
                (question, QUESTIONS),
                (table, TABLES),
                (work, REPORTS),
                (upload, UPLOADS),
            ):
                for _ in range(streams):
                    nursery.start_soon(again, misuse)
            async for event in events:
                if isinstance(event, PeerDisconnected):
                    nursery.cancel_scope.cancel()
    return {name: float(count) for name, count in counts.items()}


def sign_messages(name: str) -> list[bytes]:
    """Gossip RPCs of `BATCH` messages each, truly signed by somebody, which nobody has seen."""
    pair = create_new_key_pair(hashlib.sha256(f"{name} author".encode()).digest())
    author = ID.from_pubkey(pair.public_key).to_bytes()
    rpcs = []
    for batch in range(20):
        messages = []
        for number in range(BATCH):
            message = rpc_pb2.Message(
                data=b"x" * 64,
                from_id=author,
                seqno=(batch * BATCH + number + time.time_ns()).to_bytes(8, "big"),
                topicIDs=[TOPIC],
            )
            content = PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString()
            message.signature = pair.private_key.sign(content)
            messages.append(message)
        rpcs.append(encode_varint_prefixed(rpc_pb2.RPC(publish=messages).SerializeToString()))
    return rpcs
