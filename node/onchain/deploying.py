"""Putting a network's contracts on any chain, looking at what is there, and naming validators.

For a chain that this machine does not run; a development chain of its own is
node/onchain/devchain.py's. What the deployer sent is kept beside the network file, in a database
for each chain and key, so a deployment that was interrupted continues where it stopped when the
command is given again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chain.deployment.deploying import deploy
from chain.deployment.deployment import Deployment
from chain.deployment.presets import changed, check_chain, find_preset
from chain.deployment.verification import Check, check_deployment
from chain.encoding.artifacts import error_table
from chain.endpoint.rpc import open_rpc
from chain.transactions.account import open_account
from chain.transactions.machine import Rules
from chain.transactions.sender import SenderSettings
from node.config.keystore import Ask, KeyFileError, NodeKey, load_key, parse_key
from node.config.networkfile import ChainTable, NetworkFile
from node.errors import InputError
from node.onchain.amounts import gas as gas_text
from node.onchain.amounts import tokens as tokens_text
from node.onchain.devchain import FUNDER_VARIABLE, deployer_key_path, grant_validators

Say = Callable[[str], None]


@dataclass(frozen=True)
class DeploymentPlan:
    """What to deploy where. `changes` replace single parameters of the preset."""

    rpc_url: str
    preset: str
    changes: Mapping[str, Any]


def payer_key(key_file: Path | None, ask: Ask) -> NodeKey:
    """The key that pays: from a key file, else from the environment variable
    PRIME_NODE_FUNDER_KEY. Raises `KeyFileError`, and `InputError` where there is neither."""
    if key_file is not None:
        return load_key(key_file, ask=ask)
    text = os.environ.get(FUNDER_VARIABLE)
    if text is None:
        raise InputError("no key to pay with", f"--key-file, or 64 hex digits in {FUNDER_VARIABLE}")
    try:
        return parse_key(text)
    except KeyFileError as exc:
        raise InputError(f"{FUNDER_VARIABLE}: {exc.message}", exc.hint) from exc


def database_path(network_file: Path, chain_id: int, deployer: str) -> Path:
    """Where a deployer's transactions on one chain are kept."""
    return network_file.with_name(
        f"{network_file.name}.deploy-{chain_id}-{deployer[2:10].lower()}.sqlite"
    )


async def deploy_network(
    network_file: Path, plan: DeploymentPlan, key: NodeKey, say: Say
) -> ChainTable:
    """Deploy, verify, and write the chain's table; `say` is told of every step.

    Resumes what an earlier call with the same arguments left. The network file's other tables stay,
    but for the pool of another deployment. Raises `InputError` and `chain.errors`' types.
    """
    known = NetworkFile.load_or_new(network_file)
    preset = find_preset(plan.preset)
    params = changed(preset, plan.changes)
    async with open_rpc(plan.rpc_url) as rpc:
        chain_id = await rpc.chain_id()
        check_chain(preset, params, chain_id)
        if await rpc.balance(key.address) == 0:
            raise InputError(
                f"{key.address} holds nothing on chain {chain_id}", "send it gas money first"
            )
    database = database_path(network_file, chain_id, key.address)
    settings = SenderSettings(poll=preset.poll, rules=Rules(confirmations=preset.confirmations))
    say(f"deploying from {key.address} to chain {chain_id}; {database} remembers how far")
    async with open_account(plan.rpc_url, key.secret, database, settings=settings) as account:
        deployment = await deploy(account.rpc, account.manager, params, progress=say)
    table = ChainTable(
        rpc_url=plan.rpc_url,
        chain_id=chain_id,
        default_domain=deployment.default_domain,
        block=deployment.block,
        contracts=deployment.addresses,
    )
    same = known.chain is not None and known.chain.contracts == table.contracts
    known.updated(chain=table, pool=known.pool if same else None).save(network_file)
    return table


async def check_network(network_file: Path) -> list[Check]:
    """Compare what a network file names with what its chain holds."""
    table = _chain_of(network_file)
    deployment = Deployment.from_dict(table.deployment())
    async with open_rpc(table.rpc_url, errors=error_table()) as rpc:
        return await check_deployment(rpc, deployment)


async def fund_address(network_file: Path, address: str) -> str:
    """What the faucet of a network file's chain paid, in words. Raises `InputError` where it has
    none, and `chain.errors`' types."""
    from chain.endpoint.faucet import request_funds

    table = _chain_of(network_file)
    if table.faucet_url is None:
        raise InputError(
            f"{network_file}: its chain has no faucet", f"send gas money and tokens to {address}"
        )
    grant = await request_funds(table.faucet_url.removesuffix("/faucet"), address)
    if not (grant.wei or grant.tokens):
        return "nothing, it has enough"
    return f"{gas_text(grant.wei)} and {tokens_text(grant.tokens)}"


async def grant_validator(
    network_file: Path, address: str, key_file: Path | None, ask: Ask
) -> None:
    """Admit a validator on the chain of a network file.

    The federator's key is in `key_file`, else that of the development chain running there, else the
    environment's as for `payer_key`.
    """
    table = _chain_of(network_file)
    deployer = deployer_key_path(network_file)
    if key_file is None and deployer.exists():
        key_file = deployer
    federator = payer_key(key_file, ask)
    deployment = Deployment.from_dict(table.deployment())
    await grant_validators(table.rpc_url, deployment, federator, [address])


def _chain_of(network_file: Path) -> ChainTable:
    table = NetworkFile.load(network_file).chain
    if table is None:
        raise InputError(
            f"{network_file}: names no chain", "prime-node chain dev or chain deploy writes it"
        )
    return table
