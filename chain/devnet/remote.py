"""Another chain as the backend: any Ethereum-style RPC endpoint, passed on over HTTP.

Used for anvil, which this package starts itself, and for an endpoint that is already there (`geth
--dev`, hardhat, a test network), where one of the operator's accounts pays: its key funds the
faucet.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import trio

from chain.devnet.jsonrpc import METHOD_NOT_FOUND, SERVER_ERROR, Fault
from chain.encoding.hexdata import parse_quantity
from chain.errors import DevnetError
from proofs.encoding.signing import address_of

REQUEST_SECONDS = 30

_PASSED = re.compile(r"(eth|net|web3|evm|anvil)_\w+")


@dataclass(frozen=True)
class RemoteChain:
    """An endpoint, and the 32-byte key of the account that pays for gas and grants there."""

    url: str
    key: bytes = field(repr=False)


class HttpBackend:
    """Passes requests on to the endpoint `url`; `name` is what people call it."""

    def __init__(self, client: httpx.AsyncClient, url: str, name: str) -> None:
        self._client = client
        self.url = url
        self.name = name

    async def request(self, method: str, params: list[object]) -> object:
        """Answer one JSON-RPC method; raises `Fault`."""
        if not _PASSED.fullmatch(method):
            raise Fault(METHOD_NOT_FOUND, f"the development chain does not offer {method}")
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            with trio.fail_after(REQUEST_SECONDS):
                response = await self._client.post(self.url, json=body)
            answer = response.json()
        except (httpx.HTTPError, trio.TooSlowError, ValueError, RecursionError) as exc:
            raise Fault(SERVER_ERROR, f"{self.name} did not answer {method}: {exc!r}") from exc
        if not isinstance(answer, dict):
            raise Fault(SERVER_ERROR, f"{self.name} answered {method} with no JSON-RPC object")
        error = answer.get("error")
        if isinstance(error, dict):
            code, data = error.get("code"), error.get("data")
            raise Fault(
                code if isinstance(code, int) else SERVER_ERROR,
                str(error.get("message", "no reason given"))[:1024],
                data if isinstance(data, str) else None,
            )
        result: object = answer.get("result")
        return result


@asynccontextmanager
async def open_remote(chain: RemoteChain) -> AsyncIterator[tuple[HttpBackend, int]]:
    """The backend and its chain id. Raises DevnetError that says what to do."""
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
        backend = HttpBackend(client, chain.url, chain.url)
        try:
            chain_id = parse_quantity(await backend.request("eth_chainId", []), bits=63)
            payer = address_of(chain.key)
            held = parse_quantity(await backend.request("eth_getBalance", [payer, "latest"]))
        except (Fault, ValueError) as exc:
            raise DevnetError(f"{chain.url}: {exc}; is it an Ethereum JSON-RPC endpoint?") from exc
        if held == 0:
            raise DevnetError(f"{payer} holds nothing on {chain.url}; send it gas money first")
        yield backend, chain_id
