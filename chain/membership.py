"""Providers, their nodes, and validators: who may take part."""

from __future__ import annotations

from chain.caller import ContractUser
from chain.errors import InvalidInput
from chain.transactions.manager import TxResult
from chain.views import NodeRecord
from proofs.receipts import NodeRegistration
from proofs.signing import address_of

SIGNATURE_SECONDS = 3600


class Membership(ContractUser):
    """The part of `ChainClient` that speaks to PrimeNetwork, ComputeRegistry and StakeManager."""

    async def register(
        self, node_key: bytes, stake: int, compute_units: int, uri: str = ""
    ) -> NodeRecord:
        """Make this key a provider with at least `stake`, and the node one of its own.

        Does only what is still missing. The node's key only signs its consent. Raises InvalidInput
        when the node belongs to another provider.
        """
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
        return bool(known.registeredAt == 0)

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
