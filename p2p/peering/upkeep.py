"""Keeps the node in the network: bootstrap, greeting new peers, dialling known ones.

Three jobs around one rule, that nothing here is ever fatal: a peer that cannot be reached is tried
again later, a peer that answers nonsense loses score, a peer of another network is let go.

Greetings are given out in turns (`p2p.admission.turns`), each with one deadline for everything, so
that slow peers hold up neither the others nor the memory. Dials run beside one another; the plan
(`p2p.peering.mesh`) is asked again when the records, the connections or a dial's end change what it
would say, or when it said that somebody becomes due.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
import trio

from p2p.admission.places import Shares
from p2p.admission.sources import claimed_subnet
from p2p.admission.standing import Judge
from p2p.admission.turns import Turns
from p2p.errors import BootstrapFailed, P2PError, ProtocolViolation
from p2p.peering.addresses import AddressBook, split_peer_address
from p2p.peering.dht import Dht
from p2p.peering.events import PeerConnected
from p2p.peering.mesh import Candidate, DialPlan
from p2p.peering.peers import Peers
from p2p.peering.scores import Offence
from p2p.records.exchange import RecordExchange

log = structlog.get_logger(__name__)

DIAL_TIMEOUT = 10.0


@dataclass(frozen=True)
class UpkeepTiming:
    """In seconds: `greeting` for a whole greeting; `pause` between two looks at the dial plan,
    however much changes, and `longest` when nothing does; `saving` between writes of the book."""

    greeting: float = 10.0
    pause: float = 0.25
    longest: float = 60.0
    saving: float = 30.0


@dataclass(frozen=True)
class GreetingLimits:
    """Greetings at a time, and places to wait for one."""

    active: int = 16
    waiting: Shares = field(default_factory=lambda: Shares(128, strangers=64, proven=32, staked=32))


class Upkeep:
    """Background work of one node. `clock` gives monotonic seconds, `judge` says how a peer
    stands."""

    def __init__(
        self,
        own_peer_id: str,
        bootstrap: tuple[str, ...],
        *,
        peers: Peers,
        dht: Dht,
        exchange: RecordExchange,
        book: AddressBook,
        judge: Judge,
        clock: Callable[[], float],
        timing: UpkeepTiming | None = None,
        greetings: GreetingLimits | None = None,
    ) -> None:
        limits = greetings or GreetingLimits()
        self._bootstrap = bootstrap
        self._bootstrap_peers = tuple(split_peer_address(a)[0] for a in bootstrap)
        self._peers = peers
        self._dht = dht
        self._exchange = exchange
        self._book = book
        self._judge = judge
        self._clock = clock
        self._timing = timing or UpkeepTiming()
        self._plan = DialPlan(own_peer_id, random.random)
        self._turns = Turns(limits.active, limits.waiting, judge)
        self._events = peers.events.subscribe()
        self._look = trio.Event()

    # -- bootstrap ------------------------------------------------------------------------------

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

    # -- greeting -------------------------------------------------------------------------------

    async def greet(self) -> None:
        """Greet whoever connects, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for event in self._events:
                self._look.set()
                if isinstance(event, PeerConnected):
                    self._turns.ask(event.peer_id, self._peers.subnet(event.peer_id))
                else:
                    self._turns.forget(event.peer_id)
                self._start_greetings(nursery)

    def _start_greetings(self, nursery: trio.Nursery) -> None:
        for peer_id in self._turns.start():
            nursery.start_soon(self._greet, peer_id, nursery)

    async def _greet(self, peer_id: str, nursery: trio.Nursery) -> None:
        try:
            with trio.fail_after(self._timing.greeting):
                same_network = await self._exchange.greet(peer_id)
            if not same_network:
                log.warning("peer is of another network", peer=peer_id)
                self._plan.failed(peer_id, self._clock())
                await self._peers.disconnect(peer_id)
        except ProtocolViolation as exc:
            self._peers.offend(peer_id, Offence.PROTOCOL_VIOLATION, str(exc))
        except (P2PError, trio.TooSlowError) as exc:
            log.debug("no records from peer", peer=peer_id, reason=repr(exc))
        except Exception:
            # The boundary around one peer: what it provokes must not cost the others their turn.
            log.exception("greeting failed", peer=peer_id)
        finally:
            self._turns.done(peer_id)
            self._start_greetings(nursery)

    # -- dialling -------------------------------------------------------------------------------

    async def dial(self) -> None:
        """Carry out the dial plan until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_records)
            while True:
                for peer_id in self._due():
                    nursery.start_soon(self._try_dial, peer_id)
                await trio.sleep(self._timing.pause)
                wait = min(self._timing.longest, self._plan.wake - self._clock())
                with trio.move_on_after(max(0.0, wait)):
                    await self._look.wait()
                self._look = trio.Event()

    async def _watch_records(self) -> None:
        while True:
            await self._exchange.view.wait_changed()
            self._look.set()

    def _due(self) -> tuple[str, ...]:
        up = self._peers.all()
        always = self._bootstrap_peers if up else (*self._bootstrap_peers, *self._book.peers())
        known = [
            Candidate(r.peer_id, claimed_subnet(r.addresses), self._judge(r.peer_id))
            for r in self._exchange.view.all()
            if r.addresses and self._peers.admits(r.peer_id)
        ]
        return self._plan.next(
            known,
            up,
            self._clock(),
            always=[p for p in always if self._peers.admits(p)],
            outbound=self._peers.outbound(),
        )

    async def _try_dial(self, peer_id: str) -> None:
        try:
            await self._peers.connect_peer(peer_id, DIAL_TIMEOUT, search=False)
        except P2PError as exc:
            self._plan.failed(peer_id, self._clock())
            log.debug("dial failed", peer=peer_id, reason=str(exc))
        except Exception:
            # The boundary around one peer, as for greetings.
            self._plan.failed(peer_id, self._clock())
            log.exception("dialling failed", peer=peer_id)
        else:
            self._plan.succeeded(peer_id, self._clock())
        self._look.set()

    # -- the address book -----------------------------------------------------------------------

    async def keep_book(self) -> None:
        """Write the address book from time to time, until cancelled."""
        while True:
            await trio.sleep(self._timing.saving)
            self.save_book()

    def save_book(self) -> None:
        """Write the address book; a full disk is reported and changes nothing else."""
        try:
            self._book.save()
        except OSError as exc:
            log.warning("cannot save known peers", reason=str(exc))
