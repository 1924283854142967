"""The network as the rest of the node sees it: one facade over connections, DHT, gossip, records
and request/response.

`open_network` is ready on entry (listening, real ports known) and leaves nothing behind on exit:
all tasks run in its nursery, all sockets are closed within a second. It is also the only place
where the parts meet:

    GuardedHost ── Peers (connections, scores, events)
        ├── Dht            finding peers and providers
        ├── Gossip ── RecordExchange ── RecordTable
        ├── StreamOpener   streams to peers, for requests and for the application
        ├── Service        one per served protocol
        ├── Budgets        what peers may use of bytes, streams and CPU time, over all protocols
        └── Upkeep         bootstrap, greeting, dialling

Names on the wire carry the network's name: protocols ``/prime/<name>/1`` become
``/<network>/<name>/1``, topics and the DHT likewise, and record signatures include it, so two
networks on one machine never mix; a peer of another network is disconnected after the first words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio
from libp2p.abc import INetStream
from libp2p.crypto.secp256k1 import create_new_key_pair

from p2p.admission.budgets import Budgets
from p2p.admission.standing import Conduct, Judge, Standing
from p2p.config import NetworkConfig, wire_protocol
from p2p.errors import ProtocolViolation
from p2p.guards.host import GuardedHost
from p2p.guards.quiet import quiet_libp2p
from p2p.host import running_host
from p2p.identity import peer_id_of
from p2p.messages.gossip import Gossip, TopicHandler, Validator
from p2p.messages.rpc import call
from p2p.messages.serving import (
    DEFAULT_TIMING,
    Authorize,
    Handler,
    Service,
    ServiceLimits,
    ServiceTiming,
    StreamHandler,
    StreamService,
)
from p2p.messages.streams import Stream
from p2p.messages.validity import Validity
from p2p.parts import Parts, PartTrouble
from p2p.peering.addresses import (
    AddressBook,
    announced,
    interface_addresses,
    parse_address,
)
from p2p.peering.dht import Dht
from p2p.peering.events import PeerEvent
from p2p.peering.opening import StreamOpener
from p2p.peering.peers import Peers
from p2p.peering.scores import Offence, PeerScores
from p2p.peering.upkeep import DIAL_TIMEOUT, Upkeep
from p2p.records.exchange import MAX_PAGE, MAX_REQUEST, PROTOCOL, TOPIC, RecordExchange, RecordView
from p2p.records.record import NodeRecord
from p2p.records.table import RecordTable
from p2p.unwrap import lone_errors

__all__ = ["Network", "NetworkConfig", "NodeRecord", "Stream", "Validity", "open_network"]

READY_TIMEOUT = 10.0  # seconds for gossip and DHT to start; after that they go on trying
MAX_STREAMS_SERVED = 64  # of one protocol at a time


@asynccontextmanager
async def open_network(config: NetworkConfig, private_key: bytes) -> AsyncIterator[Network]:
    """Join as the node with this 32-byte secp256k1 key.

    Raises:
        ConfigError: an address, the network's name or the key is malformed.
        ListenFailed: a port is in use.
    """
    quiet_libp2p()
    network = Network(config, private_key)
    async with lone_errors(), network.running():
        yield network


class Network:
    """A running node of one network; made by `open_network`."""

    def __init__(self, config: NetworkConfig, private_key: bytes) -> None:
        self._config = config
        self._name = config.network
        self.peer_id = peer_id_of(private_key)
        external = [parse_address(a) for a in config.external]
        self._scores = PeerScores()
        self._parts = Parts()
        self._judge: Judge | None = None
        self._conduct = Conduct()
        book = AddressBook(
            config.data_dir / "peers.json" if config.data_dir is not None else None,
            judge=self.standing,
        )
        self._services: dict[str, Service] = {}
        self.budgets = Budgets(
            config.budgets,
            judge=self.standing,
            source_of=lambda peer_id: self._peers.subnet(peer_id),
            clock=config.clock,
        )
        self._host = GuardedHost(
            create_new_key_pair(private_key),
            admits=lambda peer_id: self._scores.admits(peer_id, config.clock()),
            on_fault=self._on_fault,
            dialling=config.dialling,
            limits=config.connections,
            judge=self.standing,
            announce=partial(announced, external=external, interfaces=interface_addresses()),
            budgets=self.budgets,
        )
        self._dht = Dht(self._host, self._name)
        self._gossip = Gossip(
            self._host, self._name, on_reject=self._on_reject, on_fault=self._on_fault
        )
        self._table = RecordTable(
            self.peer_id,
            self._name,
            judge=self.standing,
            seen_at=lambda peer_id: self._peers.subnet(peer_id),
        )
        self._exchange = RecordExchange(
            self._table,
            self._gossip,
            self._request_for_exchange,
            private_key=private_key,
            network=self._name,
            clock=config.wall_clock,
            on_record=lambda record: book.remember(record.peer_id, record.addresses),
            judge=self.standing,
            connected=lambda: self._peers.all(),
        )
        self._peers = Peers(
            self._host,
            self._scores,
            self._conduct,
            book,
            addresses_of=self._record_addresses,
            find_peer=self._dht.find_peer,
            clock=config.clock,
            configured=config.bootstrap,
        )
        self._opener = StreamOpener(self._host, self._peers, self._name)
        self._upkeep = Upkeep(
            self.peer_id,
            config.bootstrap,
            peers=self._peers,
            dht=self._dht,
            exchange=self._exchange,
            book=book,
            judge=self.standing,
            clock=config.clock,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block runs; used by `open_network` only."""
        listen = tuple(parse_address(a) for a in self._config.listen)
        self.serve(PROTOCOL, self._exchange.serve, max_request=MAX_REQUEST, reserve=MAX_PAGE)
        self.subscribe(TOPIC, self._exchange.validate, self._exchange.received)
        try:
            async with running_host(self._host, listen), trio.open_nursery() as nursery:
                for name, part in (
                    ("gossip", self._gossip.run),
                    ("dht", self._dht.run),
                    ("scores", self._peers.run),
                    ("records", self._exchange.run),
                    ("greetings", self._upkeep.greet),
                    ("dialling", self._upkeep.dial),
                    ("address book", self._upkeep.keep_book),
                ):
                    nursery.start_soon(self._parts.keep, name, part)
                with trio.move_on_after(READY_TIMEOUT):
                    await self._gossip.ready.wait()
                    await self._dht.ready.wait()
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._peers.events.close()
            self._upkeep.save_book()

    # -- identity and state ---------------------------------------------------------------------

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where we can be reached, with real ports and ``/p2p/<peer id>``."""
        return tuple(str(a) for a in self._host.get_addrs())

    @property
    def records(self) -> RecordView:
        """What is known about the nodes of the network."""
        return self._exchange.view

    @property
    def troubles(self) -> tuple[PartTrouble, ...]:
        """Background parts that a surprise ended, and which were started again."""
        return self._parts.troubles

    @property
    def unseen(self) -> tuple[str, ...]:
        """Why others do not see this node as it is: its clock, or a second node with its key."""
        return self._exchange.troubles()

    def standing(self, peer_id: str) -> Standing:
        """How the peer stands: by the node's judge where it has one, else by its conduct."""
        if peer_id == self.peer_id:
            return Standing.STAKED
        proven = self._conduct.standing(peer_id, self._config.clock())
        return proven if self._judge is None else max(proven, self._judge(peer_id))

    def charge(self, peer_id: str, seconds: float) -> None:
        """A peer caused CPU time where the network does not see it: in another thread."""
        self.budgets.charge(self.budgets.asker(peer_id), seconds)

    def judge_by(self, judge: Judge) -> None:
        """Ask `judge` from now on, which knows what the chain says; it must be quick."""
        self._judge = judge

    def connected(self, peer_id: str) -> bool:
        """Whether there is a live connection to the peer."""
        return self._peers.connected(peer_id)

    def seen_at(self, peer_id: str) -> str | None:
        """The host from which the peer is connected now, None where it is not."""
        return self._peers.seen_at(peer_id)

    def peers(self) -> tuple[str, ...]:
        """Peer ids with a live connection, ordered."""
        return self._peers.all()

    def rtt(self, peer_id: str) -> float | None:
        """Smoothed round-trip time to a connected peer in seconds; None when not known."""
        return self._peers.rtt(peer_id)

    def peer_events(self) -> trio.MemoryReceiveChannel[PeerEvent]:
        """Connections coming and going from now on; bounded, the oldest event is dropped."""
        return self._peers.events.subscribe()

    # -- connecting -----------------------------------------------------------------------------

    async def bootstrap(self, deadline: float) -> int:
        """Connect to the bootstrap peers and make ourselves known in the DHT.

        Args:
            deadline: seconds this may take. Peers that do not answer are tried again later.

        Returns:
            the number of bootstrap peers that answered; 0 when none is configured.

        Raises:
            BootstrapFailed: some are configured and none answered.
        """
        return await self._upkeep.bootstrap(deadline)

    async def connect(self, multiaddr: str, timeout: float = DIAL_TIMEOUT) -> str:
        """Connect to ``/ip4/…/tcp/…/p2p/<peer id>``; returns the peer id.

        Raises:
            ConfigError, PeerBanned, PeerUnreachable
        """
        return await self._peers.connect_address(multiaddr, timeout)

    async def disconnect(self, peer_id: str) -> None:
        """Close all connections of a peer."""
        await self._peers.disconnect(peer_id)

    # -- request/response and streams -----------------------------------------------------------

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        max_request: int = 1 << 20,
        reserve: int = 0,
        concurrency: int = 64,
        timing: ServiceTiming = DEFAULT_TIMING,
        authorize: Authorize | None = None,
    ) -> None:
        """Answer requests of ``/prime/<name>/<version>`` with `handler(peer id, payload)`.

        The handler may raise `Refused(code, message)`; other exceptions are logged and answered
        with the code ``internal``. `authorize` is asked before a byte is read, `reserve` is the
        size of the answer that room is kept for. See `p2p.messages.serving`.
        """
        service = Service(
            protocol,
            handler,
            self.budgets,
            limits=ServiceLimits(max_request, reserve, concurrency),
            timing=timing,
            authorize=authorize,
            vouch=lambda peer: self._conduct.vouched_for(peer, self._config.clock()),
            on_violation=lambda peer: self._peers.offend(
                peer, Offence.PROTOCOL_VIOLATION, f"oversized request of {protocol}"
            ),
        )
        self._services[protocol] = service
        self._register(protocol, service.handle)

    async def request(
        self,
        peer_id: str,
        protocol: str,
        payload: bytes,
        *,
        timeout: float,
        max_response: int = 1 << 20,
    ) -> bytes:
        """Ask a peer (or this node itself) and return its answer, connecting first if need be.

        Raises PeerUnreachable, PeerBanned, RequestTimeout, RemoteRefused, ProtocolViolation.
        """
        if peer_id == self.peer_id and protocol in self._services:
            return await self._services[protocol].ask(peer_id, payload, timeout, max_response)
        try:
            return await call(
                partial(self.open_stream, peer_id, protocol, timeout),
                payload,
                timeout=timeout,
                max_response=max_response,
            )
        except ProtocolViolation as exc:
            self._peers.offend(peer_id, Offence.PROTOCOL_VIOLATION, str(exc))
            raise

    def serve_stream(self, protocol: str, handler: StreamHandler) -> None:
        """Accept byte streams of a protocol; `handler(stream, peer id)` owns the stream."""
        service = StreamService(protocol, handler, self.budgets, concurrency=MAX_STREAMS_SERVED)
        self._register(protocol, service.handle)

    def _register(self, protocol: str, handle: Callable[[Stream], Awaitable[None]]) -> None:
        async def accept(stream: INetStream) -> None:
            await handle(Stream(stream, str(stream.muxed_conn.peer_id)))

        self._host.set_stream_handler(wire_protocol(protocol, self._name), accept)

    async def open_stream(self, peer_id: str, protocol: str, timeout: float) -> Stream:
        """Open a byte stream, connecting first if need be.

        Raises:
            PeerUnreachable, PeerBanned: no connection within `timeout` seconds.
            RemoteRefused: with code ``unsupported_protocol``.
        """
        return await self._opener.open(peer_id, protocol, timeout)

    # -- DHT, records, topics -------------------------------------------------------------------

    async def provide(self, key: bytes) -> bool:
        """Announce in the DHT that we provide `key`; True if any peer took the announcement."""
        return await self._dht.provide(key)

    async def find_providers(self, key: bytes, timeout: float) -> tuple[str, ...]:
        """Peer ids that announced `key`, as far as found in `timeout` seconds (hearsay)."""
        return await self._dht.find_providers(key, timeout)

    async def publish_record(self, record: NodeRecord) -> NodeRecord:
        """Make `record` our statement: signed, kept, gossiped and refreshed from now on.

        Sequence number and times are set here; empty addresses are filled with ours. Returns the
        record as signed.
        """
        if not record.addresses:
            record = record.model_copy(update={"addresses": self.addresses})
        return self._exchange.set_own(record).record

    def subscribe(self, topic: str, validate: Validator, handler: TopicHandler) -> None:
        """Take part in a gossip topic; see `p2p.messages.gossip`."""
        self._gossip.subscribe(topic, validate, handler)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip to all subscribers of a topic, best effort."""
        await self._gossip.publish(topic, payload)

    # -- wiring -----------------------------------------------------------------------------------

    def _record_addresses(self, peer_id: str) -> tuple[str, ...]:
        record = self._table.get(peer_id, self._config.wall_clock())
        configured = tuple(a for a in self._config.bootstrap if a.endswith(peer_id))
        return (*configured, *(record.addresses if record is not None else ()))

    async def _request_for_exchange(
        self, peer_id: str, protocol: str, payload: bytes, timeout: float, max_response: int
    ) -> bytes:
        return await self.request(
            peer_id, protocol, payload, timeout=timeout, max_response=max_response
        )

    def _on_reject(self, peer_id: str, topic: str) -> None:
        self._peers.offend(peer_id, Offence.GOSSIP_REJECTED, topic)

    def _on_fault(self, peer_id: str, protocol: str, error: Exception) -> None:
        self._peers.offend(peer_id, Offence.STREAM_FAULT, f"{protocol}: {error!r}"[:200])
