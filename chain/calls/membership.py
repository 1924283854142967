"""Providers, their nodes, and validators: who may take part."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from chain.abi.views import NodeRecord, StakeStatus, known
from chain.calls.caller import Call, ContractUser
from chain.endpoint.concurrency import for_each
from chain.errors import InvalidInput
from chain.transactions.manager import TxResult
from proofs.encoding.receipts import NodeRegistration
from proofs.encoding.signing import address_of

SIGNATURE_SECONDS = 3600


class Membership(ContractUser):
    """The part of `ChainClient` that speaks to PrimeNetwork, ComputeRegistry and StakeManager."""

    async def register(
        self, node_key: bytes, stake: int, compute_units: int, uri: str = ""
    ) -> NodeRecord:
        """Make this key a provider with at least `stake`, and the node one of its own.

        Does only what is still missing. The node's key only signs its consent. Raises InvalidInput
        when the node belongs, or ever belonged, to another provider.
        """
        consent = await self.consent_of(address_of(node_key), self.address)
        signature = consent.sign(node_key, self.domain("PrimeNetwork"))
        return await self.register_consented(consent, signature, stake, compute_units, uri)

    async def consent_of(
        self, node: str, provider: str, *, seconds: int = SIGNATURE_SECONDS
    ) -> NodeRegistration:
        """What `node` must sign, with its present nonce, to be registered within `seconds`."""
        nonce = await self.caller.read("PrimeNetwork", "nonces", node)
        deadline = await self.caller.now() + seconds
        return NodeRegistration(provider=provider, node=node, nonce=nonce, deadline=deadline)

    async def register_consented(
        self,
        consent: NodeRegistration,
        signature: bytes,
        stake: int,
        compute_units: int,
        uri: str = "",
    ) -> NodeRecord:
        """As `register`, for a node whose key is elsewhere: `signature` is its consent."""
        node = consent.node
        await self._check_owner(node)
        await self.stake_to(stake)

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
            consent.deadline,
            signature,
        )
        await self._check_owner(node)
        record = await self.node(node)
        if record is None:
            raise InvalidInput(f"node {node} was removed while it was registered; register again")
        return record

    async def stake_to(self, stake: int) -> None:
        """Make this key a provider and raise its active stake to `stake`, where it is less."""
        await self.caller.step(
            "register-provider",
            self._is_new_provider,
            "PrimeNetwork",
            "registerProvider",
            stake,
            spend=stake,
            done=("ProviderAlreadyRegistered",),
        )

        async def missing() -> Call | None:
            lack = stake - await self.stake_of(self.address)
            return Call("PrimeNetwork", "increaseStake", (lack,), lack) if lack > 0 else None

        await self.caller.planned("increase-stake", missing)

    async def _check_owner(self, node: str) -> None:
        owner = await self.owner_of(node)
        if owner not in (None, self.address):
            raise InvalidInput(
                f"node {node} belongs to provider {owner}, not to {self.address}; a node key never "
                "changes hands, so make a new one"
            )

    async def _is_new_provider(self) -> bool:
        return not await self.is_provider(self.address)

    async def is_provider(self, address: str) -> bool:
        """Whether an account ever registered as a provider."""
        record = await self.caller.read("ComputeRegistry", "providerOf", address)
        return bool(record.registeredAt)

    async def compute_units_of(self, provider: str) -> int:
        """Sum over a provider's nodes."""
        record = await self.caller.read("ComputeRegistry", "providerOf", provider)
        return int(record.computeUnits)

    async def node(self, address: str) -> NodeRecord | None:
        """A node's record; None when it is not registered."""
        return NodeRecord.from_abi(
            address, await self.caller.read("ComputeRegistry", "nodeOf", address)
        )

    async def owner_of(self, node: str) -> str | None:
        """The provider that registered a node first and owns it for good; None for a stranger."""
        return known(await self.caller.read("ComputeRegistry", "ownerOf", node))

    async def owners_of(self, nodes: Iterable[str]) -> dict[str, str]:
        """`owner_of` by node, for as many as there are; strangers are left out."""
        found = await for_each(nodes, self.owner_of)
        return {node: owner for node, owner in found.items() if owner is not None}

    async def nodes_of(self, provider: str) -> list[str]:
        """A provider's registered nodes, in no particular order."""
        return list(await self.caller.read("ComputeRegistry", "nodesOf", provider))

    async def remove_node(self, node: str) -> TxResult | None:
        """Forget a node that is in no pool: this key itself, or one of this provider's.

        None when it is not registered. Only the same provider can register it again.
        """

        async def registered() -> bool:
            return await self.node(node) is not None

        return await self.caller.step(
            f"remove-node/{node}",
            registered,
            "PrimeNetwork",
            "removeNode",
            node,
            done=("UnknownNode",),
        )

    async def set_validated(self, node: str, validated: bool = True) -> TxResult | None:
        """State whether a node's hardware was checked; this key must be a validator."""

        async def differs() -> bool:
            record = await self.node(node)
            return record is not None and record.validated != validated

        return await self.caller.step(
            f"validate/{node}", differs, "PrimeNetwork", "setNodeValidated", node, validated
        )

    async def set_blacklisted(self, provider: str, blacklisted: bool = True) -> TxResult | None:
        """Bar a provider from registering nodes and joining pools, or lift that; federators only.

        What it has earned stays claimable.
        """

        async def differs() -> bool:
            return await self.is_blacklisted(provider) != blacklisted

        return await self.caller.step(
            f"blacklist/{provider}",
            differs,
            "PrimeNetwork",
            "setBlacklisted",
            provider,
            blacklisted,
        )

    async def is_blacklisted(self, provider: str) -> bool:
        """Whether a provider is barred from registering nodes and joining pools."""
        return bool(await self.caller.read("ComputeRegistry", "isBlacklisted", provider))

    # -- stake ---------------------------------------------------------------------------------

    async def stake_of(self, provider: str) -> int:
        """A provider's active stake."""
        return int(await self.caller.read("StakeManager", "stakeOf", provider))

    async def minimum_stake(self, compute_units: int) -> int:
        """Stake that a provider of so many compute units needs."""
        return int(await self.caller.read("StakeManager", "minimumStake", compute_units))

    async def stake_status(self, provider: str) -> StakeStatus:
        """All of a provider's tokens in StakeManager."""
        unbonding = await self.caller.read("StakeManager", "unbondingOf", provider)
        return StakeStatus(
            active=await self.stake_of(provider),
            unbonding=unbonding.amount,
            release_time=unbonding.releaseTime,
            required=int(await self.caller.read("StakeManager", "requiredStake", provider)),
            slashable=int(await self.caller.read("StakeManager", "slashable", provider)),
        )

    async def add_stake(self, amount: int, *, purpose: str) -> TxResult:
        """Stake `amount` more for this registered provider, once for each `purpose`."""
        return await self.caller.once(
            f"add-stake/{purpose}", "PrimeNetwork", "increaseStake", amount, spend=amount
        )

    async def unstake(self, amount: int, *, purpose: str) -> TxResult:
        """Ask `amount` of this provider's stake back, once for each `purpose`.

        What its nodes need must remain. The clock starts anew for all that is unbonding already.
        """
        return await self.caller.once(f"unstake/{purpose}", "StakeManager", "unstake", amount)

    async def withdraw(self) -> TxResult | None:
        """Take what this provider asked back; None when nothing is unbonding.

        Raises InvalidInput that says when, if it is too early.
        """

        async def due() -> Call | None:
            status = await self.stake_status(self.address)
            if status.unbonding == 0:
                return None
            now = await self.caller.now()
            if now < status.release_time:
                when = datetime.fromtimestamp(status.release_time, UTC)
                raise InvalidInput(
                    f"{status.unbonding} token units are unbonding until {when:%Y-%m-%d %H:%M:%S} "
                    f"UTC, {status.release_time - now} s from now; withdraw then"
                )
            return Call("StakeManager", "withdraw", ())

        return await self.caller.planned("withdraw", due, done=("NothingUnbonding",))

    # -- validators ----------------------------------------------------------------------------

    async def is_validator(self, address: str) -> bool:
        """Whether an account is admitted as a validator; it signs with weight once registered."""
        return bool(await self.caller.read("PrimeNetwork", "isValidator", address))

    async def validators(self) -> list[str]:
        """All validators, in no particular order."""
        return list(await self.caller.read("PrimeNetwork", "validators"))

    async def weight_of(self, node: str) -> int:
        """Active stake behind a validator's signature; 0 for everyone else."""
        return int(await self.caller.read("PrimeNetwork", "weightOf", node))

    async def total_weight(self) -> int:
        """Sum of all validators' weights."""
        return int(await self.caller.read("PrimeNetwork", "totalWeight"))

    async def grant_validator(self, address: str) -> TxResult | None:
        """Admit a node as a validator, registered before or later; federators only."""

        async def needed() -> bool:
            return not await self.is_validator(address)

        return await self.caller.step(
            f"grant-validator/{address}",
            needed,
            "PrimeNetwork",
            "grantValidator",
            address,
            done=("AlreadyValidator",),
        )

    async def revoke_validator(self, address: str) -> TxResult | None:
        """Dismiss a validator; federators, or the validator itself."""

        async def needed() -> bool:
            return await self.is_validator(address)

        return await self.caller.step(
            f"revoke-validator/{address}", needed, "PrimeNetwork", "revokeValidator", address
        )
