"""Whose bundles a validator takes: only those of the owner of the pool that would pay for them.

Without a chain nobody pays, and anybody may send bundles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from node.onchain.receipt_domain import chain_refusals
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused
from proofs.evidence.bundle import UnitBundle

if TYPE_CHECKING:
    from chain.client import ChainClient


class Admission(Protocol):
    """Decides who may send a bundle."""

    async def require_sender(self, peer_id: str, bundle: UnitBundle) -> None:
        """Raise `Refused` unless this peer may send the bundle."""
        ...


class PoolOwners:
    """The sender must own the pool whose money the bundle's receipts would spend."""

    def __init__(self, chain: ChainClient) -> None:
        self._chain = chain

    async def require_sender(self, peer_id: str, bundle: UnitBundle) -> None:
        """Raises `Refused` for another's pool, for receipts of several pools, and while the chain
        does not answer."""
        pools = {c.receipt.pool_id for c in bundle.stages if c.receipt is not None}
        if len(pools) != 1:
            raise Refused("bad_bundle", "its receipts must be for one pool")
        with chain_refusals():
            pool = await self._chain.pools.info(pools.pop())
        if pool.creator != address_of_peer(peer_id):
            raise Refused("not_your_pool", f"pool {pool.pool_id} belongs to {pool.creator}")


class AnySender:
    """Everybody may send bundles."""

    async def require_sender(self, peer_id: str, bundle: UnitBundle) -> None:
        """Never raises."""


def require_own_claims(bundle: UnitBundle) -> None:
    """Raise `Refused` unless the peer id and the address of every claim belong to one node, and all
    claims are of the bundle's generation: what a stage signed in one says nothing about another.
    """
    for stage, claim in enumerate(bundle.stages):
        if address_of_peer(claim.peer_id) != claim.address:
            raise Refused("bad_bundle", f"stage {stage}: the peer id is another address's")
        if claim.receipt is not None and claim.receipt.seq != bundle.generation:
            raise Refused("bad_bundle", f"stage {stage}: the receipt is of another generation")
