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
"""

from __future__ import annotations

from collections.abc import Callable

from libp2p.abc import IHost, INetConn, INetStream
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service.exceptions import LifecycleError

MAX_RPC = 256 * 1024
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


class GuardedPubsub(Pubsub):
    """libp2p's pubsub with strict signing and a fault boundary around each message."""

    def __init__(
        self,
        host: IHost,
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
        # The library's constructor registered it a moment ago and keeps no name for it.
        self._notifee = host.get_network().notifees[-1]

    async def stream_handler(self, stream: INetStream) -> None:
        """Read a peer's messages until its stream ends."""
        try:
            await super().stream_handler(stream)
        except LifecycleError:
            # This service has ended under the stream, which is no fault of the peer.
            await stream.reset()

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
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as exc:  # noqa: BLE001
            # The boundary: see p2p.guards.host, the same holds for each message.
            self._on_fault(str(msg_forwarder), "gossip", exc)
