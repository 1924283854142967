"""Becoming known on chain: gas, stake, provider and node registration.

A provider's key may lie in the node's data folder or elsewhere; the node itself only needs to know
its provider's address. Where the key is elsewhere, the node signs its consent
(`node.onchain.consent`) and the provider registers it from there, once.

On a development chain the network file names a faucet, which is asked for what is missing, so that
a newcomer's node registers itself. On any other chain the provider must be funded first, and the
error says with what. Everything is idempotent: a restart repeats it and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from node.config.datadir import DataDir
from node.config.keystore import PASSPHRASE_VARIABLE, NodeKey, load_key, look_at_key
from node.config.networkfile import ChainTable
from node.errors import InputError, NodeError
from node.onchain.amounts import gas as gas_text
from node.onchain.amounts import tokens as tokens_text

if TYPE_CHECKING:
    from chain.client import ChainClient

GAS_FLOOR = 10**16
"""Wei under which a node asks the faucet, or complains."""


@dataclass(frozen=True)
class Provider:
    """Whose node this is. `key` is None where its secret is not here, or here but encrypted."""

    address: str
    key: NodeKey | None
    data_dir: Path


def provider_address(data: DataDir, named: str | None) -> str | None:
    """The address in the folder's `provider.key`, else the `provider` setting; nothing is opened
    that names its address. Raises `InputError` where the two disagree.
    """
    if not data.provider_key.exists():
        return named
    address = look_at_key(data.provider_key).address or load_key(data.provider_key).address
    if named not in (None, address):
        raise InputError(
            f"{data.provider_key} is {address}, but the provider setting is {named}",
            "remove one of the two",
        )
    return address


def find_provider(
    data: DataDir, named: str | None, environment: Mapping[str, str] | None = None
) -> Provider | None:
    """The provider of a data folder, None where nothing says whose it is.

    An encrypted key is opened only with PRIME_NODE_PASSPHRASE. Raises `InputError`.
    """
    address = provider_address(data, named)
    if address is None:
        return None
    variables = os.environ if environment is None else environment
    key = None
    if data.provider_key.exists() and (
        not look_at_key(data.provider_key).encrypted or PASSPHRASE_VARIABLE in variables
    ):
        key = load_key(data.provider_key, environment=variables)
    return Provider(address, key, data.path)


async def ensure_funds(
    chain: ChainClient, table: ChainTable, address: str, tokens: int, gas: int = GAS_FLOOR
) -> None:
    """Have `gas` wei and `tokens` (smallest unit) at `address`.

    Raises `NodeError` saying what lacks, or a `ChainError` where the faucet gives nothing.
    """
    lacks = await _lacking(chain, address, tokens, gas)
    if lacks and table.faucet_url is not None:
        from chain.endpoint.faucet import request_funds

        await request_funds(table.faucet_url.removesuffix("/faucet"), address)
        lacks = await _lacking(chain, address, tokens, gas)
    if lacks:
        raise NodeError(f"{address} {lacks}", "send it what lacks, then try again")


async def _lacking(chain: ChainClient, address: str, tokens: int, gas: int) -> str:
    """What lacks, in words; empty where nothing does."""
    has_gas = await chain.native_balance(address)
    held = await chain.token_balance(address)
    lacks = []
    if has_gas < gas:
        lacks.append(f"has {gas_text(has_gas)} for gas and needs {gas_text(gas)}")
    if held < tokens:
        lacks.append(f"holds {tokens_text(held)} and needs {tokens_text(tokens)}")
    return ", and ".join(lacks)


async def stake_for(chain: ChainClient, provider: str, compute_units: int) -> int:
    """Stake that `provider` needs for its present nodes and one more of `compute_units`."""
    return await chain.providers.minimum_stake(
        await chain.providers.compute_units_of(provider) + compute_units
    )


async def register_worker(
    chain: ChainClient,
    table: ChainTable,
    provider: Provider,
    node: NodeKey,
    compute_units: int,
    least_stake: int = 0,
) -> None:
    """Stake for and register a node under its provider, or see that somebody has.

    The provider stakes what its nodes need, and at least `least_stake`, where its key is here.
    Raises `NodeError` naming the commands that register it where the key is not.
    """
    await ensure_funds(chain, table, node.address, 0)
    record = await chain.nodes.find(node.address)
    registered = record is not None and record.provider == provider.address
    if provider.key is None:
        if not registered:
            raise _unregistered(provider, node.address, record.provider if record else None)
        return
    held = await chain.providers.stake_of(provider.address)
    if registered and held >= least_stake:
        return
    needed = 0 if registered else await stake_for(chain, provider.address, compute_units)
    stake = max(needed, least_stake)
    await ensure_funds(chain, table, provider.address, max(0, stake - held))
    await chain.ensure_registered(provider.key.secret, node.secret, stake, compute_units)


def _unregistered(provider: Provider, node: str, other: str | None) -> NodeError:
    folder = provider.data_dir
    if other is not None:
        return InputError(
            f"node {node} is registered under provider {other}, not under {provider.address}",
            f"run it with --provider {other}, or with another node key",
        )
    if (folder / "provider.key").exists():
        hint = f"prime-node stake register-node --data-dir {folder}"
    else:
        hint = (
            f"prime-node wallet consent --data-dir {folder} --provider {provider.address}; then, "
            "where the provider's key lies: prime-node stake register-node CONSENT"
        )
    return InputError(f"node {node} is not registered under provider {provider.address}", hint)
