"""The data plane's fallback over two real libp2p hosts on loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from node.config.keystore import generate_key
from node.roles.worker.dataplane import reachable
from node.roles.worker.tunnel import Tunnels
from p2p.network import Network, NetworkConfig, open_network


def tunnels(network: Network, folder: Path) -> Tunnels:
    return Tunnels(network, folder, structlog.get_logger(), timeout=60)


@asynccontextmanager
async def two_nodes(tmp_path: Path) -> AsyncIterator[tuple[Network, Network]]:
    config = NetworkConfig()
    async with (
        open_network(config, generate_key().secret) as a,
        open_network(config, generate_key().secret) as b,
    ):
        await a.connect(b.addresses[0])
        yield a, b


async def serve_echo(path: Path, task_status: trio.TaskStatus[None]) -> None:
    """An "engine" on a Unix socket that sends back what it gets."""
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen(1)
    task_status.started()
    stream = trio.SocketStream((await sock.accept())[0])
    async with stream:
        while data := await stream.receive_some(65536):
            await stream.send_all(data)


async def test_bytes_go_through_both_ways_and_the_end_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    engine = tmp_path / "b" / "engine.sock"
    async with two_nodes(tmp_path) as (a, b), trio.open_nursery() as nursery:
        await nursery.start(serve_echo, engine)
        far = tunnels(b, tmp_path / "b")
        far.serve(lambda peer: str(engine) if peer == a.peer_id else None)
        near = tunnels(a, tmp_path / "a")
        path = await nursery.start(near.open, b.peer_id)
        sent = bytes(range(256)) * 4096
        received = bytearray()
        with trio.fail_after(60):
            local = await trio.open_unix_socket(path)
            async with local, trio.open_nursery() as io:
                io.start_soon(local.send_all, sent)
                while len(received) < len(sent):
                    received += await local.receive_some(65536)
            assert bytes(received) == sent
        nursery.cancel_scope.cancel()
    assert list((tmp_path / "a").iterdir()) == []


async def test_a_stranger_gets_no_tunnel(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with two_nodes(tmp_path) as (a, b), trio.open_nursery() as nursery:
        tunnels(b, tmp_path).serve(lambda peer: None)
        near = tunnels(a, tmp_path / "a")
        path = await nursery.start(near.open, b.peer_id)
        with trio.fail_after(60):
            async with await trio.open_unix_socket(path) as local:
                assert await local.receive_some(1) == b""
        nursery.cancel_scope.cancel()


async def test_reachable_means_that_a_connection_opens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert await reachable("127.0.0.1", port, 3.0)
    assert not await reachable("127.0.0.1", port, 3.0)
