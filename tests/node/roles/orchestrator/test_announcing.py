"""Which workers an orchestrator hears of, and whom it asks to join: nobody without a stake where
there is a chain, and nobody who is not who it says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from node.onchain.registry import ChainRegistry
from node.roles.orchestrator.coordinator.events import (
    Event,
    PeerAnnounced,
    PeerDeclined,
    PeerJoined,
)
from node.roles.orchestrator.workers.announcing import Announcer
from node.roles.orchestrator.workers.invites import Inviter
from node.roles.orchestrator.workers.membership import (
    OPEN_PATIENCE,
    ChainMembership,
    OpenMembership,
)
from node.wire.codec import encode
from node.wire.messages.work import Joined
from node.wire.peer_addresses import address_of_peer
from p2p.admission.standing import Standing
from p2p.errors import RequestTimeout
from tests.node.onchain.registering import Network, networked, peer

OTHER = "0x" + "2" * 40
PROVIDER = "0x" + "1" * 40


class Heard:
    """What was fed, as (peer id, subnet, standing)."""

    def __init__(self) -> None:
        self.of: list[tuple[str, str, Standing]] = []

    async def feed(self, event: Event) -> None:
        assert isinstance(event, PeerAnnounced)
        self.of.append((event.peer_id, event.subnet, event.standing))


async def test_with_a_chain_strangers_are_not_even_mentioned() -> None:
    network, heard = Network(), Heard()
    staked: set[str] = set()
    network.judge_by(lambda p: Standing.STAKED if p in staked else Standing.PROVEN)
    announcer = Announcer(network, Standing.STAKED, heard.feed)
    network.records.add(["a", *(f"sybil {n}" for n in range(400))])
    await announcer.look()
    assert heard.of == []
    staked.add(peer("a"))  # the registry has learned of it; its record is the same
    await announcer.look()
    await announcer.look()
    assert heard.of == [(peer("a"), "", Standing.STAKED)]


async def test_without_one_workers_are_told_apart_by_where_they_are_connected_from() -> None:
    network, heard = Network(), Heard()
    announcer = Announcer(network, Standing.STRANGER, heard.feed)
    network.records.add(["a"])
    network.records.add(["judge"], role="validator")
    await announcer.look()
    network.connect("a", "192.0.2.7")
    network.connect("judge", "192.0.2.8")
    await announcer.connected(peer("a"))
    await announcer.connected(peer("judge"))
    await announcer.look()
    network.records.add(["a"])
    await announcer.look()
    assert heard.of == [(peer("a"), subnet, Standing.STRANGER) for subnet in ("", *SUBNETS)]


SUBNETS = ("192.0.2.0/24",) * 2


@dataclass
class Asking:
    """An inviter of a pool on chain, and the invites that were sent."""

    inviter: Inviter
    chain: Any
    network: Any
    sent: list[str]


class Pools:
    """Everybody is a member who accepted."""

    async def sign_invite(self, pool_id: int, address: str, deadline: int) -> bytes:
        return b"s" * 65

    async def is_member(self, pool_id: int, address: str) -> bool:
        return True


@asynccontextmanager
async def asking(folder: Path, *, provider: str = PROVIDER, silent: bool = False, chainless=False):
    """Workers say that they work for `provider`; the silent let an invite lapse."""
    async with networked(folder) as (context, network, chain):
        chain.pools = Pools()
        sent: list[str] = []

        async def request(peer_id: str, protocol: str, payload: bytes, **how: Any) -> bytes:
            sent.append(peer_id)
            if silent:
                await trio.sleep(how["timeout"])
                raise RequestTimeout(peer_id, how["timeout"])
            return encode(Joined(address=address_of_peer(peer_id), provider=provider))

        network.request = request
        membership: Any = OpenMembership()
        if not chainless:
            membership = ChainMembership(chain, ChainRegistry(context, chain), 7)
        inviter = Inviter(context, membership, pool_id=7, model_id=b"m" * 32, model_name="tiny")
        yield Asking(inviter, chain, network, sent)


async def test_a_worker_without_a_stake_is_not_asked_to_join(tmp_path: Path) -> None:
    async with asking(tmp_path) as here:
        here.chain.poor[address_of_peer(peer("poor"))] = OTHER
        for name in ("sybil", "poor"):
            event = await here.inviter.invite(peer(name))
            assert isinstance(event, PeerDeclined)
            assert "stake" in event.reason
        assert here.sent == []
        here.chain.register("honest", PROVIDER)
        joined = await here.inviter.invite(peer("honest"))
        assert joined == PeerJoined(peer("honest"), address_of_peer(peer("honest")), PROVIDER)


async def test_a_worker_that_says_it_is_of_another_provider_is_none_of_ours(tmp_path: Path) -> None:
    async with asking(tmp_path, provider=OTHER) as here:
        here.chain.register("liar", PROVIDER)
        event = await here.inviter.invite(peer("liar"))
        assert isinstance(event, PeerDeclined)
        assert event.reason == f"works for {OTHER}, it says; the chain says {PROVIDER}"


async def test_a_chain_that_is_down_is_not_held_against_the_worker(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with asking(tmp_path) as here:
        here.chain.takes = 1e6
        event = await here.inviter.invite(peer("honest"))
        assert isinstance(event, PeerDeclined)
        assert event.took == 0.0
        assert here.sent == []


async def test_an_invite_that_costs_nothing_lapses_after_ten_seconds(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with asking(tmp_path, silent=True, chainless=True) as here:
        event = await here.inviter.invite(peer("sybil"))
        assert isinstance(event, PeerDeclined)
        assert event.took == OPEN_PATIENCE == 10.0
