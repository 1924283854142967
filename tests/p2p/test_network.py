"""Whole nodes on loopback: they find one another, lose one another, and never mix networks."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from p2p.errors import BootstrapFailed, ConfigError, ListenFailed, PeerUnreachable
from p2p.network import NetworkConfig, open_network
from p2p.peering.events import PeerConnected, PeerDisconnected
from p2p.records.record import NodeRecord


async def until_knows(node, count: int) -> tuple[NodeRecord, ...]:
    while len(node.records.all()) < count:
        await node.records.wait_changed()
    return node.records.all()


async def test_five_nodes_find_each_other_from_one_bootstrap(nodes, record):
    async with nodes(5) as network:
        for number, node in enumerate(network):
            await node.publish_record(record(node.peer_id, roles=("worker",), vram_bytes=number))
        with trio.fail_after(60):
            for node in network:
                known = await until_knows(node, 5)
                assert {r.peer_id for r in known} == {n.peer_id for n in network}
                assert sorted(r.vram_bytes for r in known) == [0, 1, 2, 3, 4]
        # A record's addresses are enough to reach anybody: nobody introduced the last two.
        network[4].serve("/prime/echo/1", lambda peer, data: _echo(data))
        answer = await network[3].request(network[4].peer_id, "/prime/echo/1", b"ping", timeout=60)
        assert answer == b"ping"


async def _echo(data: bytes) -> bytes:
    return data


async def test_dht_leads_to_a_peer_whose_record_nobody_published(nodes):
    async with nodes(4) as network:
        network[3].serve("/prime/echo/1", lambda peer, data: _echo(data))
        assert not network[2].connected(network[3].peer_id)
        assert network[2].records.get(network[3].peer_id) is None
        answer = await network[2].request(network[3].peer_id, "/prime/echo/1", b"found", timeout=60)
        assert answer == b"found"


async def test_providers_are_found_and_not_served_from_a_stale_cache(nodes):
    async with nodes(4) as network:
        assert await network[1].provide(b"pool-7")
        assert await network[3].find_providers(b"pool-7", 5) == (network[1].peer_id,)
        assert await network[2].provide(b"pool-7")
        assert await network[3].find_providers(b"pool-7", 5) == tuple(
            sorted((network[1].peer_id, network[2].peer_id))
        )
        assert await network[3].find_providers(b"another", 5) == ()


async def test_a_newcomer_has_all_records_by_snapshot(nodes, record):
    async with nodes(3) as network:
        for node in network:
            await node.publish_record(record(node.peer_id))
        with trio.fail_after(60):
            await until_knows(network[0], 3)
        config = NetworkConfig(bootstrap=network[0].addresses, network="test")
        async with open_network(config, os.urandom(32)) as late:
            await late.bootstrap(60)
            with trio.fail_after(60):
                assert len(await until_knows(late, 3)) == 3


async def test_a_changed_record_replaces_the_old_one_everywhere(nodes, record):
    async with nodes(3) as network:
        author, *others = network
        await author.publish_record(record(author.peer_id, region="eu"))
        with trio.fail_after(60):
            for node in others:
                await until_knows(node, 1)
            published = await author.publish_record(record(author.peer_id, region="us"))
            for node in others:
                while node.records.get(author.peer_id).region != "us":
                    await node.records.wait_changed()
                assert node.records.get(author.peer_id) == published


async def test_death_of_a_peer_is_an_event_within_a_second(nodes):
    async with nodes(2) as (one, two):
        events = one.peer_events()
        assert one.connected(two.peer_id)
        # What the kernel does for a killed process: all its sockets are closed without a goodbye.
        for connection in next(iter(two._host.get_network().connections.values())):
            raw = connection.muxed_conn.secured_conn.conn.read_writer.read_write_closer
            raw.stream.stream.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )
            raw.stream.stream.socket.close()
        with trio.fail_after(60):
            assert await events.receive() == PeerDisconnected(two.peer_id)


async def test_a_node_restarted_with_its_key_is_the_same_peer(key, record):
    async with open_network(NetworkConfig(), key(0)) as stays:
        events = stays.peer_events()
        config = NetworkConfig(bootstrap=stays.addresses)
        for life in (1, 2):
            async with open_network(config, key(1)) as node:
                await node.bootstrap(60)
                await node.publish_record(record(node.peer_id, device=f"life {life}"))
                with trio.fail_after(60):
                    assert await events.receive() == PeerConnected(node.peer_id)
                    while (
                        known := stays.records.get(node.peer_id)
                    ) is None or known.device != f"life {life}":
                        await stays.records.wait_changed()
            with trio.fail_after(60):
                assert await events.receive() == PeerDisconnected(node.peer_id)


async def test_several_abrupt_deaths_leave_the_rest_working(nodes, record):
    async with nodes(6) as network:
        network[0].serve("/prime/echo/1", lambda peer, data: _echo(data))
        for node in network:
            await node.publish_record(record(node.peer_id))
        with trio.fail_after(60):
            await until_knows(network[5], 6)
        for victim in network[1:4]:
            for connections in list(victim._host.get_network().connections.values()):
                for connection in list(connections):
                    connection.muxed_conn._end()
        answer = await network[5].request(network[0].peer_id, "/prime/echo/1", b"on", timeout=60)
        assert answer == b"on"


async def test_two_networks_never_mix(key, record):
    red = NetworkConfig(network="red")
    async with open_network(red, key(0)) as first, open_network(red, key(1)) as second:
        await first.publish_record(record(first.peer_id))
        await second.connect(first.addresses[0])
        blue = NetworkConfig(network="blue", bootstrap=first.addresses)
        async with open_network(blue, key(2)) as stranger:
            events = stranger.peer_events()
            await stranger.publish_record(record(stranger.peer_id))
            await stranger.bootstrap(60)
            with trio.fail_after(60):
                while await events.receive() != PeerDisconnected(first.peer_id):
                    pass
                await until_knows(second, 1)
            assert [r.peer_id for r in stranger.records.all()] == [stranger.peer_id]
            assert first.records.get(stranger.peer_id) is None
            assert second.records.get(stranger.peer_id) is None


async def test_bootstrap_names_each_address_and_cause(key):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # held and not listening: refused, and nobody else gets it
        port = unused.getsockname()[1]
        async with open_network(NetworkConfig(), key(9)) as other:
            dead = f"/ip4/127.0.0.1/tcp/{port}/p2p/{other.peer_id}"
            async with open_network(NetworkConfig(bootstrap=(dead,)), key(1)) as node:
                with pytest.raises(BootstrapFailed, match=f"(?s){port}.*(?i:refused)"):
                    await node.bootstrap(60)


async def test_bootstrap_that_comes_up_later_is_found_without_help(key):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listen = f"/ip4/127.0.0.1/tcp/{port}"
    from p2p.identity import peer_id_of

    config = NetworkConfig(bootstrap=(f"{listen}/p2p/{peer_id_of(key(0))}",))
    async with open_network(config, key(1)) as early:
        with pytest.raises(BootstrapFailed):
            await early.bootstrap(2)
        events = early.peer_events()
        async with open_network(NetworkConfig(listen=(listen,)), key(0)) as late:
            with trio.fail_after(60):
                assert await events.receive() == PeerConnected(late.peer_id)


async def test_known_peers_survive_a_restart(key, record, tmp_path):
    async with open_network(NetworkConfig(), key(0)) as friend:
        async with open_network(NetworkConfig(data_dir=tmp_path), key(1)) as node:
            await node.connect(friend.addresses[0])
        # No bootstrap this time: the address book alone leads back.
        async with open_network(NetworkConfig(data_dir=tmp_path), key(1)) as node:
            events = node.peer_events()
            if not node.connected(friend.peer_id):
                with trio.fail_after(60):
                    assert await events.receive() == PeerConnected(friend.peer_id)


async def test_a_used_port_is_refused(key):
    async with open_network(NetworkConfig(), key(0)) as node:
        taken = node.addresses[0].rpartition("/p2p/")[0]
        with pytest.raises(ListenFailed, match=taken):
            async with open_network(NetworkConfig(listen=(taken,)), key(1)):
                raise AssertionError("two nodes on one port")


async def test_external_addresses_are_announced_instead(key):
    config = NetworkConfig(external=("/ip4/203.0.113.7/tcp/4001",))
    async with open_network(config, key(0)) as node:
        assert node.addresses == (f"/ip4/203.0.113.7/tcp/4001/p2p/{node.peer_id}",)


@pytest.mark.parametrize(
    "config",
    [
        {"listen": ("127.0.0.1:4001",)},
        {"listen": ("/ip4/127.0.0.1/udp/4001",)},
        {"bootstrap": ("/ip4/127.0.0.1/tcp/4001",)},
        {"network": "Prime Net"},
    ],
)
async def test_bad_settings_name_the_value(key, config):
    with pytest.raises(ConfigError, match=r"4001|Prime Net"):
        async with open_network(NetworkConfig(**config), key(0)):
            raise AssertionError("accepted")


async def test_shutdown_leaves_no_socket(nodes, record):
    def sockets() -> set[str]:
        links = set()
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.add(os.readlink(f"/proc/self/fd/{fd}"))
            except FileNotFoundError:
                continue
        return {link for link in links if link.startswith("socket:")}

    before = sockets()
    async with nodes(5) as network:
        for node in network:
            await node.publish_record(record(node.peer_id))
        with trio.fail_after(60):
            await until_knows(network[4], 5)
    assert sockets() <= before


async def test_cancellation_closes_everything_too(key):
    async with open_network(NetworkConfig(), key(0)) as stays:
        events = stays.peer_events()
        with trio.CancelScope() as scope:
            async with open_network(NetworkConfig(bootstrap=stays.addresses), key(1)) as node:
                await node.bootstrap(60)
                assert isinstance(await events.receive(), PeerConnected)
                scope.cancel()
        with trio.fail_after(60):
            assert await events.receive() == PeerDisconnected(node.peer_id)


async def test_nothing_is_written_to_the_terminal(nodes, record, capfd):
    async with nodes(3) as network:
        await network[0].publish_record(record(network[0].peer_id))
        with trio.fail_after(60):
            await until_knows(network[2], 1)
        for connection in next(iter(network[1]._host.get_network().connections.values())):
            connection.muxed_conn._end()
        with pytest.raises(PeerUnreachable):
            await network[1].request("16Uiu2HAmUnknown", "/prime/echo/1", b"", timeout=1)
    captured = capfd.readouterr()
    assert "libp2p" not in captured.err
    assert captured.err == ""
