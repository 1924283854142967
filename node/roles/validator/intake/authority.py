"""Whose bundles a validator takes: only those of the owner of the pool that would pay for them.

The owner of a pool never changes, so the chain is asked once for each pool. A stranger that makes
up pool ids has a look-up made each time; few of these run at once, and none of them keeps an owner
waiting whose pool is known. Without a chain nobody pays, and anybody may send bundles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from node.onchain.receipt_domain import chain_refusals
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused
from proofs.encoding.signing import ZERO_ADDRESS

if TYPE_CHECKING:
    from chain.client import ChainClient


@dataclass(frozen=True)
class AuthorityLimits:
    """The chain's answers are kept for the newest `known` pools; that there is no such pool, for
    `seconds`. At most `lookups` questions are asked at once, and one for a peer."""

    known: int = 4096
    seconds: float = 10.0
    lookups: int = 8


class Authority(Protocol):
    """Decides who may send a bundle."""

    async def require_sender(self, peer_id: str, pool_id: int) -> None:
        """Raise `Refused` unless this peer may send bundles that the pool would pay for."""
        ...


class PoolOwners:
    """The sender must own the pool whose money the bundle's receipts would spend. `now` gives
    monotonic seconds."""

    def __init__(
        self, chain: ChainClient, now: Callable[[], float], limits: AuthorityLimits | None = None
    ) -> None:
        self._chain = chain
        self._now = now
        self._limits = limits or AuthorityLimits()
        self._creators: dict[int, tuple[str, float]] = {}
        """By pool: its owner, and until when that holds; the oldest first."""
        self._asking: set[str] = set()
        self._answers: dict[int, trio.Event] = {}

    async def require_sender(self, peer_id: str, pool_id: int) -> None:
        """Raises `Refused` for another's pool, and while the chain does not answer."""
        creator, until = self._creators.get(pool_id, ("", 0.0))
        if until <= self._now():
            creator = await self._look_up(peer_id, pool_id)
        if creator != address_of_peer(peer_id):
            raise Refused("not_your_pool", f"pool {pool_id} belongs to {creator}")

    async def _look_up(self, peer_id: str, pool_id: int) -> str:
        while pool_id in self._answers:  # of those who waited in vain one asks, the others wait
            await self._answers[pool_id].wait()
            creator, until = self._creators.get(pool_id, ("", 0.0))
            if until > self._now():
                return creator
        if peer_id in self._asking or len(self._asking) >= self._limits.lookups:
            raise Refused("busy", "the chain is being asked about others; ask again")
        answered = self._answers[pool_id] = trio.Event()
        self._asking.add(peer_id)
        try:
            with chain_refusals():
                creator = (await self._chain.pools.info(pool_id)).creator
            self._keep(pool_id, creator)
        finally:
            self._asking.discard(peer_id)
            del self._answers[pool_id]
            answered.set()
        return creator

    def _keep(self, pool_id: int, creator: str) -> None:
        known = creator != ZERO_ADDRESS
        until = float("inf") if known else self._now() + self._limits.seconds
        self._creators.pop(pool_id, None)
        self._creators[pool_id] = (creator, until)
        while len(self._creators) > self._limits.known:
            del self._creators[next(iter(self._creators))]


class AnySender:
    """Everybody may send bundles."""

    async def require_sender(self, peer_id: str, pool_id: int) -> None:
        """Never raises."""
