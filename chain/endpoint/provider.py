"""JSON-RPC over HTTP for web3, on httpx, so that web3 runs under trio.

web3's own HTTP provider is built on aiohttp and asyncio. This one does what every call here needs:
a deadline; a few attempts with growing pauses when the transport fails (all calls that this package
makes may be repeated: they read, or they broadcast a transaction whose hash makes a repeat
harmless); quiet when the endpoint asks for it (`chain.endpoint.pacing`); and an answer that is
bounded in size and depth and has the shape of JSON-RPC before web3 sees it.

Errors are raised here, typed, and not by web3. Its error formatters decode revert data without
guarding against bad input (an unknown panic code is a KeyError), and would follow an
`OffchainLookup` revert, that is, fetch a URL that a stranger's contract names; so that is switched
off too. Only "no such method" is passed on to web3, which has a second way of asking for a tip.

web3 formats results without checking them: the string "42" becomes 66, and null, a number or a list
passes as it is. Methods that return one hexadecimal string are therefore checked here; `Rpc` checks
the types and ranges of what web3 makes of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx
import trio
from eth_typing import ABIError
from eth_utils import is_0x_prefixed, is_hex
from web3.providers.async_base import AsyncJSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from chain.encoding.codec import decode_revert
from chain.encoding.hexdata import parse_data
from chain.encoding.records import MAX_DATA
from chain.endpoint.pacing import Pacing, retry_after
from chain.errors import BadResponse, ChainUnreachable, Reverted, RpcError
from proofs.encoding.jsontext import parse_json

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.1
MAX_ANSWER = 16 << 20
METHOD_NOT_FOUND = -32601
TOO_MANY = 429
LIMIT_EXCEEDED = -32005
"""Too many requests, as endpoints say it within an answer; of logs also: too many results."""

_HEX_RESULTS = frozenset(
    {
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_estimateGas",
        "eth_getBalance",
        "eth_getCode",
        "eth_getTransactionCount",
        "eth_maxPriorityFeePerGas",
        "eth_sendRawTransaction",
    }
)


class _TooMany(Exception):
    """The endpoint refused, and `told` for how many seconds, where it did."""

    def __init__(self, told: float | None = None) -> None:
        super().__init__("it refuses so many requests (HTTP 429)")
        self.told = told


class HttpProvider(AsyncJSONBaseProvider):
    """One endpoint. `make_request` raises ChainUnreachable, BadResponse, RpcError and Reverted.

    `trouble` says why the newest request had no answer; "" where it had one.
    """

    global_ccip_read_enabled = False

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        errors: Mapping[bytes, ABIError],
        deadline: float,
        pacing: Pacing | None = None,
    ) -> None:
        super().__init__()
        self.url = url
        self.trouble = ""
        self._pacing = pacing or Pacing()
        self._client = client
        self._errors = errors
        self._deadline = deadline

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answer one call of web3's."""
        body = self.encode_rpc_request(method, params)
        reason = f"no answer within {self._deadline:g} s"
        pause = FIRST_PAUSE_SECONDS
        with trio.move_on_after(self._deadline) as scope:
            for attempt in range(ATTEMPTS):
                quiet = self._pacing.wait(trio.current_time())
                if quiet >= scope.deadline - trio.current_time():
                    reason = f"it refuses so many requests (HTTP 429); asked again in {quiet:.0f} s"
                    break
                await trio.sleep(quiet)
                try:
                    answer = self._answer(method, await self._post(body))
                except _TooMany as exc:
                    self._pacing.refused(trio.current_time(), exc.told)
                    reason = str(exc)
                    continue
                except httpx.TransportError as exc:
                    reason = str(exc) or type(exc).__name__
                else:
                    self._pacing.answered(trio.current_time())
                    return answer
                if attempt + 1 < ATTEMPTS:
                    await trio.sleep(pause)
                    pause *= 3
        self.trouble = reason
        raise ChainUnreachable(self.url, reason)

    async def _post(self, body: bytes) -> bytes:
        headers = {"content-type": "application/json"}
        try:
            async with self._client.stream(
                "POST", self.url, content=body, headers=headers
            ) as response:
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        raise BadResponse(f"{self.url} sent more than {MAX_ANSWER} bytes")
                # Endpoints answer JSON-RPC errors with status 200 or 4xx; others are not theirs.
                told = retry_after(response.headers, time.time())
                if response.status_code == TOO_MANY or (
                    response.status_code == 503 and told is not None
                ):
                    raise _TooMany(told)
                if response.status_code in (502, 503, 504):
                    raise httpx.ReadError(f"HTTP status {response.status_code}")
                return bytes(content)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
            raise ChainUnreachable(self.url, f"not an http(s) URL: {exc}") from exc

    def _answer(self, method: str, content: bytes) -> RPCResponse:
        try:
            answer = parse_json(content)
        except ValueError as exc:
            self.trouble = "it answered with something else than JSON"
            raise BadResponse(
                f"{self.url} answered {method} with something else than JSON"
            ) from exc
        self.trouble = ""
        if not isinstance(answer, dict) or not ({"result", "error"} & answer.keys()):
            raise BadResponse(f"{self.url} answered {method} with no JSON-RPC object")
        if answer.get("error") is not None:
            return self._error(method, answer["error"])
        result = answer.get("result")
        if method in _HEX_RESULTS and not _is_hex(result):
            raise BadResponse(f"{self.url} answered {method} with {repr(result)[:80]}, not hex")
        return {"jsonrpc": "2.0", "id": 1, "result": result}

    def _error(self, method: str, error: object) -> RPCResponse:
        if not isinstance(error, dict):
            raise BadResponse(f"{self.url} answered {method} with a malformed error")
        data = _revert_data(error.get("data"))
        if data is not None:
            name, args = decode_revert(data, self._errors)
            raise Reverted(name, args, data)
        code = error.get("code")
        if code == TOO_MANY or (code == LIMIT_EXCEEDED and method != "eth_getLogs"):
            raise _TooMany
        message = str(error.get("message"))[:500]
        if code != METHOD_NOT_FOUND:
            raise RpcError(method, code if isinstance(code, int) else 0, message)
        return {
            "jsonrpc": "2.0",
            "id": 1,
            "error": {"code": METHOD_NOT_FOUND, "message": f"no such method: {message}"},
        }


def _is_hex(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= 2 + 2 * MAX_DATA
        and is_0x_prefixed(value)
        and is_hex(value)
    )


def _revert_data(value: object) -> bytes | None:
    try:
        return parse_data(value)
    except ValueError:
        return None
