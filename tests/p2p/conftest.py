"""Real hosts on loopback for the tests of this folder."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from p2p.network import Network, NetworkConfig, NodeRecord, open_network
from p2p.records.record import sign_record


def make_key(number: int) -> bytes:
    """A private key that is the same in every run."""
    return hashlib.sha256(f"test key {number}".encode()).digest()


@pytest.fixture
def key() -> Callable[[int], bytes]:
    return make_key


@asynccontextmanager
async def open_nodes(count: int, network: str = "test") -> AsyncIterator[list[Network]]:
    """`count` nodes; all but the first bootstrap from the first, nobody has published anything."""
    async with AsyncExitStack() as stack:
        nodes: list[Network] = []
        for number in range(count):
            config = NetworkConfig(bootstrap=nodes[0].addresses if nodes else (), network=network)
            node = await stack.enter_async_context(open_network(config, make_key(number)))
            await node.bootstrap(60)
            nodes.append(node)
        yield nodes


@pytest.fixture
def nodes() -> Callable[..., object]:
    return open_nodes


def plain_record(peer_id: str, **fields: object) -> NodeRecord:
    """A record with the given fields; sequence and times are placeholders."""
    values: dict[str, object] = {"sequence": 0, "issued_at": 0.0, "expires_at": 0.0} | fields
    return NodeRecord(peer_id=peer_id, **values)


@pytest.fixture
def record() -> Callable[..., NodeRecord]:
    return plain_record


@pytest.fixture
def signed(key: Callable[[int], bytes]) -> Callable[..., bytes]:
    """Wire bytes of a record signed by key `number`."""
    from p2p.identity import peer_id_of

    def make(
        number: int, *, at: float, ttl: float = 90.0, network: str = "test", **fields
    ) -> bytes:
        private = key(number)
        statement = plain_record(
            peer_id_of(private),
            **({"sequence": int(at * 1000), "issued_at": at, "expires_at": at + ttl} | fields),
        )
        return sign_record(statement, private, network).wire

    return make
