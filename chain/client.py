"""The network's contracts as a set of coroutines, for one key.

`open_chain` connects, checks that the deployment is really there, opens the key's database and runs
its sender. Every coroutine that changes something is safe to repeat after a crash: what the chain
already shows is not done again (it then returns None), and what happens once for a name (creating
or funding a pool) is remembered under that name.

Keys are 32 raw bytes and never appear in a repr, log or error. Token amounts are in units of 1e-18.
All coroutines raise `ChainError`s: Reverted with the contract's custom error, ChainUnreachable, …
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chain.abi.views import NodeRecord
from chain.account import Account, open_account
from chain.calls.caller import ContractCaller
from chain.calls.disputes import Disputes
from chain.calls.membership import Membership
from chain.calls.pools import Pools
from chain.calls.settlement import Settlement
from chain.deployment.deployment import Deployment, verify_deployment
from chain.transactions.manager import Settings, TxResult
from proofs.encoding.signing import address_of

__all__ = ["Account", "ChainClient", "open_account", "open_chain"]


@asynccontextmanager
async def open_chain(
    rpc_url: str,
    deployment: Deployment,
    key: bytes,
    database_path: Path | str,
    *,
    settings: Settings | None = None,
) -> AsyncIterator[ChainClient]:
    """A `ChainClient` for the length of the block. Raises ChainError, InvalidDeployment first."""
    async with open_account(rpc_url, key, database_path, settings=settings) as account:
        await verify_deployment(account.rpc, deployment)
        yield ChainClient(account, deployment, key, database_path, settings)


class ChainClient(Pools, Membership, Settlement, Disputes):
    """See the module. Make it with `open_chain`."""

    def __init__(
        self,
        account: Account,
        deployment: Deployment,
        key: bytes,
        database_path: Path | str,
        settings: Settings | None,
    ) -> None:
        super().__init__(ContractCaller(account.rpc, account.manager, deployment), key)
        self.database = account.database
        self._path = database_path
        self._settings = settings

    async def ensure_registered(
        self, provider_key: bytes, node_key: bytes, stake: int, compute_units: int, uri: str = ""
    ) -> NodeRecord:
        """Make the provider staked with at least `stake` and the node one of its own.

        The provider's key pays; it may be this client's own. Does only what is still missing.
        Raises InvalidInput when the node belongs to another provider.
        """
        if address_of(provider_key) == self.address:
            return await self.register(node_key, stake, compute_units, uri)
        path = f"{self._path}.{address_of(provider_key)}"
        async with open_chain(
            self.rpc.url, self.deployment, provider_key, path, settings=self._settings
        ) as provider:
            return await provider.register(node_key, stake, compute_units, uri)

    # -- balances ----------------------------------------------------------------------------

    async def token_balance(self, address: str) -> int:
        """PRIME balance."""
        return int(await self.caller.read("PrimeToken", "balanceOf", address))

    async def native_balance(self, address: str) -> int:
        """Balance in wei, which pays for gas."""
        return await self.rpc.balance(address)

    async def block_hash(self, number: int) -> bytes | None:
        """Hash of a block of the chain as it stands; None where there is no such block."""
        block = await self.rpc.block(number)
        return None if block is None else block.hash

    async def transfer(self, to: str, amount: int, *, purpose: str) -> TxResult:
        """Send tokens, once for each recipient and `purpose`."""
        key = f"transfer/{to}/{purpose}"
        return await self.caller.once(key, "PrimeToken", "transfer", to, amount)
