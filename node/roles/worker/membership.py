"""Joining a pool: check an orchestrator's invite, join on chain, remember whom to obey.

A worker serves one pool at a time and takes orders only from the peer whose invite it accepted. An
invite counts when the pool's inviter on chain sent and signed it for this node; where the pool is
open to all, when its creator sent it. Without a chain, the first inviter is believed (and nobody is
paid). An orchestrator that was not heard of for `ABANDONED_SECONDS` has lost its worker to the next
invite, so that a worker does not stay with one that is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.onchain.receipt_domain import chain_refusals
from node.wire.messages.work import Invite, Joined
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused
from proofs.encoding.signing import recover
from proofs.errors import ProofError

ABANDONED_SECONDS = 120.0


@dataclass(frozen=True)
class JoinedPool:
    """The pool this worker is in: its orchestrator's peer id and address."""

    peer_id: str
    address: str
    pool_id: int
    model_id: bytes
    model_name: str


class Membership:
    """The worker's place in a pool. `joined` is told the id of each pool."""

    def __init__(self, context: NodeContext, joined: Callable[[int], Awaitable[None]]) -> None:
        self._context = context
        self._joined = joined
        self._lock = trio.Lock()
        self._heard_at = 0.0
        self.employer: JoinedPool | None = None

    async def on_invite(self, peer_id: str, invite: Invite) -> Joined:
        """Answer an invite once this node is a member on chain. Raises `Refused`."""
        async with self._lock:
            employer = self.employer
            other = employer is not None and employer.peer_id != peer_id
            if other and self._context.now() - self._heard_at < ABANDONED_SECONDS:
                raise Refused("taken", "already in a pool")
            with chain_refusals():
                await self._check_and_join(peer_id, invite)
            self.employer = JoinedPool(
                peer_id,
                address_of_peer(peer_id),
                invite.pool_id,
                invite.model_id,
                invite.model_name,
            )
            self._heard_at = self._context.now()
        await self._joined(invite.pool_id)
        self._context.log.info("joined pool", pool=invite.pool_id, orchestrator=peer_id)
        return Joined(address=self._context.address, provider=self._context.provider)

    def require_employer(self, peer_id: str) -> JoinedPool:
        """The employer, if `peer_id` is it. Raises `Refused`."""
        if self.employer is None or self.employer.peer_id != peer_id:
            raise Refused("not_my_orchestrator", "I take orders only from the pool I joined")
        self._heard_at = self._context.now()
        return self.employer

    def leave(self) -> None:
        self.employer = None

    async def _check_and_join(self, peer_id: str, invite: Invite) -> None:
        chain = self._context.chain
        if chain is None:
            return
        if invite.deadline <= self._context.wall():
            raise Refused("expired", "the invite's deadline has passed")
        pool = await chain.pools.info(invite.pool_id)
        sender = address_of_peer(peer_id)
        if pool.inviter is None and sender != pool.creator:
            raise Refused("bad_invite", f"pool {invite.pool_id} belongs to {pool.creator}")
        if pool.inviter is not None:
            digest = await chain.pools.invite_digest(
                invite.pool_id, self._context.address, invite.deadline
            )
            try:
                signer = recover(digest, invite.signature)
            except ProofError as exc:
                raise Refused("bad_invite", str(exc)) from exc
            if signer != pool.inviter or signer != sender:
                raise Refused("bad_invite", f"signed by {signer}, the pool's is {pool.inviter}")
        left = self.employer
        if left is not None and left.pool_id != invite.pool_id:
            await chain.pools.leave(left.pool_id)
        await chain.pools.join(invite.pool_id, invite.signature, invite.deadline)
