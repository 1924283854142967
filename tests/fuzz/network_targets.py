"""What must hold for any bytes that reach a node over the network: the fuzzed properties.

One real network, listening, gets the bytes where they would come out of a connection: frames of the
multiplexer, gossip streams, requests of every method, records and questions for them. Each target
makes them of a fuzzer's bytes, and raises, or lets out what a defect raises, unless

- nothing comes out of the code but what its caller expects: a violation of the multiplexer that
  ends the connection, an answer or a reset of a request, a verdict on a record;
- no handler sees a body that does not validate, and no stream holds more than its window;
- everything that was reserved for the input is given back;
- whoever did not send it is held to account for nothing, and is served as before.

A target returns a word for what happened, to be counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgpack
import trio
import trio.testing
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.utils import encode_varint_prefixed

from node.wire import methods
from node.wire.messages.fields import Body, Done
from node.wire.methods import PING, Method
from node.wire.rpc import serve
from p2p.admission.budgets import BudgetLimits
from p2p.admission.shares import BYTES, Limits, Share
from p2p.errors import Refused, RemoteRefused
from p2p.guards.yamux import MAX_INBOUND_STREAMS, GuardedYamux
from p2p.guards.yamux_frames import (
    INITIAL_WINDOW,
    Flag,
    FrameType,
    YamuxViolation,
    cut_frames,
    encode,
)
from p2p.identity import peer_id_of
from p2p.messages.framing import decode_response, encode_frame, envelope_limit
from p2p.messages.streams import Stream
from p2p.network import Network, NetworkConfig, NodeRecord, Validity, open_network
from p2p.peering.addresses import peer_id_object
from p2p.records.exchange import PROTOCOL
from p2p.records.record import sign_record
from tests.fuzz.mutation import Choices, mutate_bytes, mutate_message

PLENTY = Share(1e9, 1e9, 1e9)
UNMETERED = BudgetLimits(bytes=BYTES, cpu=Limits(PLENTY, PLENTY, PLENTY, kept=1e9))
"""A fuzzer is a peer that is never done; its CPU time is not the question here."""
METHODS = tuple(value for value in vars(methods).values() if isinstance(value, Method))
REF = {"group_id": b"g" * 32, "generation": 1, "stage": 0}
RUN = {"sequence_id": b"s" * 16, "offset": 0, "ids": [300, 2]}
END = {"sequence_id": b"s" * 16, "reason": "eos", "offset": 2, "ids": [2]}
BODIES: dict[str, dict[str, Any]] = {
    "ping": {},
    "invite": {
        "pool_id": 1, "model_id": b"m" * 32, "model_name": "m", "deadline": 9, "signature": b"",
    },
    "ring": REF,
    "edge": {"ref": REF, "certificate": b"c" * 200},
    "progress": {"ref": REF, "tokens": [RUN], "finished": [END]},
    "trouble": {"ref": REF, "kind": "engine", "farewell": False, "reason": "down"},
    "claim": {
        "ref": REF, "unit_id": b"u" * 32, "epoch": 1, "sequence_ids": [b"s" * 16], "token_count": 9,
    },
    "countersign": {"ref": REF, "claim": b"c" * 300},
    "forget": {"ref": REF, "sequence_ids": [b"s" * 16]},
    "verify": {"pool_id": 1, "unit_id": b"u" * 32, "bundle_id": b"b" * 32, "size": 9, "tokens": 9},
    "bundle": {"bundle_id": b"b" * 32, "bundle": b"x" * 300},
    "verdict": {"verdict": b"v" * 300},
    "cosign": {"root": b"r" * 200},
    "convict": {"conviction": b"c" * 200},
    "fetch": {"digest": b"d" * 32, "offset": 0},
}  # fmt: skip
FRAMES = b"".join(
    (
        encode(FrameType.WINDOW_UPDATE, flags=Flag.SYN, stream_id=1),
        encode(FrameType.DATA, stream_id=1, length=20) + bytes(20),
        encode(FrameType.PING, flags=Flag.SYN, length=7),
        encode(FrameType.DATA, flags=Flag.SYN, stream_id=3, length=5) + bytes(5),
        encode(FrameType.WINDOW_UPDATE, stream_id=1, length=4096),
        encode(FrameType.WINDOW_UPDATE, flags=Flag.RST, stream_id=3),
        encode(FrameType.DATA, flags=Flag.FIN, stream_id=1, length=3) + bytes(3),
        encode(FrameType.GO_AWAY),
    )
)


def key_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


VICTIM, ATTACKER, HONEST = (key_of(name) for name in ("victim", "attacker", "honest"))


class Sent:
    """A stream on which a peer has sent these bytes and finished; for the code above a muxed
    stream as well as the library's stream on top of one."""

    def __init__(self, peer_id: str, data: bytes, end: type[Exception]) -> None:
        self._data, self._end = data, end
        self.sent = b""
        self.was_reset = False
        self.muxed_stream = self
        self.metric_send_channel = None
        self.muxed_conn = SimpleNamespace(
            peer_id=peer_id_object(peer_id), get_remote_address=lambda: ("203.0.113.1", 1)
        )

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._data:
            raise self._end
        count = len(self._data) if n is None else n
        chunk, self._data = self._data[:count], self._data[count:]
        return chunk

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        self.was_reset = True


class Fuzzed:
    """The network under test, and what is asked of it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.attacker, self.honest = peer_id_of(ATTACKER), peer_id_of(HONEST)
        self.topic = "/prime/fuzz"
        self._seqno = 0
        for method in METHODS:
            serve(network, method, self._handler(method))
        network.subscribe("fuzz", lambda author, data: Validity.ACCEPT, self._heard)
        self.heard: set[bytes] = set()
        self.now = 1_800_000_000.0

    @staticmethod
    def _handler(method: Method[Any, Any]) -> Callable[[str, Body], Awaitable[Body]]:
        async def handler(peer_id: str, body: Body) -> Body:
            assert type(body) is method.request
            assert method.request.model_validate(body.model_dump()) == body
            if method is PING:
                return Done()
            raise Refused("fuzzed", "seen")

        return handler

    async def _heard(self, author: str, data: bytes) -> None:
        self.heard.add(data)

    # -- targets ----------------------------------------------------------------------------------

    async def frames(self, data: bytes) -> str:
        """Frames of the multiplexer, cut anywhere."""
        choices = Choices(data)
        kind, cut = choices.below(3), 1 + choices.below(64)
        stream = choices.rest() if kind == 0 else mutate_bytes(FRAMES, choices)
        session: Any = SimpleNamespace()
        connection = GuardedYamux(session, peer_id_object(self.attacker), is_initiator=False)
        pending = bytearray()
        try:
            for start in range(0, len(stream), cut):
                pending += stream[start : start + cut]
                for header, payload in cut_frames(pending, connection._check_announced):
                    connection._handle(header, payload)
        except YamuxViolation:
            return "violation"
        buffers = [len(s._buffer) for s in connection._streams.values()]
        assert len(buffers) <= MAX_INBOUND_STREAMS
        assert all(size <= INITIAL_WINDOW for size in buffers)
        assert connection._unread == sum(buffers)
        return "closing" if connection.is_closed else "taken"

    async def requests(self, data: bytes) -> str:
        """Frames of a request, to any method or the records' protocol."""
        choices = Choices(data)
        protocols = [method.protocol for method in METHODS]
        protocol = [*protocols, PROTOCOL][choices.below(len(protocols) + 1)]
        body: Any = BODIES.get(protocol.split("/")[2], {"ref": REF})
        kind = choices.below(4)
        if kind == 0:
            wire = choices.rest()
        elif kind == 1:
            wire = mutate_bytes(encode_frame(msgpack.packb(body)), choices)
        else:
            wire = encode_frame(msgpack.packb(mutate_message(body, choices)))
        return await self._ask(self.attacker, protocol, wire)

    async def _ask(self, peer_id: str, protocol: str, wire: bytes) -> str:
        sent: Any = Sent(peer_id, wire, MuxedStreamEOF)
        await self.network._services[protocol].handle(Stream(sent, peer_id))
        assert self.network.budgets.bytes.held == 0
        if not sent.sent:
            assert sent.was_reset
            return "reset"
        length, envelope = int.from_bytes(sent.sent[:4], "big"), sent.sent[4:]
        assert length == len(envelope) <= envelope_limit(5 * 2**20)
        try:
            decode_response(envelope, 5 * 2**20)
        except RemoteRefused as refused:
            if refused.code == "internal":
                raise AssertionError("a handler failed") from refused
            return refused.code
        return "answered"

    async def gossip(self, data: bytes) -> str:
        """RPCs on a gossip stream: garbage, mutated ones, and mutated records truly signed."""
        choices = Choices(data)
        kind = choices.below(4)
        if kind == 0:
            wire = choices.rest()
        elif kind == 1:
            wire = mutate_bytes(encode_varint_prefixed(self._rpc(b"fuzz")), choices)
        elif kind == 2:
            wire = encode_varint_prefixed(mutate_bytes(self._rpc(b"fuzz"), choices))
        else:
            record = mutate_bytes(self._record(ATTACKER), choices)
            wire = encode_varint_prefixed(self._rpc(record, topic="/prime/records"))
        scores = self.network._scores
        scores._entries.pop(self.attacker, None)  # or it would be at the lowest score there is
        await self._hear(self.attacker, wire)
        return "charged" if scores.score(self.attacker, 0.0) < 0 else "taken"

    async def _hear(self, peer_id: str, wire: bytes) -> None:
        sent: Any = Sent(peer_id, wire, StreamEOF)
        gossip, network = self.network._gossip._pubsub, self.network
        try:
            await gossip.stream_handler(sent)
        except Exception as exc:  # noqa: BLE001
            # What `p2p.guards.host` makes of whatever a stream's handler raises.
            network._on_fault(peer_id, "gossip", exc)
        while gossip._forwarders or network.budgets.bytes.held:
            await trio.testing.wait_all_tasks_blocked()

    def _rpc(self, data: bytes, key: bytes = ATTACKER, topic: str = "") -> bytes:
        pair = create_new_key_pair(key)
        self._seqno += 1
        message = rpc_pb2.Message(
            data=data,
            from_id=ID.from_pubkey(pair.public_key).to_bytes(),
            seqno=self._seqno.to_bytes(8, "big"),
            topicIDs=[topic or self.topic],
        )
        content = PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString()
        message.key = pair.public_key.serialize()
        message.signature = pair.private_key.sign(content)
        return rpc_pb2.RPC(publish=[message]).SerializeToString()

    async def records(self, data: bytes) -> str:
        """Records, and questions for them with a record inside."""
        choices = Choices(data)
        wire = self._record(ATTACKER)
        kind = choices.below(4)
        if kind == 0:
            changed = choices.rest()
        elif kind == 1:
            changed = mutate_bytes(wire, choices)
        else:
            changed = msgpack.packb(mutate_message(msgpack.unpackb(wire), choices))
        if kind == 3:
            question = mutate_message([changed, self.honest], choices)
            return await self._ask(self.attacker, PROTOCOL, encode_frame(msgpack.packb(question)))
        return self.network._exchange.validate(self.attacker, changed).value

    def _record(self, key: bytes) -> bytes:
        self.now += 0.01
        record = NodeRecord(
            peer_id=peer_id_of(key),
            sequence=int(self.now * 1000),
            issued_at=self.now,
            expires_at=self.now + 90.0,
            addresses=("/ip4/203.0.113.9/tcp/4001",),
            roles=("worker",),
        )
        return sign_record(record, key, "prime").wire

    # -- and for everybody else -------------------------------------------------------------------

    async def check_honest(self) -> None:
        """An honest peer is served, heard and known, and nothing is held against it."""
        network = self.network
        ping = encode_frame(msgpack.packb({}))
        assert await self._ask(self.honest, PING.protocol, ping) == "answered"
        news = f"news {self._seqno}".encode()
        await self._hear(self.honest, encode_varint_prefixed(self._rpc(news, HONEST)))
        with trio.fail_after(60):
            while news not in self.heard:
                await trio.testing.wait_all_tasks_blocked()
        self.heard.clear()
        assert network._exchange.validate(self.honest, self._record(HONEST)) is Validity.ACCEPT
        assert set(network._scores.offenders()) <= {self.attacker}
        assert network._scores.admits(self.honest, 0.0)
        assert not network.troubles


@asynccontextmanager
async def open_fuzzed() -> AsyncIterator[Fuzzed]:
    """A network whose clocks stand still but for the records."""
    fuzzed: list[Fuzzed] = []
    config = NetworkConfig(
        budgets=UNMETERED, clock=lambda: 0.0, wall_clock=lambda: fuzzed[0].now if fuzzed else 1.8e9
    )
    async with open_network(config, VICTIM) as network:
        fuzzed.append(Fuzzed(network))
        with trio.fail_after(60):
            while fuzzed[0].topic not in network._gossip._pubsub.topic_ids:
                await trio.testing.wait_all_tasks_blocked()
        yield fuzzed[0]


NAMES = ("frames", "requests", "gossip", "records")
