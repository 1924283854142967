"""The real mesh and upkeep on a virtual clock, with a stand-in for the dialler and the network."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import trio

from p2p.admission.standing import Standing
from p2p.errors import PeerUnreachable
from p2p.identity import peer_id_of
from p2p.parts import Parts
from p2p.peering.addresses import AddressBook
from p2p.peering.events import PeerConnected, PeerDisconnected, PeerEvents
from p2p.peering.peers import Peers
from p2p.peering.upkeep import Upkeep, UpkeepTiming
from p2p.records.exchange import RecordView

HOURS = 3600.0


class World:
    """Stands in for `Peers`, `Dht` and `RecordExchange`: who is alive answers at once."""

    def __init__(self, alive: set[str], records: dict[str, str]) -> None:
        self.alive = alive
        self.records = records
        self.version = 0
        self.up: dict[str, bool] = {}
        self.events = PeerEvents()
        self.dials: list[tuple[float, str]] = []
        self.greeted: list[tuple[float, str]] = []
        self.slow: set[str] = set()
        self.view = RecordView(self, trio.current_time)

    # what the record view asks of its table
    def all(self, now: float):
        return [SimpleNamespace(peer_id=p, addresses=(a,)) for p, a in self.records.items()]

    def announce(self, peer_id: str, address: str) -> None:
        self.records[peer_id] = address
        self.version += 1
        self.view.notify()

    # what upkeep asks of the exchange and of the connections
    async def greet(self, peer_id: str) -> bool:
        self.greeted.append((trio.current_time(), peer_id))
        if peer_id in self.slow:
            await trio.sleep_forever()
        return True

    async def connect_peer(self, peer_id: str, timeout: float, *, search: bool) -> None:
        self.dials.append((trio.current_time(), peer_id))
        if peer_id not in self.alive:
            await trio.sleep(timeout)
            raise PeerUnreachable("no answer")
        self.connected(peer_id, outbound=True)

    def connected(self, peer_id: str, *, outbound: bool = False) -> None:
        self.up[peer_id] = outbound
        self.events.publish(PeerConnected(peer_id))

    async def disconnect(self, peer_id: str) -> None:
        if self.up.pop(peer_id, None) is not None:
            self.events.publish(PeerDisconnected(peer_id))

    def outbound(self) -> int:
        return sum(self.up.values())

    def all_up(self) -> tuple[str, ...]:
        return tuple(sorted(self.up))

    def admits(self, peer_id: str) -> bool:
        return True

    def subnet(self, peer_id: str) -> str:
        return self.records.get(peer_id, "")


def upkeep_in(world: World, own: str, bootstrap=(), timing=None) -> Upkeep:
    peers = SimpleNamespace(
        all=world.all_up,
        **{
            name: getattr(world, name)
            for name in Peers.__dict__
            if not name.startswith("_") and hasattr(world, name) and name != "all"
        },
        events=world.events,
    )
    return Upkeep(
        own,
        bootstrap,
        peers=peers,
        dht=SimpleNamespace(),
        exchange=SimpleNamespace(view=world.view, greet=world.greet),
        book=AddressBook(None),
        judge=lambda peer_id: Standing.STRANGER,
        clock=trio.current_time,
        timing=timing,
    )


@pytest.fixture
def peer_ids(key):
    return [peer_id_of(key(number)) for number in range(40)]


async def test_72_hours_with_bootstrap_and_half_the_records_dead_end_nothing(
    autojump_clock, peer_ids
):
    own, bootstrap, *others = peer_ids[:6]
    alive = set(others[::2])
    world = World(alive, {p: f"/ip4/10.0.{n}.1/tcp/1" for n, p in enumerate(others)})
    upkeep = upkeep_in(world, own, (f"/ip4/192.0.2.1/tcp/1/p2p/{bootstrap}",))
    parts = Parts()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.keep, "dialling", upkeep.dial)
        nursery.start_soon(parts.keep, "greetings", upkeep.greet)
        await trio.sleep(72 * HOURS)
        assert set(world.up) == alive
        tries = [at for at, peer in world.dials if peer == bootstrap]
        assert len(tries) > 1025  # 2.0 ** 1024 was once the end
        assert all(later - earlier <= 90 for earlier, later in itertools.pairwise(tries))
        world.alive.add(bootstrap)  # it comes back and is found within a back-off
        await trio.sleep(90)
        assert bootstrap in world.up
        nursery.cancel_scope.cancel()
    assert parts.troubles == ()


async def test_an_honest_newcomer_is_dialled_within_10_seconds_beside_4096_sybils(
    autojump_clock, peer_ids
):
    own, honest, *_ = peer_ids
    world = World({honest}, {f"sybil {n}": "/ip4/203.0.113.9/tcp/9" for n in range(4096)})
    upkeep = upkeep_in(world, own, timing=UpkeepTiming(pause=1.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upkeep.dial)
        await trio.sleep(60)
        world.announce(honest, "/ip4/198.51.100.7/tcp/1")
        await trio.sleep(10)
        assert honest in world.up
        nursery.cancel_scope.cancel()


async def test_slow_greetings_of_sybils_do_not_hold_up_a_newcomer(autojump_clock, peer_ids):
    own, honest, *_ = peer_ids
    sybils = {f"sybil {n}" for n in range(4096)}
    world = World(set(), dict.fromkeys(sybils, "203.0.113.0/24") | {honest: "198.51.100.0/24"})
    world.slow = sybils
    upkeep = upkeep_in(world, own)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upkeep.greet)
        await trio.testing.wait_all_tasks_blocked()
        for sybil in sorted(sybils):
            world.connected(sybil)
            await trio.lowlevel.checkpoint()
        came = trio.current_time()
        world.connected(honest)
        await trio.sleep(10)
        assert [at - came for at, peer in world.greeted if peer == honest] == [0]
        assert upkeep._turns.waiting <= 128
        await trio.sleep(10)
        # One deadline ends each greeting, so the turns go round.
        assert len(world.greeted) >= 16
        nursery.cancel_scope.cancel()


async def test_a_surprise_about_one_peer_costs_the_others_nothing(autojump_clock, peer_ids):
    own, evil, honest, *_ = peer_ids
    world = World({honest}, {evil: "/ip4/10.0.0.1/tcp/1", honest: "/ip4/10.0.1.1/tcp/1"})
    connect = world.connect_peer

    async def surprise(peer_id: str, timeout: float, *, search: bool) -> None:
        if peer_id == evil:
            raise KeyError("what no one thought of")
        await connect(peer_id, timeout, search=search)

    world.connect_peer = surprise
    upkeep = upkeep_in(world, own)
    parts = Parts()
    with trio.move_on_after(30):
        await parts.keep("dialling", upkeep.dial)
    assert world.all_up() == (honest,)
    assert parts.troubles == ()
