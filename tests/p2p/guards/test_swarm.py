"""Accepting, dialling and keeping connections: each defect of the stock swarm, driven for real."""

from __future__ import annotations

import contextlib
import socket

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from libp2p.network.exceptions import SwarmException
from multiaddr import Multiaddr

from p2p.admission.places import Shares
from p2p.errors import PeerUnreachable
from p2p.guards.dialling import DialTiming
from p2p.guards.swarm import SIMULTANEOUS, ConnectionLimits, keeps_new
from p2p.network import NetworkConfig, open_network
from p2p.peering.addresses import peer_id_object
from p2p.peering.events import PeerConnected


def swarm_of(network):
    return network._host.get_network()


def endpoint(network) -> tuple[str, int]:
    address = Multiaddr(network.addresses[0])
    return address.value_for_protocol("ip4"), int(address.value_for_protocol("tcp"))


async def echo(peer: str, data: bytes) -> bytes:
    return data


async def test_still_accepts_after_hundreds_of_inbound_connections(key):
    async with open_network(NetworkConfig(), key(0)) as node:
        node.serve("/prime/echo/1", echo)
        swarm = swarm_of(node)
        for _ in range(300):  # the stock swarm is deaf after 250, ever
            stream = await trio.open_tcp_stream(*endpoint(node))
            await stream.send_all(b"\x13/multistream/1.0.0\n")
            await stream.aclose()
        async with open_network(NetworkConfig(bootstrap=node.addresses), key(1)) as other:
            assert await other.bootstrap(60) == 1
            answer = await other.request(node.peer_id, "/prime/echo/1", b"hear me", timeout=60)
            assert answer == b"hear me"
            assert swarm.inbound_connections >= 1
        with trio.fail_after(60):  # the place of a complete connection comes back as well
            while swarm.inbound_connections:
                await trio.testing.wait_all_tasks_blocked(0.01)


async def test_half_open_handshakes_do_not_keep_others_out(key):
    async with open_network(NetworkConfig(), key(0)) as node, contextlib.AsyncExitStack() as stack:
        for _ in range(40):
            stream = await trio.open_tcp_stream(*endpoint(node))
            await stack.enter_async_context(stream)
        async with open_network(NetworkConfig(bootstrap=node.addresses), key(1)) as other:
            assert await other.bootstrap(60) == 1


async def test_silent_sockets_in_all_handshake_places_keep_nobody_out(key):
    """Exactly as many as there are places; each newcomer takes the place of the oldest."""
    limit = ConnectionLimits().handshakes
    async with (
        open_network(NetworkConfig(), key(0)) as node,
        open_network(NetworkConfig(), key(1)) as honest,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(limit):
            await stack.enter_async_context(await trio.open_tcp_stream(*endpoint(node)))
        with trio.fail_after(60):
            while len(swarm_of(node)._handshakes) < limit:
                await trio.testing.wait_all_tasks_blocked(0.01)
        await honest.connect(node.addresses[0], 60)
        assert honest.connected(node.peer_id)
        assert len(swarm_of(node)._handshakes) < limit


async def test_with_all_connections_taken_a_newcomer_still_gets_in(key):
    places = Shares(3, strangers=1, proven=1, staked=1)
    crowded = NetworkConfig(connections=ConnectionLimits(inbound=places))
    async with open_network(crowded, key(0)) as node, contextlib.AsyncExitStack() as stack:
        for number in range(1, 4):
            sybil = await stack.enter_async_context(open_network(NetworkConfig(), key(number)))
            await sybil.connect(node.addresses[0])
        with trio.fail_after(60):
            while len(node.peers()) < 3:
                await trio.testing.wait_all_tasks_blocked(0.01)
        events = node.peer_events()
        honest = await stack.enter_async_context(open_network(NetworkConfig(), key(9)))
        await honest.connect(node.addresses[0], 60)
        with trio.fail_after(60):
            while (await events.receive()) != PeerConnected(honest.peer_id):
                pass


async def test_every_address_is_tried(key):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"/ip4/127.0.0.1/tcp/{unused.getsockname()[1]}"
    async with (
        open_network(NetworkConfig(), key(0)) as target,
        open_network(NetworkConfig(), key(1)) as node,
    ):
        peer = peer_id_object(target.peer_id)
        good = Multiaddr(target.addresses[0].rpartition("/p2p/")[0])
        # An address without an answer in the middle: 192.0.2.0/24 goes nowhere.
        for text in (dead, "/ip4/192.0.2.1/tcp/9", str(good)):
            node._host.get_peerstore().add_addr(peer, Multiaddr(text), 600)
        with trio.fail_after(60):
            await swarm_of(node).dial_peer(peer)
        assert node.connected(target.peer_id)


async def test_the_library_does_not_dial_on_its_own(key):
    async with (
        open_network(NetworkConfig(), key(0)) as target,
        open_network(NetworkConfig(), key(1)) as node,
    ):
        bare = Multiaddr(target.addresses[0].rpartition("/p2p/")[0])
        node._host.get_peerstore().add_addr(peer_id_object(target.peer_id), bare, 600)
        await swarm_of(node).auto_connector.maybe_connect()
        assert node.peers() == ()


async def test_addresses_that_others_made_up_do_not_crowd_out_the_true_one(key):
    async with (
        open_network(NetworkConfig(), key(0)) as target,
        open_network(NetworkConfig(), key(1)) as node,
    ):
        peer = peer_id_object(target.peer_id)
        lies = [Multiaddr(f"/ip4/192.0.2.{number}/tcp/9") for number in range(1, 100)]
        node._host.get_peerstore().add_addrs(peer, lies, 600)
        await node.connect(target.addresses[0], 2)


async def test_a_failed_dial_does_not_block_the_next_one(key):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    listen = f"/ip4/127.0.0.1/tcp/{port}"
    async with open_network(NetworkConfig(), key(1)) as node:
        async with open_network(NetworkConfig(), key(0)) as other:
            target_id = other.peer_id
        with pytest.raises(PeerUnreachable, match=str(port)):
            await node.connect(f"{listen}/p2p/{target_id}", 5)
        async with open_network(NetworkConfig(listen=(listen,)), key(0)) as back:
            await node.connect(back.addresses[0], 5)  # the stock swarm refuses for 60 s
            assert node.connected(target_id)


async def test_dialling_ends_with_the_first_connection(key):
    # The stock swarm always sits out its 250 ms stagger; a stagger without end shows it.
    endless = NetworkConfig(dialling=DialTiming(stagger=10_000))
    async with (
        open_network(NetworkConfig(), key(0)) as target,
        open_network(endless, key(1)) as node,
    ):
        with trio.fail_after(60):
            await node.connect(target.addresses[0], 60)


async def test_an_address_with_the_wrong_peer_behind_it_is_refused(key):
    async with (
        open_network(NetworkConfig(), key(0)) as honest,
        open_network(NetworkConfig(), key(1)) as imposter,
        open_network(NetworkConfig(), key(2)) as node,
    ):
        place = imposter.addresses[0].rpartition("/p2p/")[0]
        with pytest.raises(PeerUnreachable):
            await node.connect(f"{place}/p2p/{honest.peer_id}", 5)
        assert node.peers() == ()


async def test_simultaneous_dials_end_in_one_connection(key):
    async with (
        open_network(NetworkConfig(), key(0)) as one,
        open_network(NetworkConfig(), key(1)) as two,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.connect, two.addresses[0])
            nursery.start_soon(two.connect, one.addresses[0])

        def count() -> list[int]:
            return [
                len(swarm_of(a).live_connections(peer_id_object(b.peer_id)))
                for a, b in ((one, two), (two, one))
            ]

        with trio.fail_after(60):
            while count() != [1, 1]:
                await trio.testing.wait_all_tasks_blocked(0.01)
        one.serve("/prime/echo/1", echo)
        assert await two.request(one.peer_id, "/prime/echo/1", b"one", timeout=60) == b"one"
        assert count() == [1, 1]


async def test_a_banned_peer_is_neither_admitted_nor_dialled(key):
    async with (
        open_network(NetworkConfig(), key(0)) as node,
        open_network(NetworkConfig(), key(1)) as rogue,
    ):
        await rogue.connect(node.addresses[0])
        events = rogue.peer_events()
        from p2p.peering.scores import Offence

        for _ in range(6):
            node._peers.offend(rogue.peer_id, Offence.PROTOCOL_VIOLATION, "test")
        with trio.fail_after(60):
            assert (await events.receive()).peer_id == node.peer_id  # thrown out
        with pytest.raises(SwarmException, match="banned"):
            await swarm_of(node).dial_peer(peer_id_object(rogue.peer_id))
        with pytest.raises(PeerUnreachable):
            await rogue.request(node.peer_id, "/prime/records/1", b"", timeout=3)
        assert node.peers() == ()


ids = st.binary(min_size=4, max_size=4)


@given(ids, ids, st.floats(0, SIMULTANEOUS))
def test_both_ends_keep_the_same_one_of_two_crossing_connections(a, b, age):
    if a == b:
        return
    # At `a`, its own dial came second; at `b`, that same connection is inbound and first or second.
    a_keeps_own = keeps_new(a, b, new_is_outbound=True, old_is_outbound=False, old_age=age)
    b_keeps_a_dial = keeps_new(b, a, new_is_outbound=False, old_is_outbound=True, old_age=age)
    b_keeps_own = keeps_new(b, a, new_is_outbound=True, old_is_outbound=False, old_age=age)
    assert a_keeps_own == b_keeps_a_dial
    assert a_keeps_own != b_keeps_own


@given(ids, ids, st.booleans())
def test_a_peer_that_dials_again_replaces_its_old_connection(a, b, outbound):
    assert keeps_new(a, b, new_is_outbound=outbound, old_is_outbound=outbound, old_age=0)
    assert keeps_new(
        a, b, new_is_outbound=outbound, old_is_outbound=not outbound, old_age=SIMULTANEOUS + 1
    )
