"""A development chain ready for a network: served, contracts deployed, faucet filled.

`run_dev_chain` starts `chain.devnet`, deploys every contract from a fresh key, gives the faucet a
stock of tokens to hand out, and grants the validator role to whom it is told. The chain lives in
memory and so do its keys: each start is a new chain, at new addresses only if the contracts
changed, and the deployer's key is written beside the network file (mode 0600) so that `prime-node
chain grant` can use it while this chain runs. None of it is worth anything.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx
import trio

from node.errors import InputError, NodeError, UnreachableError
from node.keystore import KeyFileError, NodeKey, generate_key, load_key, save_key
from node.networkfile import ChainTable, NetworkFile

FUNDER_VARIABLE = "PRIME_NODE_FUNDER_KEY"

if TYPE_CHECKING:
    from chain.deployment import Deployment
    from chain.devnet.remote import RemoteChain
    from chain.rpc import Rpc
    from chain.transactions.manager import TransactionManager

FAUCET_TOKENS = 100_000_000 * 10**18
"""What the faucet is stocked with, in the token's smallest unit."""
REQUEST_SECONDS = 60.0


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
    from chain.deployment import deploy
    from chain.devnet.server import serve_devnet

    known = NetworkFile.load_or_new(network_file)
    async with trio.open_nursery() as nursery:
        chain = await nursery.start(
            lambda *, task_status: serve_devnet(
                host, port, backend=backend, remote=_remote(rpc_url), task_status=task_status
            )
        )
        faucet_url = f"{chain.url}/faucet"
        deployer = generate_key()
        await _post(faucet_url, deployer.address)
        async with _sender(chain.url, deployer) as (rpc, manager):
            deployment = await deploy(rpc, manager)
            await _stock_faucet(manager, deployment, faucet_url, chain.faucet_address)
            for validator in validators:
                await _grant(manager, deployment.address("PrimeNetwork"), validator)
        table = ChainTable(
            rpc_url=chain.url,
            chain_id=deployment.chain_id,
            faucet_url=faucet_url,
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
        key = NodeKey(bytes.fromhex(os.environ.get(FUNDER_VARIABLE, "").removeprefix("0x")))
    except (ValueError, KeyFileError) as exc:
        raise InputError(
            f"--rpc-url needs the key of an account with gas money in {FUNDER_VARIABLE}",
            "64 hex digits; a key is never given as a flag",
        ) from exc
    return RemoteChain(rpc_url, key.secret)


async def grant_validator(network_file: Path, address: str) -> None:
    """Give the validator role on the running development chain of a network file."""
    table = NetworkFile.load(network_file).chain
    if table is None:
        raise InputError(f"{network_file}: names no chain", "prime-node chain dev writes it")
    key = load_key(deployer_key_path(network_file))
    async with _sender(table.rpc_url, key) as (_rpc, manager):
        await _grant(manager, table.contracts["PrimeNetwork"], address)


@asynccontextmanager
async def _sender(url: str, key: NodeKey) -> AsyncIterator[tuple[Rpc, TransactionManager]]:
    """A transaction manager whose memory ends with the block: the chain's does too."""
    from chain.artifacts import error_table
    from chain.database import Database
    from chain.rpc import open_rpc
    from chain.transactions.manager import Settings, open_manager
    from chain.transactions.store import TransactionStore

    async with open_rpc(url, errors=error_table()) as rpc:
        chain_id = await rpc.chain_id()
        genesis = await rpc.block(0)
        if genesis is None:
            raise UnreachableError(f"{url}: has no block 0", "is it an Ethereum JSON-RPC endpoint?")
        database = Database(
            ":memory:", chain_id=chain_id, genesis=genesis.hash, address=key.address
        )
        try:
            store = TransactionStore(database)
            async with open_manager(rpc, key.secret, store, Settings(poll=0.2)) as manager:
                yield rpc, manager
        finally:
            database.close()


async def _post(url: str, address: str) -> None:
    """POST {"address"} to the faucet that this process serves. Raises `UnreachableError`."""
    try:
        async with httpx.AsyncClient(timeout=REQUEST_SECONDS, trust_env=False) as client:
            answer = await client.post(url, json={"address": address})
            answer.raise_for_status()
    except httpx.HTTPError as exc:
        raise UnreachableError(f"{url}: {exc or type(exc).__name__}") from exc


async def _stock_faucet(
    manager: TransactionManager, deployment: Deployment, faucet_url: str, faucet: str
) -> None:
    """Move tokens to the faucet's account and tell it which token they are."""
    from chain.artifacts import load_artifact

    token = deployment.address("PrimeToken")
    data = load_artifact("PrimeToken").abi.encode("transfer", faucet, FAUCET_TOKENS)
    await _send(manager, "dev/stock-faucet", token, data)
    await _post(f"{faucet_url}/token", token)


async def _grant(manager: TransactionManager, network: str, validator: str) -> None:
    from chain.artifacts import load_artifact

    data = load_artifact("PrimeNetwork").abi.encode("grantValidator", validator)
    await _send(manager, f"dev/grant-validator/{validator}", network, data)


async def _send(manager: TransactionManager, key: str, to: str, data: bytes) -> None:
    result = await manager.send(key, to, data)
    if not result.status:
        raise NodeError(f"{key}: transaction 0x{result.hash.hex()} reverted")
