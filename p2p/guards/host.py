"""Guarded host: no stream handler can take the node down.

In the stock host an exception in any inbound stream handler climbs through the connection's task
group into the service that runs the whole swarm, and the node leaves the network: one malformed
message from anybody is enough. Here each inbound stream is a fault boundary. What escapes a handler
resets that stream, is counted, and is reported so that the peer can be held to account.

It is also where every stream that a peer opens takes its place in the budgets, whatever its
protocol, and where the CPU time that it costs is measured and charged to the peer.
"""

from __future__ import annotations

from collections.abc import Callable

from libp2p.abc import INetStream
from libp2p.crypto.keys import KeyPair
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from p2p.admission.budgets import Budgets
from p2p.admission.standing import Judge, Standing
from p2p.errors import BudgetUsedUp
from p2p.guards.account import PeerAccount, metered
from p2p.guards.dialling import DEFAULT_DIALLING, DialTiming
from p2p.guards.swarm import ConnectionLimits, GuardedSwarm
from p2p.guards.upgrader import NEGOTIATE_TIMEOUT


class GuardedHost(BasicHost):
    """libp2p's host on a `GuardedSwarm`.

    Args:
        key_pair: the node's identity.
        admits: whether a peer id may be connected.
        on_fault: called with (peer id, protocol, error) when a stream handler failed.
        announce: makes the addresses to advertise from those listened on.
        dialling: how long the addresses of a peer are tried.
        limits: places for those who connect to us.
        judge: how a peer stands, which decides who keeps a place.
        budgets: what peers may use.
    """

    def __init__(
        self,
        key_pair: KeyPair,
        *,
        admits: Callable[[str], bool],
        on_fault: Callable[[str, str, Exception], None],
        announce: Callable[[list[Multiaddr]], list[Multiaddr]],
        budgets: Budgets,
        dialling: DialTiming = DEFAULT_DIALLING,
        limits: ConnectionLimits | None = None,
        judge: Judge = lambda peer_id: Standing.STRANGER,
    ) -> None:
        self._on_fault = on_fault
        self.budgets = budgets
        self._fixed_addresses: tuple[Multiaddr, ...] = ()
        super().__init__(
            GuardedSwarm(key_pair, admits, budgets, dialling, limits, judge),
            negotiate_timeout=NEGOTIATE_TIMEOUT,
            addrs_factory=announce,
            disable_identify_address_discovery=True,
        )

    def fix_addresses(self) -> None:
        """Take the addresses to advertise from the sockets, once all are listening.

        The library asks for them with every message that it sends and parses them again each time.
        """
        self._fixed_addresses = tuple(super().get_addrs())

    def get_addrs(self) -> list[Multiaddr]:
        """The addresses to advertise, with our peer id."""
        return list(self._fixed_addresses)

    def account(self, stream: INetStream) -> PeerAccount:
        """The account of the peer at the other end."""
        muxed = stream.muxed_conn
        return PeerAccount(self.budgets, str(muxed.peer_id), muxed.get_remote_address())

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        account = self.account(net_stream)
        try:
            place = account.open_stream()
        except BudgetUsedUp:
            await net_stream.reset()
            return
        with place:
            await metered(self._serve(net_stream), account.spend)

    async def _serve(self, net_stream: INetStream) -> None:
        try:
            await super()._swarm_stream_handler(net_stream)
        except Exception as exc:  # noqa: BLE001
            # The boundary: handlers of the library raise any type for hostile bytes (protobuf,
            # multihash, base58, key errors), so no narrower list would be complete.
            protocol = str(net_stream.get_protocol() or "")
            self._on_fault(str(net_stream.muxed_conn.peer_id), protocol, exc)
            await net_stream.reset()

    async def _identify_task_entry(self, peer_id: ID, reason: str) -> None:
        try:
            await super()._identify_task_entry(peer_id, reason)
        except Exception as exc:  # noqa: BLE001
            # The library runs this as a system task, where any exception ends the process.
            self._on_fault(str(peer_id), "identify", exc)
