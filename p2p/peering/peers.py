"""Connections by peer id: who is connected, how to reach somebody, and the events of both.

`connect_peer` gathers every address it can find (the caller's, the peer's record, the address book,
finally the DHT) and lets the guarded swarm try them all. The score table decides who is admitted;
its commands are carried out here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from libp2p.abc import INotifee
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from p2p.admission.sources import UNKNOWN, subnet
from p2p.admission.standing import Conduct
from p2p.errors import ConfigError, InvalidPeerId, PeerBanned, PeerUnreachable
from p2p.guards.host import GuardedHost
from p2p.peering.addresses import AddressBook, peer_id_object, split_peer_address
from p2p.peering.events import PeerConnected, PeerDisconnected, PeerEvents
from p2p.peering.names import is_name, looked_up
from p2p.peering.scores import Ban, Command, Disconnect, Offence, PeerScores

log = structlog.get_logger(__name__)

SCORE_TICK = 30.0
SEARCH_INTERVAL = 10.0
MAX_SEARCHES = 32  # different peers searched for within the interval


class Peers:
    """Live connections of one host.

    Args:
        conduct: told who comes, goes and offends.
        addresses_of: addresses from a peer's node record, possibly none.
        find_peer: asks the DHT; its finds land in the host's peerstore.
        clock: monotonic seconds, for scores.
        configured: addresses whose names are looked up, since the operator wrote them.
    """

    def __init__(
        self,
        host: GuardedHost,
        scores: PeerScores,
        conduct: Conduct,
        book: AddressBook,
        *,
        addresses_of: Callable[[str], tuple[str, ...]],
        find_peer: Callable[[ID], Awaitable[bool]],
        clock: Callable[[], float],
        configured: tuple[str, ...] = (),
    ) -> None:
        self._configured = configured
        self._host = host
        self._swarm = host.get_network()
        self._scores = scores
        self._book = book
        self._addresses_of = addresses_of
        self._find_peer = find_peer
        self._clock = clock
        self._announced: set[str] = set()
        self._conduct = conduct
        self._searched: dict[str, float] = {}
        self._to_close: set[str] = set()
        self._close_wanted = trio.Event()
        self.events = PeerEvents()
        self._swarm.register_notifee(_Notifee(self))

    # -- state ----------------------------------------------------------------------------------

    def connected(self, peer_id: str) -> bool:
        """Whether the peer has a live connection; False for text that is no peer id."""
        return bool(self._live(peer_id))

    def _live(self, peer_id: str) -> list[Any]:
        """Live connections of a peer, none for text that is no peer id of this network."""
        try:
            return list(self._swarm.live_connections(peer_id_object(peer_id)))
        except InvalidPeerId:
            return []

    def seen_at(self, peer_id: str) -> str | None:
        """The host at the other end of a live connection to the peer; None where there is none."""
        try:
            live = self._swarm.live_connections(peer_id_object(peer_id))
        except InvalidPeerId:
            return None
        found = (conn.muxed_conn.get_remote_address() for conn in live)
        return next((str(address[0]) for address in found if address is not None), None)

    def all(self) -> tuple[str, ...]:
        """Peers with a live connection, ordered."""
        return tuple(
            sorted(str(p) for p in list(self._swarm.connections) if self._swarm.live_connections(p))
        )

    def outbound(self) -> int:
        """How many peers have a connection that we dialled."""
        return sum(
            any(c.muxed_conn.is_initiator for c in self._swarm.live_connections(p))
            for p in list(self._swarm.connections)
        )

    def subnet(self, peer_id: str) -> str:
        """The subnet that the peer's connection comes from, `UNKNOWN` without one."""
        for connection in self._live(peer_id):
            remote = connection.muxed_conn.get_remote_address()
            if remote is not None:
                return subnet(remote[0])
        return UNKNOWN

    def rtt(self, peer_id: str) -> float | None:
        """Smoothed round-trip time in seconds of the peer's connection, None when unknown."""
        live = self._live(peer_id)
        return live[0].muxed_conn.rtt if live else None

    def changed(self, peer_id: ID) -> None:
        """Called by the swarm after any connection of the peer came or went."""
        name = str(peer_id)
        live = bool(self._swarm.live_connections(peer_id))
        if live and name not in self._announced:
            self._announced.add(name)
            self._conduct.connected(name, self._clock())
            self.events.publish(PeerConnected(name))
        elif not live and name in self._announced:
            self._announced.discard(name)
            self._conduct.disconnected(name, self._clock())
            self.events.publish(PeerDisconnected(name))

    # -- connecting -----------------------------------------------------------------------------

    async def connect_address(self, address: str, timeout: float) -> str:
        """Connect to ``/ip4/…/tcp/…/p2p/<peer id>``; returns the peer id.

        Raises:
            ConfigError: the address is malformed.
            PeerBanned, PeerUnreachable: as `connect_peer`.
        """
        peer_id, bare = split_peer_address(address)
        deadline = trio.current_time() + timeout
        found = await looked_up(bare, timeout)
        await self._dial(peer_id, found, deadline - trio.current_time())
        self._book.remember(peer_id, (address,), reached=True)
        return peer_id

    async def connect_peer(self, peer_id: str, timeout: float, *, search: bool = True) -> None:
        """Make sure that the peer is connected.

        Args:
            search: ask the DHT when no known address works. A search costs a query to many nodes,
                so one peer is searched for at most every `SEARCH_INTERVAL` seconds.

        Raises:
            PeerBanned: its score is below the threshold.
            PeerUnreachable: unknown, or no address worked; the message lists the causes.
        """
        if self.connected(peer_id):
            return
        target = _checked(peer_id)
        deadline = trio.current_time() + timeout
        known = [
            bare
            for text in (*self._addresses_of(peer_id), *self._book.addresses(peer_id))
            for bare in _address_of(text, peer_id)
        ]
        known = [bare for bare in known if not is_name(bare)]
        known += await self._looked_up(peer_id, timeout)
        try:
            await self._dial(peer_id, known, deadline - trio.current_time())
            self._book.remember(peer_id, self._addresses_of(peer_id), reached=True)
        except PeerBanned:
            raise
        except PeerUnreachable:
            if not (search and self._may_search(peer_id)):
                raise
            found = False
            with trio.move_on_after(deadline - trio.current_time()):
                found = await self._find_peer(target)
            if not found:
                raise
            await self._dial(peer_id, [], deadline - trio.current_time())

    async def _looked_up(self, peer_id: str, timeout: float) -> list[Multiaddr]:
        """Where the names that the operator wrote for the peer lead now."""
        found = []
        for text in self._configured:
            for bare in _address_of(text, peer_id):
                try:
                    found += await looked_up(bare, timeout) if is_name(bare) else []
                except PeerUnreachable as exc:
                    log.debug("name not found", peer=peer_id, reason=str(exc))
        return found

    def _may_search(self, peer_id: str) -> bool:
        now = self._clock()
        recent = {p: at for p, at in self._searched.items() if now - at < SEARCH_INTERVAL}
        may = peer_id not in recent and len(recent) < MAX_SEARCHES
        if may:
            recent[peer_id] = now
        self._searched = recent
        return may

    async def _dial(self, peer_id: str, addresses: list[Multiaddr], timeout: float) -> None:
        target = _checked(peer_id)
        if target == self._host.get_id():
            raise PeerUnreachable("a node does not connect to itself")
        if not self._scores.admits(peer_id, self._clock()):
            raise PeerBanned(f"peer {peer_id} is banned for misbehaviour")
        try:
            with trio.fail_after(max(0.0, timeout)):
                await self._swarm.dial_peer(target, addresses)
        except trio.TooSlowError as exc:
            raise PeerUnreachable(f"no connection to {peer_id} within {timeout:.1f} s") from exc
        except SwarmException as exc:
            raise PeerUnreachable(str(exc)) from exc

    # -- scores ---------------------------------------------------------------------------------

    def offend(self, peer_id: str, offence: Offence, reason: str) -> None:
        """Charge a peer for what it did; closes its connections when that is due."""
        log.info("peer misbehaved", peer=peer_id, offence=offence.name.lower(), reason=reason)
        self._conduct.offended(peer_id, self._clock())
        self._carry_out(self._scores.offend(peer_id, offence, self._clock()))

    def admits(self, peer_id: str) -> bool:
        """Whether the peer's score lets it connect."""
        return self._scores.admits(peer_id, self._clock())

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            log.info("peer score", peer=command.peer_id, action=type(command).__name__.lower())
            if isinstance(command, Ban | Disconnect):
                self._to_close.add(command.peer_id)
                self._close_wanted.set()

    async def run(self) -> None:
        """Close the connections of offenders and let scores decay, until cancelled."""
        while True:
            with trio.move_on_after(SCORE_TICK):
                await self._close_wanted.wait()
            self._close_wanted = trio.Event()
            self._carry_out(self._scores.tick(self._clock()))
            going, self._to_close = self._to_close, set()
            async with trio.open_nursery() as nursery:
                for peer_id in going:
                    nursery.start_soon(self.disconnect, peer_id)

    async def disconnect(self, peer_id: str) -> None:
        """Close all connections of a peer; nothing to do for text that is no peer id."""
        for connection in self._live(peer_id):
            await connection.close()


def _checked(peer_id: str) -> ID:
    try:
        return peer_id_object(peer_id)
    except InvalidPeerId as exc:
        raise PeerUnreachable(str(exc)) from exc


def _address_of(text: str, peer_id: str) -> list[Multiaddr]:
    """The bare address when the text names this very peer; peers may claim anything."""
    try:
        named, bare = split_peer_address(text)
    except ConfigError:
        return []
    return [bare] if named == peer_id else []


class _Notifee(INotifee):
    """The swarm's callbacks, reduced to "something about this peer changed"."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def connected(self, network: Any, conn: Any) -> None:
        self._peers.changed(conn.muxed_conn.peer_id)

    async def disconnected(self, network: Any, conn: Any) -> None:
        muxed = conn.muxed_conn
        if muxed.violation is not None:
            self._peers.offend(str(muxed.peer_id), Offence.MULTIPLEXER_VIOLATION, muxed.violation)
        self._peers.changed(muxed.peer_id)

    async def opened_stream(self, network: Any, stream: Any) -> None: ...

    async def closed_stream(self, network: Any, stream: Any) -> None: ...

    async def listen(self, network: Any, multiaddr: Any) -> None: ...

    async def listen_close(self, network: Any, multiaddr: Any) -> None: ...
