"""The chain, opened for one command.

A command that only reads uses a fresh key that holds nothing and is thrown away afterwards; one
that sends uses the provider's key or the node's own. The provider's transactions are kept in
`chain.sqlite.<address>` of the data folder, where a node that registers itself keeps them too, so
that one key has one sender: SQLite's lock refuses a second one. The node's are in `chain.sqlite`,
and the data folder's lock is held meanwhile, so a running node and a command never send from one
key at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chain.errors import ChainError, Reverted
from node.cli.options import data_dir, given
from node.console import ask
from node.errors import InputError

if TYPE_CHECKING:
    from chain.client import ChainClient
    from node.config.datadir import DataDir
    from node.config.keystore import NodeKey
    from node.config.networkfile import ChainTable
    from node.config.schema import NodeConfig

T = TypeVar("T")

MEMORY = ":memory:"
POLL_SECONDS = 0.5
COMMAND_GAS = 600_000
"""Gas that a command's transactions may need together: an approval, a registration."""


@dataclass(frozen=True)
class Wallet:
    """A data folder and the chain of its network."""

    data: DataDir
    config: NodeConfig
    table: ChainTable

    @property
    def provider(self) -> str:
        """The address of the folder's provider. Raises `InputError` where it has none."""
        from node.onchain.registration import provider_address

        found = provider_address(self.data, self.config.provider)
        if found is None:
            raise InputError(
                f"{self.data.path}: no provider here",
                'prime-node wallet new makes one; for one elsewhere put provider = "0x…" into '
                "config.toml",
            )
        return found

    def provider_key(self) -> NodeKey:
        """The provider's key, asking for its passphrase. Raises `InputError` without it."""
        from node.config.keystore import load_key

        provider = self.provider
        if not self.data.provider_key.exists():
            raise InputError(
                f"{self.data.path}: the provider's key is not here",
                f"run this where the key of {provider} lies (--data-dir)",
            )
        return load_key(self.data.provider_key, ask=ask.passphrase)

    def node_key(self) -> NodeKey:
        """The node's key, asking for its passphrase. Raises `InputError` without it."""
        from node.config.keystore import load_key

        return load_key(self.data.node_key, ask=ask.passphrase)

    def node_address(self) -> str | None:
        """The address of the node's key; None where there is no such key here."""
        from node.config.keystore import look_at_key

        if not self.data.node_key.exists():
            return None
        return look_at_key(self.data.node_key).address or self.node_key().address


def find_wallet(folder: Path | None, network_file: Path | None, rpc_url: str | None) -> Wallet:
    """Settings of the data folder and the chain table of its network. Raises `InputError`."""
    from node.config.networkfile import NetworkFile
    from node.config.schema import load_config

    data = data_dir(folder)
    config = load_config(given(data_dir=data.path, network_file=network_file))
    if config.network_file is None:
        raise InputError(f"{data.path}: no network file", "give --network-file network.toml")
    table = NetworkFile.load(config.network_file).chain
    if table is None:
        raise InputError(f"{config.network_file}: names no chain", "ask the network's maker")
    if rpc_url:
        table = table.model_copy(update={"rpc_url": rpc_url})
    return Wallet(data, config, table)


def on_chain(work: Callable[[], Awaitable[T]]) -> T:
    """Run a command's work. Raises what the work raised, not an exception group."""
    import trio

    return trio.run(work)


@asynccontextmanager
async def open_reader(wallet: Wallet) -> AsyncIterator[ChainClient]:
    """For commands that only look: the key is fresh and nothing is kept."""
    from node.config.keystore import generate_key

    async with _open(wallet, generate_key(), MEMORY) as chain:
        yield chain


@asynccontextmanager
async def open_as_provider(wallet: Wallet, key: NodeKey) -> AsyncIterator[ChainClient]:
    """Send as the provider."""
    async with _open(wallet, key, wallet.data.chain_of(key.address)) as chain:
        yield chain


@asynccontextmanager
async def open_as_node(wallet: Wallet, key: NodeKey) -> AsyncIterator[ChainClient]:
    """Send as the node. Raises `ResourceError` while the node runs."""
    with wallet.data.lock():
        async with _open(wallet, key, wallet.data.chain) as chain:
            yield chain


@asynccontextmanager
async def _open(wallet: Wallet, key: NodeKey, database: Path | str) -> AsyncIterator[ChainClient]:
    from chain.client import open_chain
    from chain.deployment.deployment import Deployment
    from chain.transactions.sender import SenderSettings
    from node.cli.provider.refusals import explain
    from node.errors import NodeError

    table = wallet.table
    deployment = Deployment.from_dict(table.deployment())
    settings = SenderSettings(poll=POLL_SECONDS)
    try:
        async with open_chain(
            table.rpc_url, deployment, key.secret, database, settings=settings
        ) as chain:
            yield chain
    except Reverted as exc:
        raise explain(exc) from exc
    except BaseExceptionGroup as group:
        # The sender's nursery wraps what a command raises.
        if len(group.exceptions) == 1 and isinstance(group.exceptions[0], NodeError | ChainError):
            raise group.exceptions[0] from None
        raise


async def gas_money(chain: ChainClient, gas: int = COMMAND_GAS) -> int:
    """The most that this much gas costs, in wei, as the sender would offer it now."""
    head = await chain.rpc.block("latest")
    base_fee = head.base_fee if head is not None else 0
    return gas * (2 * base_fee + await chain.rpc.tip())


async def fund(chain: ChainClient, wallet: Wallet, tokens: int = 0, gas: int = COMMAND_GAS) -> None:
    """Make sure that the sending key can pay. Raises `NodeError` saying which address lacks
    what."""
    from node.onchain.registration import ensure_funds

    await ensure_funds(chain, wallet.table, chain.address, tokens, await gas_money(chain, gas))


def new_order(name: str | None) -> str:
    """The name under which money moves once; a fresh one where the user gave none."""
    import secrets

    return name or secrets.token_hex(8)


def shown_hash(hash_: bytes) -> str:
    """A transaction's 32-byte hash, as explorers write it."""
    return "0x" + hash_.hex()
