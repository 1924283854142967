"""The network's contracts as a set of coroutines, for one key.

`open_chain` connects, checks that the deployment is really there, opens the key's database and runs
its sender. What can be asked and done is divided by subject; each part is a module of
`chain.calls`:

    chain.pools         create, fund, join and leave compute pools, and be paid for time
    chain.providers     providers and their stake
    chain.nodes         registration and ownership of nodes
    chain.validators    who is admitted, and with what weight
    chain.settlement    post epoch roots, claim against them, convict
    chain.disputes      ask about posted roots, answer, prove them wrong

Every coroutine that changes something is safe to repeat after a crash: what the chain already shows
is not done again (it then returns None), and what happens once for a name (creating or funding a
pool) is remembered under that name.

Keys are 32 raw bytes and never appear in a repr, log or error. Token amounts are in units of 1e-18.
All coroutines raise `ChainError`s: Reverted with the contract's custom error, ChainUnreachable, …
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chain.calls.caller import ContractCaller
from chain.calls.disputes import Disputes
from chain.calls.nodes import Nodes
from chain.calls.pools import Pools
from chain.calls.providers import Providers
from chain.calls.settlement import Settlement
from chain.calls.validators import Validators
from chain.deployment.deployment import Deployment
from chain.deployment.verification import verify_deployment
from chain.encoding.views import NodeRecord
from chain.transactions.account import Account, open_account
from chain.transactions.manager import TxResult
from chain.transactions.sender import SenderSettings
from proofs.encoding.eip712 import Domain
from proofs.encoding.signing import address_of


@asynccontextmanager
async def open_chain(
    rpc_url: str,
    deployment: Deployment,
    key: bytes,
    database_path: Path | str,
    *,
    settings: SenderSettings | None = None,
) -> AsyncIterator[ChainClient]:
    """A `ChainClient` for the length of the block. Raises ChainError, InvalidDeployment first."""
    async with open_account(rpc_url, key, database_path, settings=settings) as account:
        await verify_deployment(account.rpc, deployment)
        yield ChainClient(account, deployment, key, database_path, settings)


class ChainClient:
    """The parts named at the head of this module, over one caller. Create it with `open_chain`.

    `address` is the account that the key belongs to, `database` the file in which its transactions
    and event cursors are kept. `caller` is what the parts share, for whoever needs a function of a
    contract that no part offers.
    """

    def __init__(
        self,
        account: Account,
        deployment: Deployment,
        key: bytes,
        database_path: Path | str,
        settings: SenderSettings | None,
    ) -> None:
        caller = ContractCaller(account.rpc, account.manager, deployment)
        self.caller = caller
        self.rpc = account.rpc
        self.deployment = deployment
        self.database = account.database
        self.address = caller.address
        self.pools = Pools(caller, key)
        self.providers = Providers(caller)
        self.nodes = Nodes(caller, self.providers)
        self.validators = Validators(caller)
        self.settlement = Settlement(caller)
        self.disputes = Disputes(caller)
        self._path = database_path
        self._settings = settings

    def __repr__(self) -> str:
        return f"<ChainClient {self.address} on {self.rpc.url}>"

    def domain(self, contract: str) -> Domain:
        """The EIP-712 domain of a contract: ReceiptSettlement's for receipts and epoch roots."""
        return self.deployment.domain(contract)

    async def now(self) -> int:
        """A time (Unix seconds) that the next block will not precede, or only just."""
        return await self.caller.now()

    async def block_hash(self, number: int) -> bytes | None:
        """Hash of a block of the chain as it stands; None where there is no such block."""
        block = await self.rpc.block(number)
        return None if block is None else block.hash

    async def token_balance(self, address: str) -> int:
        """PRIME balance, in units of 1e-18."""
        return int(await self.caller.read("PrimeToken", "balanceOf", address))

    async def native_balance(self, address: str) -> int:
        """Balance in wei, which pays for gas."""
        return await self.rpc.balance(address)

    async def transfer(self, to: str, amount: int, *, purpose: str) -> TxResult:
        """Send tokens, once for each recipient and `purpose`."""
        key = f"transfer/{to}/{purpose}"
        return await self.caller.once(key, "PrimeToken", "transfer", to, amount)

    async def ensure_registered(
        self, provider_key: bytes, node_key: bytes, stake: int, compute_units: int, uri: str = ""
    ) -> NodeRecord:
        """Make the provider staked with at least `stake` and the node one of its own.

        The provider's key pays; it may be this client's own. Does only what is still missing.
        Raises InvalidInput when the node belongs to another provider.
        """
        if address_of(provider_key) == self.address:
            return await self.nodes.register(node_key, stake, compute_units, uri)
        path = f"{self._path}.{address_of(provider_key)}"
        async with open_chain(
            self.rpc.url, self.deployment, provider_key, path, settings=self._settings
        ) as provider:
            return await provider.nodes.register(node_key, stake, compute_units, uri)
