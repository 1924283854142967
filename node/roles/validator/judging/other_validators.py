"""Who else validates: those with stake where there is a chain, else whoever says that it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from chain.errors import ChainError
from node.context import NodeContext
from node.wire.peer_addresses import peers_by_address

if TYPE_CHECKING:
    from chain.client import ChainClient


class OtherValidators(Protocol):
    """The other validators of this network, as far as this node knows them."""

    async def peer_ids(self) -> list[str]:
        """Their peer ids, this node's not among them."""
        ...


class StakedValidators:
    """Validators by the chain's word; those whose records are not here are left out."""

    def __init__(self, context: NodeContext, chain: ChainClient) -> None:
        self._context = context
        self._chain = chain

    async def peer_ids(self) -> list[str]:
        """Empty while the chain does not answer."""
        peers = peers_by_address(self._context.network)
        try:
            validators = await self._chain.validators.addresses()
        except ChainError as exc:
            self._context.log.warning("no validator asked for rows", reason=str(exc))
            return []
        known = [peers[address] for address in validators if address in peers]
        return [peer_id for peer_id in known if peer_id != self._context.peer_id]


class AnnouncedValidators:
    """Validators by their own word, without a chain."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context

    async def peer_ids(self) -> list[str]:
        """All whose record names the role."""
        records = self._context.network.records.all()
        known = [record.peer_id for record in records if "validator" in record.roles]
        return [peer_id for peer_id in known if peer_id != self._context.peer_id]
