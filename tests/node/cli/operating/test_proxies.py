"""A node on this machine is asked directly, whatever proxy the environment names."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chain.endpoint.environment import is_here
from node.cli.operating.api_client import ApiClient

VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


class Server(ThreadingHTTPServer):
    """Remembers who asked for what; answers with its own name."""

    address_family = socket.AF_INET6
    seen: list[tuple[str, str | None]]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.seen.append((self.path, self.headers["Authorization"]))
        body = json.dumps({"asked": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """A node and a proxy, both on IPv4 and IPv6."""
    made = []
    for _ in range(2):
        server = Server(("::", 0), Handler)
        server.seen = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        made.append(server)
    yield made[0], made[1]
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "[::1]", "0.0.0.0"])
def test_no_proxy_hears_the_token(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    node, proxy = servers
    for name in VARIABLES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with ApiClient(f"http://{host}:{node.server_port}", "secret") as client:
        assert client.get("/v1/status") == {"asked": "/v1/status"}
    assert node.seen == [("/v1/status", "Bearer secret")]
    assert proxy.seen == []


def test_other_hosts_are_reached_as_the_environment_says(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, proxy = servers
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
    with ApiClient("http://node.example:7070") as client:
        client.get("/v1/status")
    assert proxy.seen == [("http://node.example:7070/v1/status", None)]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SSL_CERT_FILE", "/nowhere.pem"), ("HTTP_PROXY", "what:ever"), ("ALL_PROXY", "socks5://x:1")],
)
def test_an_environment_that_cannot_be_used_is_named(
    cli: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    shown = cli("status", "--url", "https://node.example:7070")
    assert shown.code == 3
    assert "SSL_CERT_FILE" in shown.err
    assert "cannot be used for node.example" in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://::1:7070", "http://x:99999", "7070", "http:///"]
)
def test_what_is_no_url_is_said_to_be_none(cli: Any, tmp_path: Path, url: str) -> None:
    shown = cli("status", "--url", url, "--data-dir", tmp_path)
    assert (shown.code, shown.err) == (
        3,
        f"error: --url {url}: not a URL (like http://127.0.0.1:7070)\n",
    )


def test_what_is_here() -> None:
    assert all(map(is_here, ["::ffff:127.0.0.1", "::", "localhost.", "LOCALHOST", "::1%lo"]))
    assert not any(map(is_here, ["10.0.0.1", "localhost.example", "::2", "", "128.0.0.1"]))


@pytest.mark.parametrize("token", ["se\ncret", "sécret", "se\tcret"])
def test_a_token_that_is_none_is_not_shown(
    cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "Hi"}\n')
    monkeypatch.setenv("PRIME_NODE_TOKEN", token)
    shown = cli("submit", str(file), "--url", "http://127.0.0.1:1")
    assert (shown.code, shown.out) == (3, "")
    assert shown.err.startswith("error: PRIME_NODE_TOKEN is no token")
    assert "cret" not in shown.err
