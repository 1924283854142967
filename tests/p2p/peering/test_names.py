"""Names that the operator wrote are looked up; a stranger's are not."""

from __future__ import annotations

import socket

import pytest
import trio
from multiaddr import Multiaddr

from p2p.errors import BootstrapFailed, PeerUnreachable
from p2p.network import NetworkConfig, open_network
from p2p.peering.names import is_name, looked_up

PEER = "16Uiu2HAm8eTrR7bM4SvtaqNpCJryuLQR3FQefaHzHhXkPsPKPsaY"


class Names(trio.abc.HostnameResolver):
    """A name server with a table; notes what it was asked."""

    def __init__(self, **table: str) -> None:
        self._table = table
        self.asked: list[str] = []

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if name not in self._table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, type, 0, "", (self._table[name], 0))]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


@pytest.fixture
async def names():
    made = Names(node="127.0.0.1")
    before = trio.socket.set_custom_hostname_resolver(made)
    yield made
    trio.socket.set_custom_hostname_resolver(before)


async def test_a_name_becomes_addresses_and_an_address_stays(names):
    assert await looked_up(Multiaddr("/dns4/node/tcp/1"), 1) == [Multiaddr("/ip4/127.0.0.1/tcp/1")]
    plain = Multiaddr("/ip4/10.0.0.1/tcp/1")
    assert await looked_up(plain, 1) == [plain]
    assert not is_name(plain)
    assert names.asked == ["node"]
    with pytest.raises(PeerUnreachable, match="nowhere cannot be looked up: Name or service not"):
        await looked_up(Multiaddr("/dns/nowhere/tcp/1"), 1)


async def test_a_node_joins_by_a_name_and_comes_back_by_it(names, key, record):
    async with open_network(NetworkConfig(network="test"), key(0)) as first:
        by_name = first.addresses[0].replace("/ip4/127.0.0.1/", "/dns4/node/")
        config = NetworkConfig(network="test", bootstrap=(by_name,))
        async with open_network(config, key(1)) as second:
            assert await second.bootstrap(60) == 1
            names.asked.clear()
            stranger = f"/dns4/evil.example/tcp/1/p2p/{first.peer_id}"
            await first.publish_record(record(first.peer_id, addresses=(stranger,)))
            with trio.fail_after(60):
                while second.records.get(first.peer_id) is None:
                    await second.records.wait_changed()
                await second.disconnect(first.peer_id)
                await second._peers.connect_peer(first.peer_id, 60)
            assert set(names.asked) <= {"node"}


async def test_a_name_that_nobody_knows_is_the_reason_that_is_given(names, key):
    address = f"/dns4/nowhere/tcp/4001/p2p/{PEER}"
    config = NetworkConfig(network="test", bootstrap=(address,))
    async with open_network(config, key(5)) as node:
        with pytest.raises(BootstrapFailed, match="nowhere cannot be looked up: Name or service"):
            await node.bootstrap(60)
