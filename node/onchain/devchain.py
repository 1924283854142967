"""A development chain ready for a network: served, contracts deployed, faucet filled.

`run_dev_chain` starts `chain.devnet`, deploys every contract from a fresh key, gives the faucet a
stock of tokens to hand out, and grants the validator role to whom it is told. The chain lives in
memory and so do its keys: each start is a new chain, at new addresses only if the contracts
changed, and the deployer's key is written beside the network file (mode 0600) so that `prime-node
chain grant` can use it while this chain runs. None of it is worth anything.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import trio

from node.config.keystore import KeyFileError, NodeKey, generate_key, parse_key, save_key
from node.config.networkfile import ChainTable, NetworkFile
from node.errors import InputError

if TYPE_CHECKING:
    from chain.deployment.deployment import Deployment
    from chain.devnet.remote import RemoteChain

FUNDER_VARIABLE = "PRIME_NODE_FUNDER_KEY"
"""The environment variable with the key that pays on a chain given by URL."""
MEMORY = ":memory:"
"""Where the deployer's transactions are kept: nowhere, since the chain does not last either."""
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class DevNetwork:
    """A running development chain. `backend` is "anvil" or "py-evm"."""

    table: ChainTable
    backend: str
    deployer: str


def deployer_key_path(network_file: Path) -> Path:
    """Where the deployer's key of a development chain lies."""
    return network_file.with_name(network_file.name + ".deployer.key")


async def run_dev_chain(
    network_file: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8545,
    backend: Literal["auto", "anvil", "py-evm"] = "auto",
    validators: Sequence[str] = (),
    rpc_url: str = "",
    task_status: trio.TaskStatus[DevNetwork] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `started` once the network file names the chain and its contracts.

    Replaces the chain and pool tables of the file and keeps the rest. With `rpc_url` the chain is
    that one, and the key in the environment variable `PRIME_NODE_FUNDER_KEY` pays on it. Raises
    `chain.errors`' types and `InputError`.
    """
    from chain.devnet.bootstrap import deploy_on_devnet
    from chain.devnet.server import serve_devnet
    from chain.transactions.sender import SenderSettings

    known = NetworkFile.load_or_new(network_file)
    async with trio.open_nursery() as nursery:
        chain = await nursery.start(
            lambda *, task_status: serve_devnet(
                host, port, backend=backend, remote=_remote(rpc_url), task_status=task_status
            )
        )
        deployer = generate_key()
        deployment = await deploy_on_devnet(
            chain.url, deployer.secret, MEMORY, settings=SenderSettings(poll=POLL_SECONDS)
        )
        await grant_validators(chain.url, deployment, deployer, validators)
        table = ChainTable(
            rpc_url=chain.url,
            chain_id=deployment.chain_id,
            faucet_url=f"{chain.url}/faucet",
            default_domain=deployment.default_domain,
            block=deployment.block,
            contracts=deployment.addresses,
        )
        path = deployer_key_path(network_file)
        path.unlink(missing_ok=True)
        known.updated(chain=table, pool=None).save(network_file)
        save_key(path, deployer)
        try:
            task_status.started(DevNetwork(table, chain.backend, deployer.address))
            await trio.sleep_forever()
        finally:
            path.unlink(missing_ok=True)


def _remote(rpc_url: str) -> RemoteChain | None:
    """The chain to use instead of a fresh one, None where none was asked for."""
    if not rpc_url:
        return None
    from chain.devnet.remote import RemoteChain

    try:
        key = parse_key(os.environ.get(FUNDER_VARIABLE, ""))
    except KeyFileError as exc:
        raise InputError(
            f"--rpc-url needs the key of an account with gas money in {FUNDER_VARIABLE}",
            "64 hex digits; a key is never given as a flag",
        ) from exc
    return RemoteChain(rpc_url, key.secret)


async def grant_validators(
    url: str, deployment: Deployment, federator: NodeKey, validators: Sequence[str]
) -> None:
    """Admit validators; who was admitted the chain shows, so nothing is remembered here."""
    from chain.client import open_chain
    from chain.transactions.sender import SenderSettings

    settings = SenderSettings(poll=POLL_SECONDS)
    async with open_chain(url, deployment, federator.secret, MEMORY, settings=settings) as chain:
        for validator in validators:
            await chain.validators.grant(validator)
