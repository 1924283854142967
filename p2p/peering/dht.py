"""Kademlia: finding peers by id and providers by key, under this network's protocol id.

The library compiles ``/ipfs/kad/1.0.0`` into its modules and ignores the prefix it is given, so a
node would join the public IPFS table. `_NamespacedHost` stands between its DHT and the host and
translates that one protocol id both ways, per instance, so several networks fit in one process.

Two more facts shape this module: a node is learnt by others only when it *queries* them, hence
`join`; and the library's `find_providers` answers from a local cache that it never refreshes, hence
our own lookup, which always asks the network.

Questions of others go through the budgets (`p2p.guards.paced`). The library serves twelve streams
at a time, whosever they are and however long they stay silent; here nobody has more than a few of
them, one is kept for each peer, and a silent one ends after `IDLE` seconds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, cast

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.kad_dht.common import PROTOCOL_ID as LIBRARY_PROTOCOL
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.tools.anyio_service import background_trio_service

from p2p.admission.holdings import Holdings
from p2p.admission.shares import calls_of
from p2p.errors import BudgetUsedUp
from p2p.guards.host import GuardedHost
from p2p.guards.paced import PacedStream
from p2p.identity import is_peer_id

# Ten announcements per ten seconds are taken from one peer; stay below.
PROVIDE_INTERVAL = 1.25
MAX_PROVIDERS = 64
MAX_KEY = 256
ADDRESS_TTL = 3600
MAX_STREAMS = 16  # served at a time, over all peers
MAX_QUESTION = 64 * 1024  # bytes
IDLE = 30.0


class _NamespacedPeerstore:
    """Shows the library its own protocol id where the peers speak ours."""

    def __init__(self, peerstore: Any, protocol: str) -> None:
        self._peerstore = peerstore
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peerstore, name)

    def get_protocols(self, peer_id: ID) -> list[str]:
        protocols: list[str] = self._peerstore.get_protocols(peer_id)
        return [str(LIBRARY_PROTOCOL) if p == self._protocol else p for p in protocols]


class _NamespacedHost:
    """The host as the library's DHT sees it."""

    def __init__(self, host: GuardedHost, protocol: str) -> None:
        self._host = host
        self._protocol = TProtocol(protocol)
        self._places = Holdings("DHT streams", calls_of(MAX_STREAMS))
        self._peerstore = _NamespacedPeerstore(host.get_peerstore(), protocol)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def get_peerstore(self) -> _NamespacedPeerstore:
        return self._peerstore

    def set_stream_handler(self, protocol: TProtocol, handler: StreamHandlerFn) -> None:
        async def admitted(stream: INetStream) -> None:
            account = self._host.account(stream)
            try:
                place = self._places.take(account.asker)
            except BudgetUsedUp:
                await stream.reset()
                return
            with place, account.hold(0) as lease:
                paced = PacedStream(stream, account, lease, MAX_QUESTION, IDLE)
                await handler(cast(INetStream, paced))

        self._host.set_stream_handler(self._translate(protocol), admitted)

    def remove_stream_handler(self, protocol: TProtocol) -> None:
        self._host.remove_stream_handler(self._translate(protocol))

    async def new_stream(self, peer_id: ID, protocols: Sequence[TProtocol]) -> INetStream:
        return await self._host.new_stream(peer_id, [self._translate(p) for p in protocols])

    def _translate(self, protocol: TProtocol) -> TProtocol:
        return self._protocol if protocol == LIBRARY_PROTOCOL else protocol


class Dht:
    """Peer routing and provider records of one network."""

    def __init__(self, host: GuardedHost, network: str) -> None:
        self._host = host
        self._protocol = f"/{network}/kad/1.0.0"
        self._kad = self._make()
        self._started = False
        self.ready = trio.Event()
        self._pace = trio.Lock()
        self._next_provide = 0.0

    def _make(self) -> KadDHT:
        kad = KadDHT(
            _NamespacedHost(self._host, self._protocol),
            DHTMode.SERVER,
            strict_validation=True,
            max_peers_per_subnet=0,  # private networks share one subnet
        )
        # Places are given before the library's handler is asked, which must not refuse them again.
        kad._inbound_limiter = trio.CapacityLimiter(math.inf)
        return kad

    async def run(self) -> None:
        """Serve and refresh until cancelled. A service of the library runs once, so that a second
        call begins with an empty table, which fills with the next queries."""
        if self._started:
            self._kad = self._make()
        self._started = True
        async with background_trio_service(self._kad) as manager:
            self.ready.set()
            await manager.wait_finished()

    async def join(self) -> int:
        """Look up our own id, which makes the queried peers know us; returns how many answered."""
        found = await self._kad.peer_routing.find_closest_peers_network(
            self._host.get_id().to_bytes()
        )
        return len(found)

    @property
    def size(self) -> int:
        """Peers in the routing table."""
        return int(self._kad.get_routing_table_size())

    async def find_peer(self, peer_id: ID) -> bool:
        """Ask the network where a peer is; its addresses go to the peerstore.

        Returns:
            whether any address is known now.
        """
        await self._kad.peer_routing.find_closest_peers_network(peer_id.to_bytes())
        return bool(
            peer_id in self._host.get_peerstore().peer_ids()
            and self._host.get_peerstore().addrs(peer_id)
        )

    async def provide(self, key: bytes) -> bool:
        """Announce that we provide `key`, paced to what peers accept; True if any peer took it."""
        async with self._pace:
            await trio.sleep_until(self._next_provide)
            self._next_provide = trio.current_time() + PROVIDE_INTERVAL
            return bool(await self._kad.provider_store.provide(_digest(key)))

    async def find_providers(self, key: bytes, timeout: float) -> tuple[str, ...]:
        """Peer ids that announced `key`, as far as found within `timeout` seconds.

        The announcements are hearsay for up to a day: check liveness before relying on one.
        """
        digest = _digest(key)
        store = self._kad.provider_store
        found: dict[str, PeerInfo] = {
            str(p.peer_id): p for p in store.get_providers(digest) if is_peer_id(str(p.peer_id))
        }

        async def ask(peer: ID) -> None:
            providers, _ = await store._get_providers_from_peer_with_closers(peer, digest)
            for provider in providers[:MAX_PROVIDERS]:
                if len(found) < MAX_PROVIDERS and is_peer_id(str(provider.peer_id)):
                    found.setdefault(str(provider.peer_id), provider)

        with trio.move_on_after(timeout):
            closest = await self._kad.peer_routing.find_closest_peers_network(digest)
            async with trio.open_nursery() as nursery:
                for peer in closest:
                    if peer != self._host.get_id():
                        nursery.start_soon(ask, peer)
        for provider in found.values():
            if provider.addrs and provider.peer_id != self._host.get_id():
                self._host.get_peerstore().add_addrs(provider.peer_id, provider.addrs, ADDRESS_TTL)
        return tuple(sorted(found))


def _digest(key: bytes) -> bytes:
    """Keys of any form become 32 uniform bytes, so that they spread over the table."""
    return hashlib.sha256(b"prime-node-provide/1:" + key).digest()
