"""Guarded swarm: accepting, dialling and keeping connections.

What the stock swarm does wrong, and what replaces it:

* Every inbound connection holds a limiter token until the *swarm* stops, so that a node is deaf
  after 250 connections in total. Here handshakes in progress and connections have their own places,
  and when all are taken somebody leaves for a newcomer (`p2p.admission.places`): of the handshakes
  the oldest from the most crowded subnet, of the connections a stranger's before one of a peer that
  has proven itself or has a stake. So neither silent sockets nor free identities keep others out.
* Dialling tries one address per transport, waits a fixed 250 ms, and after a failure refuses the
  peer for 60 s. Here all addresses are tried, each started when the one before failed or took
  a moment (`p2p.guards.dialling`); the first connection wins and the call returns at once.
* Two nodes that dial each other at the same moment keep both connections. Here both sides apply
  the same rule (`keeps_new`) and one connection stays.
* Nothing asks whether a peer may connect. Here the form of its id is checked and `admits(peer_id)`
  asked, after the handshake has proved who it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio
from libp2p.abc import IMuxedConn, INetConn
from libp2p.crypto.keys import KeyPair
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IOException
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore, PeerStoreError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from p2p.admission.budgets import Budgets
from p2p.admission.places import Places, Shares, for_anybody
from p2p.admission.sources import UNKNOWN, subnet
from p2p.admission.standing import Judge, Standing
from p2p.guards.account import PeerAccount
from p2p.guards.dialling import DEFAULT_DIALLING, DialTiming, first_connection
from p2p.guards.upgrader import guarded_upgrader
from p2p.guards.yamux import GuardedYamux
from p2p.identity import is_peer_id

HANDSHAKE_TIMEOUT = 10.0
MAX_ADDRESSES = 16
_OUT_OF_REACH = 1 << 20
SIMULTANEOUS = 5.0  # two connections this close in age come from simultaneous dials


@dataclass(frozen=True)
class ConnectionLimits:
    """Places for connections that others opened, and for handshakes on the way to one.

    `sockets` bounds both together with those that are about to be closed.
    """

    inbound: Shares = field(
        default_factory=lambda: Shares(512, strangers=128, proven=192, staked=192)
    )
    handshakes: int = 64
    sockets: int = 1024


def keeps_new(
    local: bytes, remote: bytes, *, new_is_outbound: bool, old_is_outbound: bool, old_age: float
) -> bool:
    """Whether a second connection to a peer replaces the first one.

    Both ends must decide alike without talking. Simultaneous dials go in opposite directions at
    nearly the same time: the connection dialled by the smaller peer id stays. In any other case
    somebody dialled again because the old connection is dead for them (the peer restarted): the
    new one stays.
    """
    if new_is_outbound == old_is_outbound or old_age > SIMULTANEOUS:
        return True
    return new_is_outbound == (local < remote)


class _IdleConnector(AutoConnector):
    """The library's connector dials every known address up to the connection limit; ours do not."""

    async def run_background_task(self, nursery: trio.Nursery) -> None:
        await trio.lowlevel.checkpoint()

    async def maybe_connect(self) -> None:
        await trio.lowlevel.checkpoint()


class GuardedSwarm(Swarm):
    """libp2p's swarm with its own accept, dial and admission."""

    def __init__(
        self,
        key_pair: KeyPair,
        admits: Callable[[str], bool],
        budgets: Budgets,
        timing: DialTiming = DEFAULT_DIALLING,
        limits: ConnectionLimits | None = None,
        judge: Judge = lambda peer_id: Standing.STRANGER,
    ) -> None:
        limits = limits or ConnectionLimits()
        peer_id = ID.from_pubkey(key_pair.public_key)
        peerstore = PeerStore()
        peerstore.add_key_pair(peer_id, key_pair)
        super().__init__(
            peer_id,
            peerstore,
            guarded_upgrader(key_pair),
            transports=[TCP()],
            retry_config=RetryConfig(max_retries=0),
            connection_config=ConnectionConfig(
                # Which peers to keep is decided here and in `p2p.peering.mesh`; the library's own
                # limits, which refuse a newcomer whoever it is, stay out of reach.
                max_connections=_OUT_OF_REACH,
                min_connections=0,
                low_watermark=0,
                high_watermark=_OUT_OF_REACH,
                max_connections_per_peer=4,
                inbound_upgrade_timeout=HANDSHAKE_TIMEOUT,
                outbound_upgrade_timeout=HANDSHAKE_TIMEOUT,
            ),
        )
        self.auto_connector = _IdleConnector(self)
        self._admits = admits
        self._budgets = budgets
        self._timing = timing
        self._handshakes: Places[trio.lowlevel.Task] = Places(
            for_anybody(limits.handshakes), lambda task: Standing.STRANGER
        )
        self._giving_up: dict[trio.lowlevel.Task, trio.CancelScope] = {}
        self._places: Places[str] = Places(limits.inbound, judge)
        self._sockets = limits.sockets
        self._inbound = 0

    @property
    def inbound_connections(self) -> int:
        """Accepted sockets now open, handshakes included."""
        return self._inbound

    # -- accepting ------------------------------------------------------------------------------

    async def _handle_inbound_connection(
        self, read_write_closer: ReadWriteCloser, maddr: Multiaddr
    ) -> None:
        if self._inbound >= self._sockets:
            await read_write_closer.close()
            return
        self._inbound += 1
        try:
            await self._accept(read_write_closer, maddr)
        finally:
            self._inbound -= 1

    async def _accept(self, stream: ReadWriteCloser, maddr: Multiaddr) -> None:
        muxed = await self._shake_hands(stream, maddr)
        if muxed is None:
            await stream.close()
            return
        # The listener closes the socket when this handler returns.
        await muxed.event_closed.wait()
        if not self.live_connections(muxed.peer_id):
            self._places.leave(str(muxed.peer_id))

    async def _shake_hands(self, stream: ReadWriteCloser, maddr: Multiaddr) -> IMuxedConn | None:
        """The upgraded connection; None when that failed or lost its place to a newer one."""
        task = trio.lowlevel.current_task()
        remote = stream.get_remote_address()
        with trio.CancelScope() as scope:
            self._giving_up[task] = scope
            oldest = self._handshakes.enter(task, (subnet(remote[0]) if remote else UNKNOWN,))
            if oldest is not None:
                self._giving_up[oldest].cancel()
            try:
                return await self.upgrade_inbound_raw_conn(RawConnection(stream, False), maddr)
            except (SwarmException, IOException, OSError, ValueError):
                return None
            finally:
                self._handshakes.leave(task)
                del self._giving_up[task]
        return None

    def _take_place(self, muxed: IMuxedConn) -> None:
        """Give an inbound connection a place; whoever leaves for it is hung up on."""
        # The handshake is over: it must not be given up while the library registers it.
        self._handshakes.leave(trio.lowlevel.current_task())
        remote = muxed.get_remote_address()
        source = subnet(remote[0]) if remote else UNKNOWN
        leaves = self._places.enter(str(muxed.peer_id), (source,))
        if leaves is not None:
            for connection in self.live_connections(ID.from_base58(leaves)):
                if not connection.muxed_conn.is_initiator:
                    self.manager.run_task(self._close_connection_async, connection)

    # -- dialling -------------------------------------------------------------------------------

    async def dial_peer(self, peer_id: ID, first: Sequence[Multiaddr] = ()) -> list[INetConn]:
        """A live connection to the peer, dialled over all its known addresses if need be.

        Args:
            first: addresses from a better source than the peerstore, whose entries anybody may
                have added; these are tried before those and cannot be crowded out.

        Raises:
            SwarmException: the peer is not admitted, has no address, or none of them worked; the
                message names each address with its cause.
        """
        if not self._admits(str(peer_id)):
            raise SwarmException(f"peer {peer_id} is banned")
        while (going := self._ongoing_dials.get(peer_id)) is not None:
            await going.wait()
        if live := self.live_connections(peer_id):
            return live
        done = self._ongoing_dials[peer_id] = trio.Event()
        try:
            return [await self._dial_any(peer_id, self._dialable(peer_id, first))]
        finally:
            del self._ongoing_dials[peer_id]
            done.set()

    def live_connections(self, peer_id: ID) -> list[INetConn]:
        """The peer's connections that are not closed or closing."""
        return [
            conn
            for conn in self.connections.get(peer_id, ())
            if not conn.is_closed and not conn.muxed_conn.is_closed
        ]

    def _dialable(self, peer_id: ID, first: Sequence[Multiaddr]) -> list[Multiaddr]:
        try:
            stored = self.peerstore.addrs(peer_id)
        except PeerStoreError:
            stored = []
        known = dict.fromkeys([*first, *stored])
        usable = [a for a in known if self.transport_manager.transport_for_dialing(a) is not None]
        if not usable:
            raise SwarmException(f"no address of peer {peer_id} is known that can be dialled")
        return usable[:MAX_ADDRESSES]

    async def _dial_any(self, peer_id: ID, addresses: list[Multiaddr]) -> INetConn:
        winner, failures = await first_connection(
            addresses,
            lambda address: self._dial_addr_single_attempt(address, peer_id),
            self._timing,
        )
        if winner is None:
            # The peer may have reached us meanwhile, or ours lost against its simultaneous dial.
            if live := self.live_connections(peer_id):
                return live[0]
            raise SwarmException(f"cannot reach {peer_id}: " + "; ".join(failures))
        return winner

    # -- keeping --------------------------------------------------------------------------------

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        """Register a connection after admission; closes whichever of a pair loses."""
        peer_id = muxed_conn.peer_id
        if (
            not is_peer_id(str(peer_id))
            or not self._admits(str(peer_id))
            or peer_id == self.self_id
        ):
            await muxed_conn.close()
            raise SwarmException(f"peer {peer_id} is not admitted")
        outbound = direction == "outbound"
        if any(not self._prefers(peer_id, outbound, o) for o in self.live_connections(peer_id)):
            await muxed_conn.close()
            raise SwarmException(f"already connected to {peer_id}")
        if not outbound:
            self._take_place(muxed_conn)
        if isinstance(muxed_conn, GuardedYamux):
            remote = muxed_conn.get_remote_address()
            muxed_conn.account = PeerAccount(self._budgets, str(peer_id), remote)
        try:
            connection = await super().add_conn(muxed_conn, direction=direction)
        finally:  # a connection that could not be registered keeps no place
            if not self.live_connections(peer_id):
                self._places.leave(str(peer_id))
        # Asked again, since registering takes a while: the peer may be banned by now, and two
        # connections may have registered at the same time.
        if not self._admits(str(peer_id)):
            self.manager.run_task(self._close_connection_async, connection)
            return connection
        for other in self.live_connections(peer_id):
            if other is connection:
                continue
            if self._prefers(peer_id, outbound, other):
                self.manager.run_task(self._close_connection_async, other)
            else:
                self.manager.run_task(self._close_connection_async, connection)
                return other
        return connection

    def _prefers(self, peer_id: ID, new_is_outbound: bool, other: SwarmConn) -> bool:
        return keeps_new(
            self.self_id.to_bytes(),
            peer_id.to_bytes(),
            new_is_outbound=new_is_outbound,
            old_is_outbound=other.muxed_conn.is_initiator,
            # The library stamps connections with the wall clock.
            old_age=time.time() - other._created_at,
        )
