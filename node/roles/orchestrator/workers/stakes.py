"""Who may judge this pool's work, and how much stake each verdict carries.

Without a chain: whoever announces itself, one vote each. With one: nodes that have the validator
role and a staked provider; what they accept together must carry the quorum that settles it, so the
stake of absent validators counts towards the total as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from node.roles.orchestrator.coordinator.events import ChainQuorum
from node.wire.peer_addresses import address_of_peer

if TYPE_CHECKING:
    from chain.client import ChainClient


@dataclass(frozen=True)
class Stakes:
    """Weight (wei; 1 each without a chain) of every validator that is here, by peer id, and the
    quorum that the chain asks for, None without one."""

    weights: Mapping[str, int]
    quorum: ChainQuorum | None


class ValidatorStakes(Protocol):
    """Whose word counts how much."""

    async def of(self, announced: AbstractSet[str]) -> Stakes:
        """Of those who announce the role, by peer id. Raises `ChainError`."""
        ...


class ChainStakes:
    """As the staking contract has it."""

    def __init__(self, chain: ChainClient) -> None:
        self._chain = chain

    async def of(self, announced: AbstractSet[str]) -> Stakes:
        """Anybody may announce the role; only those who have it are worth a question to the
        chain."""
        terms = await self._chain.settlement.terms()
        quorum = ChainQuorum(await self._chain.validators.total_weight(), terms.quorum)
        validators = set(await self._chain.validators.addresses())
        addresses = {peer_id: address_of_peer(peer_id) for peer_id in sorted(announced)}
        weights = {
            peer_id: await self._chain.validators.weight_of(address)
            for peer_id, address in addresses.items()
            if address in validators
        }
        return Stakes({peer_id: weight for peer_id, weight in weights.items() if weight}, quorum)


class EqualVotes:
    """Without a chain."""

    async def of(self, announced: AbstractSet[str]) -> Stakes:
        """One vote each."""
        return Stakes(dict.fromkeys(announced, 1), None)
