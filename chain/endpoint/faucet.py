"""Asking a development chain's faucet for an initial balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import trio

from chain.encoding.hexdata import parse_address
from chain.errors import BadResponse, ChainUnreachable, FaucetRefused
from proofs.encoding.jsontext import parse_json

DEADLINE_SECONDS = 120.0
"""Grants are paid one after another, and many nodes ask when a network begins."""
MAX_ANSWER = 64 << 10


@dataclass(frozen=True)
class FaucetGrant:
    """What the faucet paid: wei, and token units of 1e-18; 0 where the address had enough."""

    wei: int
    tokens: int


async def request_funds(rpc_url: str, address: str) -> FaucetGrant:
    """Ask the development chain at `rpc_url` to top `address` up; harmless to repeat.

    Raises FaucetRefused when its grants are used up or the chain has no faucet, ChainUnreachable.
    """
    answer = await _faucet(rpc_url, "POST", "/faucet", {"address": address})
    try:
        return FaucetGrant(int(answer["wei"]), int(answer["tokens"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise BadResponse(f"{rpc_url}/faucet answered with something unexpected") from exc


async def faucet_address(rpc_url: str) -> str:
    """The account that the faucet pays from; raises as `request_funds`."""
    answer = await _faucet(rpc_url, "GET", "/faucet", None)
    try:
        return parse_address(answer.get("address"))
    except ValueError as exc:
        raise BadResponse(f"{rpc_url}/faucet answered with something unexpected") from exc


async def register_token(rpc_url: str, token: str) -> None:
    """Tell the faucet which ERC-20 to pay, after transferring some to it; raises likewise."""
    await _faucet(rpc_url, "POST", "/faucet/token", {"address": token})


async def _faucet(
    rpc_url: str, method: str, path: str, body: dict[str, str] | None
) -> dict[str, Any]:
    url = rpc_url.rstrip("/") + path
    try:
        with trio.fail_after(DEADLINE_SECONDS):
            async with (
                httpx.AsyncClient(timeout=None, trust_env=False) as client,
                client.stream(method, url, json=body) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        raise BadResponse(f"{url} sent more than {MAX_ANSWER} bytes")
        answer = parse_json(bytes(content))
    except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError) as exc:
        raise ChainUnreachable(url, str(exc) or type(exc).__name__) from exc
    except ValueError as exc:
        raise FaucetRefused(f"{url} is no faucet; only development chains have one") from exc
    if not isinstance(answer, dict):
        raise BadResponse(f"{url} answered with something unexpected")
    if response.status_code != 200:
        raise FaucetRefused(str(answer.get("error", f"HTTP status {response.status_code}"))[:500])
    return answer
