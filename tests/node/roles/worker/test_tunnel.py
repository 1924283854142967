"""The data plane's fallback over two real libp2p hosts on loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from node.config.keystore import generate_key
from node.config.schema import NodeConfig
from node.roles.worker.dataplane import DirectOrTunnelled, reachable
from node.roles.worker.timing import WorkerTiming
from node.roles.worker.tunnel import MAX_ANSWERED, Tunnels
from node.wire.messages.work import EdgeAnswer
from p2p.errors import Refused
from p2p.network import Network, NetworkConfig, open_network


def tunnels(network: Network, folder: Path) -> Tunnels:
    return Tunnels(network, folder, structlog.get_logger(), timeout=60, patience=60.0)


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
        tunnel = await nursery.start(near.open, b.peer_id, nursery)
        sent = bytes(range(256)) * 4096
        received = bytearray()
        with trio.fail_after(60):
            local = await trio.open_unix_socket(tunnel.path)
            tunnel.stop()  # nobody else is let in, and this one goes on
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
        tunnel = await nursery.start(near.open, b.peer_id, nursery)
        with trio.fail_after(60):
            async with await trio.open_unix_socket(tunnel.path) as local:
                assert await local.receive_some(1) == b""
        nursery.cancel_scope.cancel()


async def test_reachable_means_that_a_connection_opens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert await reachable("127.0.0.1", port, 3.0)
    assert not await reachable("127.0.0.1", port, 3.0)


def there(path: str) -> bool:
    """Without a thread, during which the clock of a test would jump."""
    return Path(path).exists()


async def test_an_engine_that_never_comes_ends_the_tunnel(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    nobody: Any = None
    near = Tunnels(nobody, tmp_path, structlog.get_logger(), timeout=15.0, patience=30.0)
    async with trio.open_nursery() as nursery:
        tunnel = await nursery.start(near.open, "a neighbour", nursery)
        assert there(tunnel.path)
    assert trio.current_time() == 30.0
    assert not there(tunnel.path)
    async with trio.open_nursery() as nursery:
        tunnel = await nursery.start(near.open, "a neighbour", nursery)
        tunnel.stop()
    assert trio.current_time() == 30.0
    assert not there(tunnel.path)


async def test_streams_of_the_upstream_stage_are_bounded(tmp_path: Path) -> None:
    served: list[Any] = []

    class OneService:
        def serve_stream(self, protocol: str, handler: Any) -> None:
            served.append(handler)

    service: Any = OneService()
    path = tmp_path / "engine.sock"
    far = Tunnels(service, tmp_path, structlog.get_logger(), timeout=15.0, patience=60.0)
    far.serve(lambda peer: str(path))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    with listener:
        async with trio.open_nursery() as nursery:
            held = []
            for _ in range(MAX_ANSWERED):
                ours, theirs = trio.testing.memory_stream_pair()
                nursery.start_soon(served[0], theirs, "upstream")
                held.append(ours)
            await trio.testing.wait_all_tasks_blocked()
            ours, theirs = trio.testing.memory_stream_pair()
            await served[0](theirs, "upstream")
            assert await ours.receive_some() == b""
            for stream in held:
                await stream.aclose()


@pytest.mark.parametrize(
    ("named", "port_is_open", "direct"),
    [
        ("127.0.0.1", True, True),
        ("127.0.0.1", False, False),
        ("192.0.2.1", True, True),
        ("192.0.2.1", False, False),
        ("nobody.invalid", False, False),
    ],
)
async def test_a_data_port_is_dialled_only_where_the_neighbour_is(
    tmp_path: Path, named: str, port_is_open: bool, direct: bool
) -> None:
    """The neighbour is connected from 127.0.0.1; it names a host, and its record says nothing."""
    async with two_nodes(tmp_path) as (a, b):
        context: Any = SimpleNamespace(
            network=a, config=NodeConfig(), engine_dir=tmp_path, log=structlog.get_logger()
        )
        plane = DirectOrTunnelled(context, WorkerTiming())
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            if port_is_open:
                listener.listen(1)
            port = listener.getsockname()[1]
            answer = EdgeAnswer(host=named, port=port, fingerprint=bytes(32))
            async with trio.open_nursery() as nursery:
                await nursery.start(plane.run, lambda peer: None)
                async with plane.ways(b.peer_id, answer) as ways:
                    assert [way.host for way in ways[:-1]] == (["127.0.0.1"] if direct else [])
                    assert there(ways[-1].unix_path)  # an open port may be somebody else's
                nursery.cancel_scope.cancel()


async def test_deep_and_full_folders_spoil_no_direct_way(tmp_path: Path) -> None:
    """A socket's path has at most 107 bytes; one that cannot be made is missed where needed."""
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    async with two_nodes(tmp_path) as (a, b), trio.open_nursery() as nursery:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            for folder, tunnelled in ((deep, True), (tmp_path / "gone", False)):
                context: Any = SimpleNamespace(
                    network=a, config=NodeConfig(), engine_dir=folder, log=structlog.get_logger()
                )
                plane = DirectOrTunnelled(context, WorkerTiming())
                await nursery.start(plane.run, lambda peer: None)
                open_port = EdgeAnswer(host="127.0.0.1", port=port, fingerprint=bytes(32))
                async with plane.ways(b.peer_id, open_port) as ways:
                    assert ways[0].port == port
                    assert [there(way.unix_path) for way in ways[1:]] == [True] * tunnelled
        if not tunnelled:
            with pytest.raises(Refused, match="no tunnel"):
                async with plane.ways(b.peer_id, open_port):
                    pass
        nursery.cancel_scope.cancel()
