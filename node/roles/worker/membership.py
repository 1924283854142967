"""Joining a pool: check an orchestrator's invite, join on chain, remember whom to obey.

A worker serves one pool at a time and takes orders only from the peer whose invite it accepted. An
invite counts when the pool's inviter on chain signed it for this node; without a chain, the first
inviter is believed (and nobody is paid).
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.protocol import Invite, Joined
from p2p.errors import Refused
from p2p.identity import peer_public_key
from proofs.errors import ProofError
from proofs.signing import public_key_address, recover


@dataclass(frozen=True)
class Employer:
    """The pool this worker is in: its orchestrator's peer id and address."""

    peer_id: str
    address: str
    pool_id: int
    model_id: bytes
    model_name: str


class Membership:
    """The worker's place in a pool."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._lock = trio.Lock()
        self.employer: Employer | None = None

    async def on_invite(self, peer_id: str, invite: Invite) -> Joined:
        """Answer an invite once this node is a member on chain. Raises `Refused`."""
        async with self._lock:
            employer = self.employer
            if employer is not None and employer.peer_id != peer_id:
                raise Refused("taken", f"already in pool {employer.pool_id}")
            await self._check_and_join(peer_id, invite)
            self.employer = Employer(
                peer_id,
                public_key_address(peer_public_key(peer_id)),
                invite.pool_id,
                invite.model_id,
                invite.model_name,
            )
        self._context.log.info("joined pool", pool=invite.pool_id, orchestrator=peer_id)
        return Joined(address=self._context.address, provider=self._context.provider)

    def require_employer(self, peer_id: str) -> Employer:
        """The employer, if `peer_id` is it. Raises `Refused`."""
        if self.employer is None or self.employer.peer_id != peer_id:
            raise Refused("not_my_orchestrator", "I take orders only from the pool I joined")
        return self.employer

    def leave(self) -> None:
        self.employer = None

    async def _check_and_join(self, peer_id: str, invite: Invite) -> None:
        chain = self._context.chain
        if chain is None:
            return
        if invite.deadline <= self._context.wall():
            raise Refused("expired", "the invite's deadline has passed")
        pool = await chain.pool(invite.pool_id)
        sender = public_key_address(peer_public_key(peer_id))
        if pool.inviter is not None:
            digest = await chain.invite_digest(
                invite.pool_id, self._context.address, invite.deadline
            )
            try:
                signer = recover(digest, invite.signature)
            except ProofError as exc:
                raise Refused("bad_invite", str(exc)) from exc
            if signer != pool.inviter or signer != sender:
                raise Refused("bad_invite", f"signed by {signer}, the pool's is {pool.inviter}")
        await chain.join_pool(invite.pool_id, invite.signature, invite.deadline)
