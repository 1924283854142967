"""The development chain as an HTTP server on the loopback interface.

`POST /` is JSON-RPC; `GET /faucet` describes the faucet, `POST /faucet {"address"}` asks it for a
first balance and `POST /faucet/token {"address"}` names the ERC-20 it pays. Loopback and addresses
of a private network can be bound: whoever reaches the chain rules it, and gets its money, so it is
not for the internet. Only requests whose Host is a loopback name or the bound address, and whose
body is declared JSON, are served, so that no web page open in a browser can drive the chain. Bodies
are cut off at 1 MiB.

`serve_devnet` runs until cancelled; whoever starts it owns its process. The chain is made for
development: it lives in memory, gives money away and mines at once.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chain.devnet.anvil import find_anvil, run_anvil
from chain.devnet.evm import CHAIN_ID, EvmBackend
from chain.devnet.faucet import ETHER_GRANT, FUNDS, TOKEN_GRANT, Faucet
from chain.devnet.jsonrpc import (
    MAX_BODY,
    Backend,
    Fault,
    answer,
    failure,
    parse_body,
    parse_request,
)
from chain.devnet.remote import RemoteChain, open_remote
from chain.endpoint.environment import is_loopback
from chain.errors import BadResponse, DevnetError, FaucetRefused, InvalidInput, PortInUse
from proofs.encoding.jsontext import parse_json
from proofs.encoding.signing import address_of

BackendChoice = Literal["auto", "anvil", "py-evm"]


@dataclass(frozen=True)
class DevChain:
    """A running development chain, handed out through `task_status`."""

    url: str
    chain_id: int
    backend: str
    faucet_address: str


async def serve_devnet(
    host: str = "127.0.0.1",
    port: int = 8545,
    *,
    backend: BackendChoice = "auto",
    remote: RemoteChain | None = None,
    task_status: trio.TaskStatus[DevChain] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a chain until cancelled; `task_status.started` gets a `DevChain`.

    `port` 0 takes a free one. `backend` "auto" is anvil where found, else the embedded EVM; both
    are fresh. `remote` is a chain that is there already instead. Raises PortInUse, InvalidInput
    when `host` is no loopback or private address, or DevnetError when the backend cannot start.
    """
    from hypercorn.config import Config
    from hypercorn.trio import serve

    with _bind(host, port) as listener:
        bound = listener.getsockname()[1]
        faucet_key = os.urandom(32) if remote is None else remote.key
        async with _backend(backend, remote, address_of(faucet_key)) as (chain, chain_id):
            faucet = Faucet(chain, chain_id, faucet_key)
            config = Config()
            config.bind = [f"fd://{listener.detach()}"]  # hypercorn closes it from here on
            config.errorlog = config.accesslog = None
            config.graceful_timeout = 1
            shown = f"[{host}]" if ":" in host else host
            running = DevChain(f"http://{shown}:{bound}", chain_id, chain.name, faucet.address)
            async with trio.open_nursery() as nursery:
                await nursery.start(serve, make_app(chain, faucet, host), config)
                task_status.started(running)


def make_app(backend: Backend, faucet: Faucet, host: str = "127.0.0.1") -> Starlette:
    """The ASGI application over one chain and its faucet, served at `host`."""
    endpoints = _Endpoints(backend, faucet, host)
    return Starlette(
        routes=[
            Route("/", endpoints.rpc, methods=["POST"]),
            Route("/faucet", endpoints.describe_faucet, methods=["GET"]),
            Route("/faucet", endpoints.grant, methods=["POST"]),
            Route("/faucet/token", endpoints.register_token, methods=["POST"]),
        ]
    )


class _Endpoints:
    def __init__(self, backend: Backend, faucet: Faucet, host: str) -> None:
        self._backend = backend
        self._faucet = faucet
        self._host = host

    async def rpc(self, request: HttpRequest) -> Response:
        body = await _read_json_body(request, self._host)
        try:
            batch, items = parse_body(body)
        except Fault as fault:
            return JSONResponse(failure(None, fault), status_code=400)
        answers = [reply for item in items if (reply := await self._one(item)) is not None]
        if not answers:
            return Response(status_code=204)
        return JSONResponse(answers if batch else answers[0])

    async def _one(self, item: object) -> dict[str, object] | None:
        try:
            request = parse_request(item)
        except Fault as fault:
            return failure(None, fault)
        try:
            reply = answer(request.id, await self._backend.request(request.method, request.params))
        except Fault as fault:
            reply = failure(request.id, fault)
        return reply if request.id is not None else None

    async def describe_faucet(self, request: HttpRequest) -> Response:
        _check_host(request, self._host)
        return JSONResponse(
            {
                "address": self._faucet.address,
                "wei": str(ETHER_GRANT),
                "tokens": str(TOKEN_GRANT),
                "token": self._faucet.token,
            }
        )

    async def grant(self, request: HttpRequest) -> Response:
        address = _address_field(await _read_json_body(request, self._host))
        try:
            return JSONResponse(await self._faucet.grant(address))
        except (FaucetRefused, BadResponse, Fault) as exc:
            return JSONResponse({"error": str(exc)}, status_code=429)

    async def register_token(self, request: HttpRequest) -> Response:
        address = _address_field(await _read_json_body(request, self._host))
        try:
            return JSONResponse({"token": await self._faucet.register_token(address)})
        except (FaucetRefused, BadResponse, Fault) as exc:
            return JSONResponse({"error": str(exc)}, status_code=409)


def _check_host(request: HttpRequest, host: str) -> None:
    given = request.headers.get("host", "")
    name, _, port = given.rpartition(":")
    name = (name if name and port.isdigit() else given).strip("[]")
    if name != host and not is_loopback(name):
        raise HTTPException(403, f"this chain is served as {host}, and to localhost")


async def _read_json_body(request: HttpRequest, host: str) -> bytes:
    """The body, once host, type and size are found right; raises HTTPException."""
    _check_host(request, host)
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise HTTPException(415, "send application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"a request holds at most {MAX_BODY} bytes")
    return body


def _address_field(body: bytes) -> object:
    try:
        value = parse_json(body)
    except ValueError as exc:
        raise HTTPException(400, "the body is not JSON") from exc
    return value.get("address") if isinstance(value, dict) else None


def _bind(host: str, port: int) -> socket.socket:
    if not _is_for_us(host):
        raise InvalidInput(
            f"--host {host}: the development chain, which gives money to whoever asks, takes this "
            "machine's address in a private network, like 192.168.1.10, or 127.0.0.1; over the "
            "internet use a tunnel (docs/two-machines.md)"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRNOTAVAIL:
            raise InvalidInput(f"--host {host}: this machine has no such address") from exc
        raise PortInUse(host, port) from exc
    return listener


def _is_for_us(host: str) -> bool:
    """Whether only this machine and those near it can reach the address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_private and not (address.is_unspecified or address.is_link_local)


@asynccontextmanager
async def _backend(
    choice: BackendChoice, remote: RemoteChain | None, faucet: str
) -> AsyncIterator[tuple[Backend, int]]:
    """The chosen backend and its chain id."""
    if remote is not None:
        async with open_remote(remote) as opened:
            yield opened
        return
    executable = find_anvil() if choice != "py-evm" else None
    if executable is not None:
        async with run_anvil(executable, CHAIN_ID, faucet, FUNDS) as anvil:
            yield anvil, CHAIN_ID
    elif choice == "anvil":
        raise DevnetError("anvil was not found; install Foundry, or set ANVIL to its path")
    else:
        yield await EvmBackend.start(faucet, FUNDS), CHAIN_ID
