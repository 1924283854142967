"""Topics: signed messages that reach every subscriber over a mesh.

A topic's validator runs before a message is forwarded and decides for the whole network:

    ACCEPT   deliver and forward
    IGNORE   neither, and nobody is blamed (seen, late, not for us)
    REJECT   neither, and the forwarder's score pays, since a correct node would have stopped it

Publishing goes through one paced queue: the library's per-peer queue has 32 places and drops what
does not fit without a word. A full queue makes `publish` wait. Delivery is best effort by nature;
nothing may depend on a single message arriving.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import structlog
import trio
from libp2p.abc import INetConn
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.tools.anyio_service import background_trio_service

from p2p.errors import ConfigError
from p2p.guards.host import GuardedHost
from p2p.guards.pubsub import GuardedPubsub, gossip_router
from p2p.messages.validity import Validity

log = structlog.get_logger(__name__)

Validator = Callable[[str, bytes], Validity]
TopicHandler = Callable[[str, bytes], Awaitable[None]]

MAX_MESSAGE = 64 * 1024
PUBLISH_QUEUE = 64
PUBLISH_INTERVAL = 0.02  # seconds between publishes: 50 a second is beyond any legitimate rate
HANDLER_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class _Topic:
    name: str
    validate: Validator
    handler: TopicHandler


class Gossip:
    """The topics of one network.

    Args:
        on_reject: told (forwarder's peer id, reason) about a rejected message.
        on_fault: told (peer id, protocol, error) about bytes that broke the library.
    """

    def __init__(
        self,
        host: GuardedHost,
        network: str,
        *,
        on_reject: Callable[[str, str], None],
        on_fault: Callable[[str, str, Exception], None],
    ) -> None:
        self._network = network
        self._host = host
        self._own = str(host.get_id())
        self._on_reject = on_reject
        self._on_fault = on_fault
        self._build()
        self._started = False
        self.ready = trio.Event()
        self._topics: dict[str, _Topic] = {}
        self._queue_send, self._queue_receive = trio.open_memory_channel[tuple[str, bytes]](
            PUBLISH_QUEUE
        )
        self._wanted_send, self._wanted_receive = trio.open_memory_channel[_Topic](PUBLISH_QUEUE)

    def _build(self) -> None:
        self._router = gossip_router()
        self._pubsub = GuardedPubsub(
            self._host, self._router, topic_prefix=f"/{self._network}/", on_fault=self._on_fault
        )

    def subscribe(self, topic: str, validate: Validator, handler: TopicHandler) -> None:
        """Take part in a topic from now on.

        Args:
            validate: ``(author's peer id, data) -> Validity``; must be quick and not raise.
            handler: ``await (author's peer id, data)`` for accepted messages, one at a time.

        Raises:
            ConfigError: the topic is subscribed already.
        """
        name = f"/{self._network}/{topic.strip('/')}"
        if name in self._topics:
            raise ConfigError(f"topic {topic!r} is subscribed already")
        self._topics[name] = subscription = _Topic(name, validate, handler)
        self._wanted_send.send_nowait(subscription)

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to all subscribers; waits only for a place in the queue.

        Raises:
            ConfigError: more than `MAX_MESSAGE` bytes.
        """
        if len(data) > MAX_MESSAGE:
            raise ConfigError(f"gossip message of {len(data)} bytes; at most {MAX_MESSAGE}")
        await self._queue_send.send((f"/{self._network}/{topic.strip('/')}", data))

    def mesh_peers(self, topic: str) -> tuple[str, ...]:
        """Peers that exchange full messages with us on the topic."""
        mesh = self._router.mesh.get(f"/{self._network}/{topic.strip('/')}", ())
        return tuple(str(peer) for peer in mesh)

    def topic_peers(self, topic: str) -> tuple[str, ...]:
        """Connected peers that subscribe to the topic."""
        peers = self._pubsub.peer_topics.get(f"/{self._network}/{topic.strip('/')}", ())
        return tuple(str(peer) for peer in peers)

    async def run(self) -> None:
        """Take part in the topics until cancelled.

        Services of the library run once. A second call builds new ones and subscribes to every
        topic again; all connections are closed for it and come back by themselves.
        """
        unheard: list[INetConn] = []
        if self._started:
            # Without a checkpoint in between, so that no connection is missed by both.
            unheard = self._pubsub.retire()
            self._build()
        self._started = True
        async with (
            background_trio_service(self._pubsub) as manager,
            background_trio_service(self._router),
            trio.open_nursery() as nursery,
        ):
            await self._pubsub.wait_until_ready()
            for topic in list(self._topics.values()):
                await self._join(topic, nursery)
            nursery.start_soon(self._publish_loop)
            nursery.start_soon(self._subscribe_loop, nursery)
            for connection in unheard:
                nursery.start_soon(connection.close)
            self.ready.set()
            await manager.wait_finished()
            nursery.cancel_scope.cancel()

    async def _publish_loop(self) -> None:
        async for topic, data in self._queue_receive:
            await self._pubsub.publish(topic, data)
            await trio.sleep(PUBLISH_INTERVAL)

    async def _subscribe_loop(self, nursery: trio.Nursery) -> None:
        async for topic in self._wanted_receive:
            await self._join(topic, nursery)

    async def _join(self, topic: _Topic, nursery: trio.Nursery) -> None:
        if topic.name not in self._pubsub.topic_ids:
            self._pubsub.set_topic_validator(topic.name, self._validator(topic), False)
            messages = await self._pubsub.subscribe(topic.name)
            nursery.start_soon(self._deliver_loop, topic, messages)

    def _validator(self, topic: _Topic) -> Callable[[ID, rpc_pb2.Message], bool]:
        def validate(forwarder: ID, message: rpc_pb2.Message) -> bool:
            author = str(ID(message.from_id))
            if author == self._own:
                return str(forwarder) == self._own
            if len(message.data) > MAX_MESSAGE:
                verdict = Validity.REJECT
            else:
                verdict = self._judge(topic, author, message.data)
            if verdict is Validity.REJECT:
                self._on_reject(str(forwarder), topic.name)
            return verdict is Validity.ACCEPT

        return validate

    @staticmethod
    def _judge(topic: _Topic, author: str, data: bytes) -> Validity:
        try:
            return topic.validate(author, data)
        except Exception:
            # The boundary between validators and the network. A fault here is ours, so the
            # message goes no further and nobody is blamed for it.
            log.exception("topic validator failed", topic=topic.name, author=author)
            return Validity.IGNORE

    async def _deliver_loop(self, topic: _Topic, messages: AsyncIterator[rpc_pb2.Message]) -> None:
        async for message in messages:
            author = str(ID(message.from_id))
            if author == self._own:
                continue
            try:
                with trio.fail_after(HANDLER_TIMEOUT):
                    await topic.handler(author, message.data)
            except Exception:
                # The boundary between handlers and the network: one message cannot end a topic.
                log.exception("topic handler failed", topic=topic.name, author=author)
