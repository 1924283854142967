"""Serving over a real socket: ports, hostile bytes, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from chain.endpoint.environment import is_loopback
from node.errors import InputError, ResourceError
from node.http import create_app, serve_http
from node.http.server import open_listener, own_url
from node.metrics import NodeMetrics

if TYPE_CHECKING:
    from conftest import PlainView

LISTENING = "0A"
"""State TCP_LISTEN of /proc/net/tcp."""


@asynccontextmanager
async def served(view: PlainView, host: str = "127.0.0.1") -> AsyncIterator[int]:
    app = create_app(view, token="7" * 64, metrics=NodeMetrics(), bound_host=host)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            port = await nursery.start(serve_http, app, host, 0)
        yield port
        nursery.cancel_scope.cancel()


async def test_port_zero_is_reported_as_the_real_one(view: PlainView) -> None:
    async with served(view) as port, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/healthz")
        assert answer.status_code == 200
        assert "server" not in answer.headers
        answer = await client.get(f"http://localhost:{port}/v1/status")
        assert answer.json()["network"] == "test"


async def test_nothing_listens_after_the_end(view: PlainView) -> None:
    async with served(view) as port, httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"http://127.0.0.1:{port}/healthz")
    with pytest.raises(OSError, match="failed"):
        await trio.open_tcp_stream("127.0.0.1", port)
    open_listener("127.0.0.1", port).close()


async def test_a_client_that_says_nothing_does_not_hold_the_end_up(view: PlainView) -> None:
    with trio.fail_after(60):
        async with served(view) as port:
            await trio.open_tcp_stream("127.0.0.1", port)


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 9000, b"\r\n\r\n"]
)
async def test_garbage_is_closed_and_the_server_lives(view: PlainView, sent: bytes) -> None:
    async with served(view) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(60):
            await stream.send_all(sent)
            await stream.send_eof()
            async for _chunk in stream:
                pass
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200


async def test_a_taken_port_is_named_with_its_flag(view: PlainView) -> None:
    async with served(view) as port:
        app = create_app(view, token="7" * 64, metrics=NodeMetrics(), bound_host="127.0.0.1")
        with pytest.raises(ResourceError, match=rf"{port}.*--http-port"):
            await serve_http(app, "127.0.0.1", port)


def test_a_host_that_is_none_is_the_users_mistake() -> None:
    with pytest.raises(InputError, match="--http-host no"):
        open_listener("no.such.host.invalid", 0)


def test_a_foreign_address_cannot_be_bound() -> None:
    with pytest.raises(ResourceError, match="check --http-host"):
        open_listener("192.0.2.1", 0)


def listening_inode(port: int) -> str:
    """The inode of the one socket that listens on 127.0.0.1:`port`."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = [row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == LISTENING]
    return inode


def open_files() -> list[str]:
    """What this process has open; some of it is closed while it is looked at."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


async def test_a_child_process_does_not_inherit_the_port(view: PlainView) -> None:
    async with served(view) as port:
        inode = listening_inode(port)
        assert f"socket:[{inode}]" in open_files()
        child = await trio.run_process(
            ["ls", "-l", "/proc/self/fd"], capture_stdout=True, close_fds=False
        )
        assert f"socket:[{inode}]" not in child.stdout.decode()


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "0.0.0.0", "localhost"])
async def test_a_server_is_reached_at_the_url_that_it_gives(view: PlainView, host: str) -> None:
    async with served(view, host) as port:
        url = own_url(host, port)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{url}/healthz")
        assert answer.status_code == 200
        assert is_loopback(httpx.URL(url).host)
