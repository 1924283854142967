"""Becoming known on chain: gas, stake, provider and node registration.

On a development chain the network file names a faucet, which is asked for what is missing, so that
a newcomer's node registers itself. On any other chain the provider must be funded first, and the
error says with what. Everything is idempotent: a restart repeats it and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.errors import NodeError
from node.keystore import NodeKey
from node.networkfile import ChainTable

if TYPE_CHECKING:
    from chain.client import ChainClient

GAS_FLOOR = 10**16
"""Wei under which a node asks the faucet, or complains."""


async def ensure_funds(chain: ChainClient, table: ChainTable, address: str, tokens: int) -> None:
    """Have gas and `tokens` (smallest unit) at `address`.

    Raises `NodeError` saying what lacks, or a `ChainError` where the faucet gives nothing.
    """
    gas = await chain.native_balance(address)
    held = await chain.token_balance(address)
    if gas >= GAS_FLOOR and held >= tokens:
        return
    if table.faucet_url is None:
        raise NodeError(
            f"{address} holds {gas} wei and {held} tokens, and needs {GAS_FLOOR} and {tokens}",
            "send it gas and tokens, then start again",
        )
    from chain.faucet import request_funds

    await request_funds(table.faucet_url.removesuffix("/faucet"), address)


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
