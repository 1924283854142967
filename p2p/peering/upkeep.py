"""Keeps the node in the network: bootstrap, greeting new peers, dialling known ones.

Three jobs around one rule, that nothing here is ever fatal: a peer that cannot be reached is tried
again later, a peer that answers nonsense loses score, a peer of another network is let go.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from p2p.errors import BootstrapFailed, P2PError, ProtocolViolation
from p2p.peering.addresses import AddressBook, split_peer_address
from p2p.peering.dht import Dht
from p2p.peering.events import PeerConnected, PeerEvent
from p2p.peering.mesh import ROUND, DialPlan
from p2p.peering.peers import Peers
from p2p.peering.scores import Offence
from p2p.records.exchange import RecordExchange

log = structlog.get_logger(__name__)

DIAL_TIMEOUT = 10.0
GREETINGS = 16  # snapshots fetched at a time


class Upkeep:
    """Background work of one node. `clock` gives monotonic seconds."""

    def __init__(
        self,
        own_peer_id: str,
        bootstrap: tuple[str, ...],
        *,
        peers: Peers,
        dht: Dht,
        exchange: RecordExchange,
        book: AddressBook,
        clock: Callable[[], float],
    ) -> None:
        self._bootstrap = bootstrap
        self._bootstrap_peers = tuple(split_peer_address(a)[0] for a in bootstrap)
        self._peers = peers
        self._dht = dht
        self._exchange = exchange
        self._book = book
        self._clock = clock
        self._plan = DialPlan(own_peer_id)
        self._events = peers.events.subscribe()
        self._greetings = trio.CapacityLimiter(GREETINGS)

    async def run(self) -> None:
        """Greet and dial until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._dial_loop)
            async for event in self._events:
                self._note(event, nursery)

    def _note(self, event: PeerEvent, nursery: trio.Nursery) -> None:
        if isinstance(event, PeerConnected):
            nursery.start_soon(self._greet, event.peer_id)

    async def bootstrap(self, timeout: float) -> int:
        """Dial all bootstrap peers at once, then look ourselves up in the DHT.

        Raises:
            BootstrapFailed: some are configured and none answered within `timeout` seconds.
        """
        causes: list[str] = []

        async def dial(address: str) -> None:
            try:
                await self._peers.connect_address(address, timeout)
            except P2PError as exc:
                causes.append(f"{address}: {exc}")

        async with trio.open_nursery() as nursery:
            for address in self._bootstrap:
                nursery.start_soon(dial, address)
        answered = len(self._bootstrap) - len(causes)
        if self._bootstrap and not answered:
            raise BootstrapFailed(
                "no bootstrap peer answered; check that one is running and its address:\n  "
                + "\n  ".join(causes)
            )
        with trio.move_on_after(timeout):
            await self._dht.join()
        return answered

    async def _greet(self, peer_id: str) -> None:
        try:
            async with self._greetings:
                same_network = await self._exchange.greet(peer_id)
        except ProtocolViolation as exc:
            self._peers.offend(peer_id, Offence.PROTOCOL_VIOLATION, str(exc))
        except P2PError as exc:
            log.debug("no records from peer", peer=peer_id, reason=str(exc))
        else:
            if not same_network:
                log.warning("peer is of another network", peer=peer_id)
                self._plan.failed(peer_id, self._clock())
                await self._peers.disconnect(peer_id)

    async def _dial_loop(self) -> None:
        """Carry out the dial plan at every change of the records, at least every `ROUND` s."""
        while True:
            version = self._exchange.view.version
            async with trio.open_nursery() as nursery:
                for peer_id in self._due():
                    nursery.start_soon(self._try_dial, peer_id)
            with trio.move_on_after(ROUND):
                await self._exchange.view.wait_changed(version)
            self.save_book()

    def _due(self) -> tuple[str, ...]:
        up = self._peers.all()
        always = self._bootstrap_peers if up else (*self._bootstrap_peers, *self._book.peers())
        known = [r.peer_id for r in self._exchange.view.all() if r.addresses]
        due = self._plan.next(known, up, self._clock(), always=always)
        return tuple(p for p in due if self._peers.admits(p))

    async def _try_dial(self, peer_id: str) -> None:
        try:
            await self._peers.connect_peer(peer_id, DIAL_TIMEOUT, search=False)
        except P2PError as exc:
            self._plan.failed(peer_id, self._clock())
            log.debug("dial failed", peer=peer_id, reason=str(exc))
        else:
            self._plan.succeeded(peer_id)

    def save_book(self) -> None:
        """Write the address book; a full disk is reported and changes nothing else."""
        try:
            self._book.save()
        except OSError as exc:
            log.warning("cannot save known peers", reason=str(exc))
