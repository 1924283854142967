"""Becoming known on chain: gas, stake, provider and node registration.

On a development chain the network file names a faucet, which is asked for what is missing, so that
a newcomer's node registers itself. On any other chain the provider must be funded first, and the
error says with what. Everything is idempotent: a restart repeats it and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from node.errors import NodeError, UnreachableError
from node.keystore import NodeKey
from node.networkfile import ChainTable

if TYPE_CHECKING:
    from chain.client import ChainClient

GAS_FLOOR = 10**16
"""Wei under which a node asks the faucet, or complains."""
FAUCET_SECONDS = 60.0


async def ensure_funds(chain: ChainClient, table: ChainTable, address: str, tokens: int) -> None:
    """Have gas and `tokens` (smallest unit) at `address`. Raises `NodeError` saying what lacks."""
    gas = await chain.native_balance(address)
    held = await chain.token_balance(address)
    if gas >= GAS_FLOOR and held >= tokens:
        return
    if table.faucet_url is None:
        raise NodeError(
            f"{address} holds {gas} wei and {held} tokens, and needs {GAS_FLOOR} and {tokens}",
            "send it gas and tokens, then start again",
        )
    await ask_faucet(table.faucet_url, address)


async def ask_faucet(url: str, address: str) -> None:
    """Ask a development chain's faucet. Raises `UnreachableError`."""
    try:
        async with httpx.AsyncClient(timeout=FAUCET_SECONDS, trust_env=False) as client:
            answer = await client.post(url, json={"address": address})
            answer.raise_for_status()
    except httpx.HTTPError as exc:
        raise UnreachableError(
            f"faucet {url}: {exc or type(exc).__name__}", "is `prime-node chain dev` running?"
        ) from exc


async def register_worker(
    chain: ChainClient, table: ChainTable, provider: NodeKey, node: NodeKey, compute_units: int
) -> None:
    """Stake for and register a worker's node under its provider."""
    stake = await chain.minimum_stake(compute_units)
    await ensure_funds(chain, table, node.address, 0)
    known = await chain.node(node.address)
    if known is not None and known.provider == provider.address:
        return
    await ensure_funds(chain, table, provider.address, stake)
    await chain.ensure_registered(provider.secret, node.secret, stake, compute_units)
