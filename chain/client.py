"""The network's contracts as a set of coroutines, for one key.

`open_chain` connects, checks that the deployment is really there, opens the key's database and runs
its sender. Every coroutine that changes something is safe to repeat after a crash: what the chain
already shows is not done again (it then returns None), and what happens once for a name (creating
or funding a pool) is remembered under that name.

Keys are 32 raw bytes and never appear in a repr, log or error. Token amounts are in units of 1e-18.
All coroutines raise `ChainError`s: Reverted with the contract's custom error, ChainUnreachable, …
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chain.artifacts import error_table
from chain.caller import ContractCaller
from chain.database import Database
from chain.deployment import Deployment, verify_deployment
from chain.errors import BadResponse, InvalidInput
from chain.hexdata import ZERO_ADDRESS
from chain.rpc import Rpc, open_rpc
from chain.transactions.manager import Settings, TransactionManager, TxResult, open_manager
from chain.transactions.store import TransactionStore
from chain.views import NodeRecord, Pool, PoolFunds, PoolState, SettledRoot
from proofs.eip712 import Domain
from proofs.receipts import EpochRoot, NodeRegistration, PoolInvite
from proofs.signing import address_of, sign_digest

SIGNATURE_SECONDS = 3600


@dataclass(frozen=True)
class Account:
    """A key's running sender on one chain, and its database."""

    rpc: Rpc
    manager: TransactionManager
    database: Database


@asynccontextmanager
async def open_account(
    rpc_url: str, key: bytes, database_path: Path | str, *, settings: Settings | None = None
) -> AsyncIterator[Account]:
    """Connect, open the key's database and run its sender. Raises ChainError."""
    async with open_rpc(rpc_url, errors=error_table()) as rpc:
        genesis = await rpc.block(0)
        if genesis is None:
            raise BadResponse(f"{rpc_url} does not have block 0; use a node that serves headers")
        database = Database(
            database_path,
            chain_id=await rpc.chain_id(),
            genesis=genesis.hash,
            address=address_of(key),
        )
        try:
            store = TransactionStore(database)
            async with open_manager(rpc, key, store, settings) as manager:
                yield Account(rpc, manager, database)
        finally:
            database.close()


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


class ChainClient:
    """See the module. Make it with `open_chain`."""

    def __init__(
        self,
        account: Account,
        deployment: Deployment,
        key: bytes,
        database_path: Path | str,
        settings: Settings | None,
    ) -> None:
        self.address = account.manager.address
        self.deployment = deployment
        self.rpc = account.rpc
        self.database = account.database
        self.caller = ContractCaller(account.rpc, account.manager, deployment)
        self._key = key
        self._path = database_path
        self._settings = settings

    def __repr__(self) -> str:
        return f"<ChainClient {self.address} on {self.rpc.url}>"

    def domain(self, contract: str) -> Domain:
        """The EIP-712 domain of a contract: ReceiptSettlement checks receipts and epoch roots."""
        return Domain(self.deployment.chain_id, self.deployment.address(contract))

    # -- providers and nodes -----------------------------------------------------------------

    async def ensure_registered(
        self, provider_key: bytes, node_key: bytes, stake: int, compute_units: int, uri: str = ""
    ) -> NodeRecord:
        """Make the provider staked with at least `stake` and the node one of its own.

        The provider's key pays; it may be this client's own. Does only what is still missing.
        Raises InvalidInput when the node belongs to another provider.
        """
        if address_of(provider_key) == self.address:
            return await self._register(node_key, stake, compute_units, uri)
        path = f"{self._path}.{address_of(provider_key)}"
        async with open_chain(
            self.rpc.url, self.deployment, provider_key, path, settings=self._settings
        ) as provider:
            return await provider._register(node_key, stake, compute_units, uri)

    async def _register(
        self, node_key: bytes, stake: int, compute_units: int, uri: str
    ) -> NodeRecord:
        node = address_of(node_key)
        await self.caller.step(
            "register-provider",
            self._is_new_provider,
            "PrimeNetwork",
            "registerProvider",
            stake,
            spend=stake,
        )
        missing = stake - await self.stake_of(self.address)
        if missing > 0:

            async def short() -> bool:
                return await self.stake_of(self.address) < stake

            await self.caller.step(
                "increase-stake", short, "PrimeNetwork", "increaseStake", missing, spend=missing
            )
        head = await self.rpc.block("latest")
        nonce = await self.caller.read("PrimeNetwork", "nonces", node)
        deadline = (head.timestamp if head is not None else 0) + SIGNATURE_SECONDS
        consent = NodeRegistration(provider=self.address, node=node, nonce=nonce, deadline=deadline)

        async def unregistered() -> bool:
            return await self.node(node) is None

        await self.caller.step(
            f"register-node/{node}",
            unregistered,
            "PrimeNetwork",
            "registerNode",
            node,
            uri,
            compute_units,
            deadline,
            consent.sign(node_key, self.domain("PrimeNetwork")),
        )
        record = await self.node(node)
        if record is None or record.provider != self.address:
            owner = record.provider if record is not None else "nobody"
            raise InvalidInput(
                f"node {node} belongs to provider {owner}, not to {self.address}; remove it there"
            )
        return record

    async def _is_new_provider(self) -> bool:
        known = await self.caller.read("ComputeRegistry", "providerOf", self.address)
        return bool(known["registeredAt"] == 0)

    async def node(self, address: str) -> NodeRecord | None:
        """A node's record; None when it is not registered."""
        return NodeRecord.from_abi(
            address, await self.caller.read("ComputeRegistry", "nodeOf", address)
        )

    async def stake_of(self, provider: str) -> int:
        """A provider's active stake."""
        return int(await self.caller.read("StakeManager", "stakeOf", provider))

    async def minimum_stake(self, compute_units: int) -> int:
        """Stake that a provider of so many compute units needs."""
        return int(await self.caller.read("StakeManager", "minimumStake", compute_units))

    async def set_validated(self, node: str, validated: bool = True) -> TxResult | None:
        """State whether a node's hardware was checked; this key must be a validator."""

        async def differs() -> bool:
            record = await self.node(node)
            return record is not None and record.validated != validated

        return await self.caller.step(
            f"validate/{node}", differs, "PrimeNetwork", "setNodeValidated", node, validated
        )

    async def is_validator(self, address: str) -> bool:
        """Whether an account may sign epoch roots."""
        return bool(await self.caller.read("PrimeNetwork", "isValidator", address))

    async def grant_validator(self, address: str) -> TxResult | None:
        """Name a validator; this key must be a federator (the deployer is)."""

        async def needed() -> bool:
            return not await self.is_validator(address)

        return await self.caller.step(
            f"grant-validator/{address}", needed, "PrimeNetwork", "grantValidator", address
        )

    # -- pools -------------------------------------------------------------------------------

    async def create_pool(
        self, name: str, *, domain_id: int | None = None, uri: str = "", inviter: str | None = None
    ) -> int:
        """Create this key's pool called `name`, once, and return its id.

        Asking again for the same `name` returns the same pool. `inviter` None lets every staked
        node in.
        """
        domain = self.deployment.default_domain if domain_id is None else domain_id
        arguments = (domain, name, uri, inviter or ZERO_ADDRESS)
        result = await self.caller.once(
            f"create-pool/{name}", "ComputePool", "createPool", *arguments
        )
        return int((await self.caller.event(result, "ComputePool", "PoolCreated"))["poolId"])

    async def fund_pool(self, pool_id: int, amount: int, *, purpose: str = "initial") -> TxResult:
        """Add `amount` tokens to a pool's budget, once for each `purpose`."""
        key = f"fund-pool/{pool_id}/{purpose}"
        return await self.caller.once(key, "ComputePool", "fund", pool_id, amount, spend=amount)

    async def start_pool(self, pool_id: int) -> TxResult | None:
        """Open a pool of this key's for nodes."""
        return await self._move_pool(pool_id, PoolState.PENDING, "start")

    async def end_pool(self, pool_id: int) -> TxResult | None:
        """End a pool of this key's; its members leave by themselves."""
        return await self._move_pool(pool_id, PoolState.ACTIVE, "end")

    async def _move_pool(self, pool_id: int, source: PoolState, verb: str) -> TxResult | None:
        async def needed() -> bool:
            return (await self.pool(pool_id)).state <= source

        return await self.caller.step(
            f"{verb}-pool/{pool_id}", needed, "ComputePool", verb, pool_id
        )

    async def pool(self, pool_id: int) -> Pool:
        """A pool's record; its state is NONE when it does not exist."""
        return Pool.from_abi(pool_id, await self.caller.read("ComputePool", "poolInfo", pool_id))

    async def pool_funds(self, pool_id: int) -> PoolFunds:
        """A pool's books."""
        return PoolFunds.from_abi(
            await self.caller.read("RewardsDistributor", "accountOf", pool_id)
        )

    async def is_member(self, pool_id: int, node: str) -> bool:
        """Whether a node is in a pool now."""
        return bool(await self.caller.read("ComputePool", "isMember", pool_id, node))

    async def invite_digest(self, pool_id: int, node: str, deadline: int) -> bytes:
        """The 32 bytes that a pool's inviter signs to let `node` in until `deadline` (Unix s)."""
        nonce = await self.caller.read("ComputePool", "inviteNonce", pool_id, node)
        invite = PoolInvite(pool_id=pool_id, node=node, nonce=nonce, deadline=deadline)
        return invite.digest(self.domain("ComputePool"))

    async def sign_invite(self, pool_id: int, node: str, deadline: int) -> bytes:
        """An invite to `node` by this key, which must be the pool's inviter; 65 bytes."""
        return sign_digest(self._key, await self.invite_digest(pool_id, node, deadline))

    async def join_pool(
        self,
        pool_id: int,
        invite_signature: bytes = b"",
        deadline: int = 0,
        *,
        node: str | None = None,
    ) -> TxResult | None:
        """Put a node into a pool: this key itself, or `node` when this key is its provider.

        A permissionless pool needs neither invite nor deadline.
        """
        member = node or self.address

        async def needed() -> bool:
            return not await self.is_member(pool_id, member)

        return await self.caller.step(
            f"join/{pool_id}/{member}",
            needed,
            "ComputePool",
            "join",
            pool_id,
            member,
            deadline,
            invite_signature,
        )

    async def leave_pool(self, pool_id: int, *, node: str | None = None) -> TxResult | None:
        """Take a node out of a pool: this key itself, or `node` when this key is its provider."""
        member = node or self.address

        async def needed() -> bool:
            return await self.is_member(pool_id, member)

        return await self.caller.step(
            f"leave/{pool_id}/{member}", needed, "ComputePool", "leave", pool_id, member
        )

    # -- settlement --------------------------------------------------------------------------

    async def post_root(
        self, root: EpochRoot, signatures: Sequence[tuple[str, bytes]]
    ) -> TxResult | None:
        """Post an epoch root with the validators' (address, signature) pairs, in any order.

        Returns None when exactly this epoch was posted before; raises InvalidInput when another
        root holds its place.
        """
        ordered = [signature for _, signature in sorted(signatures, key=lambda s: s[0].lower())]

        async def needed() -> bool:
            return int(await self.next_epoch(root.pool_id)) <= root.epoch

        result = await self.caller.step(
            f"post-root/{root.pool_id}/{root.epoch}",
            needed,
            "ReceiptSettlement",
            "postRoot",
            tuple(getattr(root, field) for field in EpochRoot.model_fields),
            ordered,
        )
        if result is None:
            await self._check_posted(root)
        return result

    async def _check_posted(self, root: EpochRoot) -> None:
        for posted in (await self.pending_root(root.pool_id), await self.latest_root(root.pool_id)):
            if posted is not None and posted.epoch == root.epoch:
                if (posted.payouts_root, posted.receipts_root) != (
                    root.payouts_root,
                    root.receipts_root,
                ):
                    raise InvalidInput(
                        f"epoch {root.epoch} of pool {root.pool_id} was settled with another root"
                    )
                return

    async def next_epoch(self, pool_id: int) -> int:
        """The epoch that the pool's next root must carry."""
        return int(await self.caller.read("ReceiptSettlement", "nextEpoch", pool_id))

    async def latest_root(self, pool_id: int) -> SettledRoot | None:
        """The root that claims verify against now."""
        return SettledRoot.from_abi(
            await self.caller.read("ReceiptSettlement", "latestRoot", pool_id)
        )

    async def pending_root(self, pool_id: int) -> SettledRoot | None:
        """The root that waits for its challenge window."""
        return SettledRoot.from_abi(
            await self.caller.read("ReceiptSettlement", "pendingRoot", pool_id)
        )

    async def claim(
        self, pool_id: int, account: str, cumulative: int, proof: Sequence[bytes]
    ) -> TxResult | None:
        """Have `account` paid up to `cumulative`; None when it already was. Any key may ask."""

        async def needed() -> bool:
            return await self.claimed(pool_id, account) < cumulative

        return await self.caller.step(
            f"claim/{pool_id}/{account}/{cumulative}",
            needed,
            "ReceiptSettlement",
            "claim",
            pool_id,
            account,
            cumulative,
            list(proof),
        )

    async def claimed(self, pool_id: int, account: str) -> int:
        """Tokens that `account` was paid from a pool so far."""
        return int(await self.caller.read("ReceiptSettlement", "claimed", pool_id, account))

    # -- balances ----------------------------------------------------------------------------

    async def token_balance(self, address: str) -> int:
        """PRIME balance."""
        return int(await self.caller.read("PrimeToken", "balanceOf", address))

    async def native_balance(self, address: str) -> int:
        """Balance in wei, which pays for gas."""
        return await self.rpc.balance(address)

    async def transfer(self, to: str, amount: int, *, purpose: str) -> TxResult:
        """Send tokens, once for each recipient and `purpose`."""
        key = f"transfer/{to}/{purpose}"
        return await self.caller.once(key, "PrimeToken", "transfer", to, amount)
