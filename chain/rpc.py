"""Ethereum JSON-RPC over HTTP, for trio.

One `Rpc` speaks to one endpoint through one httpx client. Every call has a deadline. A call that
only reads is tried again, a few times and with growing pauses, when the transport fails; so is
`eth_sendRawTransaction`, because the transaction's hash makes a repeat harmless. Answers are read
up to a size limit and checked field by field before they become values: the endpoint is a stranger
too.

Plain JSON and our own few typed reads instead of web3.py: the calls needed are a dozen, web3's
asynchronous half assumes asyncio in places, and every node would pay for importing it.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import trio

from chain.abi import ErrorAbi, decode_revert
from chain.errors import BadResponse, ChainUnreachable, InvalidInput, Reverted, RpcError
from chain.hexdata import parse_data, parse_quantity, to_data, to_quantity
from chain.jsontext import loads
from chain.records import Block, Log, Receipt, parse_block, parse_log, parse_receipt

DEADLINE_SECONDS = 15.0
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.1
MAX_ANSWER = 16 << 20
MAX_LOGS = 10_000

BlockTag = int | str
T = TypeVar("T")


class Rpc:
    """One JSON-RPC endpoint. Methods raise ChainUnreachable, BadResponse, RpcError, Reverted."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        *,
        errors: Mapping[bytes, ErrorAbi] | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        self.url = url
        self._client = client
        self._errors = errors or {}
        self._deadline = deadline
        self._ids = itertools.count(1)

    # -- reads -------------------------------------------------------------------------------

    async def chain_id(self) -> int:
        """The chain id (EIP-155)."""
        return await self._quantity("eth_chainId", bits=63)

    async def block_number(self) -> int:
        """Number of the head block."""
        return await self._quantity("eth_blockNumber", bits=63)

    async def block(self, tag: BlockTag) -> Block | None:
        """A block's header by number or tag; None when there is no such block."""
        value = await self.request("eth_getBlockByNumber", [_tag(tag), False])
        return None if value is None else self._checked("eth_getBlockByNumber", parse_block, value)

    async def balance(self, address: str) -> int:
        """Balance of an account in wei."""
        return await self._quantity("eth_getBalance", address, "latest")

    async def nonce(self, address: str, tag: BlockTag = "latest") -> int:
        """How many transactions of the account are mined up to block `tag`."""
        return await self._quantity("eth_getTransactionCount", address, _tag(tag), bits=63)

    async def code(self, address: str) -> bytes:
        """Bytecode at an address; empty when there is no contract."""
        value = await self.request("eth_getCode", [address, "latest"])
        return self._checked("eth_getCode", parse_data, value)

    async def tip(self) -> int:
        """The endpoint's suggested priority fee, in wei for each unit of gas."""
        return await self._quantity("eth_maxPriorityFeePerGas")

    async def receipt(self, tx_hash: bytes) -> Receipt | None:
        """The receipt of a mined transaction; None when it is not (or no longer) mined."""
        method = "eth_getTransactionReceipt"
        value = await self.request(method, [to_data(tx_hash)])
        return None if value is None else self._checked(method, parse_receipt, value)

    async def logs(
        self, first: int, last: int, addresses: Sequence[str], topics: Sequence[bytes] = ()
    ) -> list[Log]:
        """Logs of `addresses` in blocks `first` to `last` whose first topic is one of `topics`."""
        query: dict[str, object] = {
            "fromBlock": to_quantity(first),
            "toBlock": to_quantity(last),
            "address": list(addresses),
        }
        if topics:
            query["topics"] = [[to_data(topic) for topic in topics]]
        value = await self.request("eth_getLogs", [query])
        if not isinstance(value, list) or len(value) > MAX_LOGS:
            raise BadResponse(f"{self.url}: eth_getLogs did not return a list of ≤ {MAX_LOGS} logs")
        return [self._checked("eth_getLogs", parse_log, item) for item in value]

    async def call(
        self, to: str, data: bytes, *, sender: str | None = None, tag: BlockTag = "latest"
    ) -> bytes:
        """Run a read-only call; raises Reverted with the decoded error."""
        transaction: dict[str, object] = {"to": to, "data": to_data(data)}
        if sender is not None:
            transaction["from"] = sender
        value = await self.request("eth_call", [transaction, _tag(tag)])
        return self._checked("eth_call", parse_data, value)

    async def estimate_gas(self, sender: str, to: str | None, data: bytes, value: int = 0) -> int:
        """Gas that a transaction would need now; raises Reverted when it would revert."""
        transaction: dict[str, object] = {
            "from": sender,
            "data": to_data(data),
            "value": to_quantity(value),
        }
        if to is not None:
            transaction["to"] = to
        return await self._quantity("eth_estimateGas", transaction, bits=63)

    async def send_raw(self, raw: bytes) -> None:
        """Broadcast a signed transaction; raises RpcError with the pool's refusal."""
        await self.request("eth_sendRawTransaction", [to_data(raw)])

    # -- transport ---------------------------------------------------------------------------

    async def request(self, method: str, params: list[object]) -> object:
        """Call any method that may be repeated; returns its JSON result.

        Raises ChainUnreachable when the deadline or all attempts ran out.
        """
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        reason = f"no answer within {self._deadline:g} s"
        pause = FIRST_PAUSE_SECONDS
        with trio.move_on_after(self._deadline):
            for attempt in range(ATTEMPTS):
                try:
                    return self._result(method, await self._post(body))
                except httpx.TransportError as exc:
                    reason = str(exc) or type(exc).__name__
                if attempt + 1 < ATTEMPTS:
                    await trio.sleep(pause)
                    pause *= 3
        raise ChainUnreachable(self.url, reason)

    async def _post(self, body: dict[str, object]) -> bytes:
        try:
            async with self._client.stream("POST", self.url, json=body) as response:
                content = b""
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        raise BadResponse(f"{self.url} sent more than {MAX_ANSWER} bytes")
                # Endpoints answer JSON-RPC errors with status 200 or 4xx; others are not theirs.
                if response.status_code in (429, 502, 503, 504):
                    raise httpx.ReadError(f"HTTP status {response.status_code}")
                return content
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
            raise ChainUnreachable(self.url, f"not an http(s) URL: {exc}") from exc

    def _result(self, method: str, content: bytes) -> object:
        try:
            answer = loads(content)
        except ValueError as exc:
            raise BadResponse(
                f"{self.url} answered {method} with something else than JSON"
            ) from exc
        if not isinstance(answer, dict) or not ({"result", "error"} & answer.keys()):
            raise BadResponse(f"{self.url} answered {method} with no JSON-RPC object")
        error = answer.get("error")
        if error is None:
            return answer.get("result")
        if not isinstance(error, dict):
            raise BadResponse(f"{self.url} answered {method} with a malformed error")
        data = _revert_data(error.get("data"))
        if data is not None:
            name, args = decode_revert(data, self._errors)
            raise Reverted(name, args, data)
        code = error.get("code")
        message = str(error.get("message"))[:500]
        raise RpcError(method, code if isinstance(code, int) else 0, message)

    async def _quantity(self, method: str, *params: object, bits: int = 256) -> int:
        value = await self.request(method, list(params))
        return self._checked(method, lambda item: parse_quantity(item, bits=bits), value)

    def _checked(self, method: str, parse: Callable[[object], T], value: object) -> T:
        try:
            return parse(value)
        except ValueError as exc:
            raise BadResponse(f"{self.url} answered {method} wrongly: {exc}") from exc


@asynccontextmanager
async def open_rpc(
    url: str,
    *,
    errors: Mapping[bytes, ErrorAbi] | None = None,
    deadline: float = DEADLINE_SECONDS,
) -> AsyncIterator[Rpc]:
    """An `Rpc` with its own HTTP client, closed at the end of the block.

    `errors` are the custom errors to decode reverts with, by selector. Raises InvalidInput for
    anything but an http(s) URL.
    """
    # A proxy from the environment must not come between us and a chain on this machine.
    async with httpx.AsyncClient(timeout=None, trust_env=not _is_local(url)) as client:
        yield Rpc(client, url, errors=errors, deadline=deadline)


def _is_local(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:
        host = None
    if host is None:
        raise InvalidInput(f"{url!r} is no RPC URL; it looks like http://127.0.0.1:8545")
    return host in ("localhost", "127.0.0.1", "::1")


def _tag(tag: BlockTag) -> str:
    return to_quantity(tag) if isinstance(tag, int) else tag


def _revert_data(value: object) -> bytes | None:
    try:
        return parse_data(value)
    except ValueError:
        return None
