"""Guarded gossip: settings that work on small networks, and no message that ends the service.

The stock pubsub runs each message in a task of its service; a bad `key`, a `from` that is no peer
id or a topic validator that raises ends the service and with it the node. Here `push_msg` is the
fault boundary. Garbage that is not even an RPC fails in the stream reader and is caught by
`p2p.guards.host`.

Settings changed, with the reason:
* heartbeat 1 s (stock 120 s: a mesh would form after minutes),
* prune backoff 4 s, unsubscribe backoff 2 s (stock 60 s locks two nodes out of each other's mesh),
* version 1.1 only: 1.2 sends every mesh peer a notice before every message, which costs more than
  our small messages themselves,
* mesh degree 8 in 6..18: below seven nodes everybody is in everybody's mesh,
* own and foreign message rate 100/s a topic (stock 10/s also drops what we publish ourselves),
* inbound RPC at most `MAX_RPC` bytes and subscriptions only to topics of this network.

What a peer sends goes through its budgets: it is read no faster than they allow, from at most
`MAX_STREAMS` streams. An RPC can hold more than a thousand messages, and the library makes a task
of each at once; so it is split, and its messages are taken one in each round of the event loop.
Those that come while the peer's CPU seconds are used up are dropped, which is nobody's fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import INetConn, INetStream
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service.exceptions import LifecycleError

from p2p.errors import BudgetUsedUp
from p2p.guards.account import PeerAccount, metered
from p2p.guards.host import GuardedHost
from p2p.guards.paced import PacedStream

MAX_RPC = 256 * 1024
MAX_STREAMS = 4  # of a peer: one for each of its connections, and those about to end
MAX_WAITING = 256  # messages of a peer that wait for their turn
MAX_AT_ONCE = 2  # messages that the library gets in one RPC
MAX_CONTROL = 256  # entries of an RPC's control part, and ids in all of them; more is ignored
MAX_PEER_ID_BYTES = 64
MAX_TOPICS = 64


def gossip_router() -> GossipSub:
    """GossipSub 1.1 with this network's settings."""
    return GossipSub(
        protocols=[TProtocol(PROTOCOL_ID_V11)],
        degree=8,
        degree_low=6,
        degree_high=18,
        heartbeat_interval=1,
        prune_back_off=4,
        unsubscribe_back_off=2,
        max_messages_per_topic_per_second=100.0,
        eclipse_protection_enabled=False,  # it wants three IPs a mesh: impossible on one machine
    )


@dataclass
class _Forwarder:
    """A peer that we hear from: its account, its streams, and its messages on their way."""

    account: PeerAccount
    streams: int = 0
    waiting: int = 0
    turn: trio.Lock = field(default_factory=trio.Lock)


class GuardedPubsub(Pubsub):
    """libp2p's pubsub with strict signing and a fault boundary around each message."""

    def __init__(
        self,
        host: GuardedHost,
        router: GossipSub,
        *,
        topic_prefix: str,
        on_fault: Callable[[str, str, Exception], None],
    ) -> None:
        super().__init__(
            host,
            router,
            strict_signing=True,
            max_inbound_rpc_size=MAX_RPC,
            max_subscriptions_per_rpc=MAX_TOPICS,
            max_subscriptions_per_peer=MAX_TOPICS,
        )
        self._topic_prefix = topic_prefix
        self._on_fault = on_fault
        self._guarded_host = host
        self._forwarders: dict[ID, _Forwarder] = {}
        # The library's constructor registered it a moment ago and keeps no name for it.
        self._notifee = host.get_network().notifees[-1]

    async def stream_handler(self, stream: INetStream) -> None:
        """Read a peer's messages until its stream ends."""
        peer_id = stream.muxed_conn.peer_id
        peer = self._forwarders.get(peer_id)
        if peer is None:
            peer = self._forwarders[peer_id] = _Forwarder(self._guarded_host.account(stream))
        if peer.streams >= MAX_STREAMS:
            await stream.reset()
            return
        peer.streams += 1
        try:
            with peer.account.hold(0) as lease:
                paced = PacedStream(stream, peer.account, lease, MAX_RPC, math.inf, split_rpc)
                await super().stream_handler(cast(INetStream, paced))
        except LifecycleError:
            # This service has ended under the stream, which is no fault of the peer.
            await stream.reset()
        finally:
            peer.streams -= 1
            if not peer.streams:
                self._forwarders.pop(peer_id, None)

    def retire(self) -> list[INetConn]:
        """Another service takes this one's place and hears of connections from now on.

        Returns:
            those that it will not hear of. The library has no way to take over their streams, so
            they are to be closed once the other runs; `p2p.peering.upkeep` dials again.
        """
        network = self.host.get_network()
        network.remove_notifee(self._notifee)
        return [c for connections in network.connections.values() for c in connections]

    def _handle_dead_peer(self, peer_id: ID) -> None:
        """The library hears late that a stream has ended, and then forgets what the peer has said
        on its next connection, which the peer does not repeat: gossip with it would stay dead."""
        topics = [topic for topic, peers in self.peer_topics.items() if peer_id in peers]
        super()._handle_dead_peer(peer_id)
        if self._peer_is_connected(peer_id):
            for topic in topics:
                self.handle_subscription(
                    peer_id, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic)
                )

    def handle_subscription(self, origin_id: ID, sub_message: rpc_pb2.RPC.SubOpts) -> None:
        """Only topics of this network; a fixed list would miss those we subscribe to later."""
        if sub_message.topicid.startswith(self._topic_prefix):
            super().handle_subscription(origin_id, sub_message)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Take one message in; whatever it breaks is reported and ends here."""
        if len(msg.from_id) > MAX_PEER_ID_BYTES or len(msg.topicIDs) != 1:
            self._on_fault(str(msg_forwarder), "gossip", ValueError("malformed gossip message"))
            return
        peer = self._forwarders.get(msg_forwarder)
        if peer is None:  # our own, or what the last stream of a peer brought
            await self._push(msg_forwarder, msg)
            return
        if peer.waiting >= MAX_WAITING:
            return
        peer.waiting += 1
        try:
            with peer.account.hold(msg.ByteSize()):
                async with peer.turn:
                    await trio.lowlevel.checkpoint()
                if peer.account.may_cause_work:
                    await metered(self._push(msg_forwarder, msg), peer.account.spend)
        except BudgetUsedUp:
            pass
        finally:
            peer.waiting -= 1

    async def _push(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as exc:  # noqa: BLE001
            # The boundary: see p2p.guards.host, the same holds for each message.
            self._on_fault(str(msg_forwarder), "gossip", exc)


def split_rpc(data: bytes) -> list[bytes]:
    """An RPC as several, the first with everything but messages; what is none is left as it is."""
    rpc = rpc_pb2.RPC()
    try:
        rpc.ParseFromString(data)
    except DecodeError:
        return [data]
    if len(rpc.publish) <= MAX_AT_ONCE and _entries(rpc.control) <= MAX_CONTROL:
        return [data]
    parts = [
        rpc_pb2.RPC(publish=rpc.publish[start : start + MAX_AT_ONCE]).SerializeToString()
        for start in range(0, len(rpc.publish), MAX_AT_ONCE)
    ]
    rpc.ClearField("publish")
    if _entries(rpc.control) > MAX_CONTROL:
        rpc.ClearField("control")
    return [rpc.SerializeToString(), *parts]


def _entries(control: rpc_pb2.ControlMessage) -> int:
    lists = [value for field, value in control.ListFields() if field.is_repeated]
    named = [len(entry.messageIDs) for entry in control.ihave]
    wanted = [len(entry.messageIDs) for entry in control.iwant]
    return sum(map(len, lists)) + sum(named) + sum(wanted)
