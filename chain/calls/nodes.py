"""Nodes: which provider owns them, and whether they are registered."""

from __future__ import annotations

from collections.abc import Iterable

from chain.calls.caller import ContractCaller
from chain.calls.providers import Providers
from chain.encoding.views import NodeRecord, address_or_none
from chain.endpoint.concurrency import for_each
from chain.errors import InvalidInput
from chain.transactions.manager import TxResult
from proofs.encoding.receipts import NodeRegistration
from proofs.encoding.signing import address_of

CONSENT_SECONDS = 3600
"""How long a node's consent to its registration holds, unless the caller says otherwise."""


class Nodes:
    """The part of `ChainClient` for nodes. Registering one stakes for its provider first."""

    def __init__(self, caller: ContractCaller, providers: Providers) -> None:
        self._caller = caller
        self._providers = providers

    async def register(
        self, node_key: bytes, stake: int, compute_units: int, uri: str = ""
    ) -> NodeRecord:
        """Make this key a provider with at least `stake`, and the node one of its own.

        Does only what is still missing. The node's key only signs its consent. Raises InvalidInput
        when the node belongs, or ever belonged, to another provider.
        """
        consent = await self.consent_of(address_of(node_key), self._caller.address)
        signature = consent.sign(node_key, self._caller.deployment.domain("PrimeNetwork"))
        return await self.register_consented(consent, signature, stake, compute_units, uri)

    async def consent_of(
        self, node: str, provider: str, *, seconds: int = CONSENT_SECONDS
    ) -> NodeRegistration:
        """What `node` must sign, with its present nonce, to be registered within `seconds`."""
        nonce = await self._caller.read("PrimeNetwork", "nonces", node)
        deadline = await self._caller.now() + seconds
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
        await self._require_own(node)
        await self._providers.stake_to(stake)

        async def unregistered() -> bool:
            return await self.find(node) is None

        await self._caller.step(
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
        await self._require_own(node)
        record = await self.find(node)
        if record is None:
            raise InvalidInput(f"node {node} was removed while it was registered; register again")
        return record

    async def _require_own(self, node: str) -> None:
        owner = await self.owner_of(node)
        if owner not in (None, self._caller.address):
            raise InvalidInput(
                f"node {node} belongs to provider {owner}, not to {self._caller.address}; a node "
                "key never changes hands, so make a new one"
            )

    async def find(self, address: str) -> NodeRecord | None:
        """A node's record; None when it is not registered."""
        return NodeRecord.from_abi(
            address, await self._caller.read("ComputeRegistry", "nodeOf", address)
        )

    async def owner_of(self, node: str) -> str | None:
        """The provider that registered a node first and owns it for good; None for a stranger."""
        return address_or_none(await self._caller.read("ComputeRegistry", "ownerOf", node))

    async def owners_of(self, nodes: Iterable[str]) -> dict[str, str]:
        """`owner_of` by node, for as many as there are; strangers are left out."""
        found = await for_each(nodes, self.owner_of)
        return {node: owner for node, owner in found.items() if owner is not None}

    async def remove(self, node: str) -> TxResult | None:
        """Forget a node that is in no pool: this key itself, or one of this provider's.

        None when it is not registered. Only the same provider can register it again.
        """

        async def registered() -> bool:
            return await self.find(node) is not None

        return await self._caller.step(
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
            record = await self.find(node)
            return record is not None and record.validated != validated

        return await self._caller.step(
            f"validate/{node}", differs, "PrimeNetwork", "setNodeValidated", node, validated
        )
