"""Joining a pool: check an orchestrator's invite, join, remember whom to obey.

A worker serves one pool at a time and takes orders only from the peer whose invite it accepted;
which invites count is the `PoolRegister`'s business. An orchestrator that has been silent for
`WorkerTiming.abandoned` seconds loses its worker to the next invite, so that a worker does not stay
with one that is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.roles.worker.pools import PoolRegister
from node.storage.intake import require_storage
from node.wire.messages.work import Invite, Joined
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused


@dataclass(frozen=True)
class JoinedPool:
    """The pool this worker is in: its orchestrator's peer id and address, and its model."""

    peer_id: str
    address: str
    pool_id: int
    model_id: bytes
    model_name: str


class Membership:
    """The pool that this worker is in. `joined` is told the id of each pool, `abandoned` is
    `WorkerTiming.abandoned`."""

    def __init__(
        self,
        context: NodeContext,
        pools: PoolRegister,
        joined: Callable[[int], Awaitable[None]],
        abandoned: float,
    ) -> None:
        self._context = context
        self._pools = pools
        self._joined = joined
        self._abandoned = abandoned
        self._lock = trio.Lock()
        self._heard_at = 0.0
        self.pool: JoinedPool | None = None

    async def on_invite(self, peer_id: str, invite: Invite) -> Joined:
        """Answer an invite once this node is a member. Raises `Refused`."""
        require_storage(self._context.journal)
        address = address_of_peer(peer_id)
        if not address:
            raise Refused("bad_invite", "that peer id is not of a secp256k1 key")
        async with self._lock:
            pool = self.pool
            other = pool is not None and pool.peer_id != peer_id
            if other and self._context.now() - self._heard_at < self._abandoned:
                raise Refused("taken", "already in a pool")
            left = None if pool is None else pool.pool_id
            await self._pools.join(invite, address, left)
            self.pool = JoinedPool(
                peer_id, address, invite.pool_id, invite.model_id, invite.model_name
            )
            self._heard_at = self._context.now()
        await self._joined(invite.pool_id)
        self._context.log.info("joined pool", pool=invite.pool_id, orchestrator=peer_id)
        return Joined(address=self._context.address, provider=self._context.provider)

    def require_orchestrator(self, peer_id: str) -> JoinedPool:
        """The pool, if `peer_id` is its orchestrator. Raises `Refused`."""
        if self.pool is None or self.pool.peer_id != peer_id:
            raise Refused("not_my_orchestrator", "I take orders only from the pool I joined")
        self._heard_at = self._context.now()
        return self.pool

    async def leave(self) -> None:
        """Obey nobody any more, and leave the pool."""
        pool, self.pool = self.pool, None
        if pool is not None:
            await self._pools.leave(pool.pool_id)
