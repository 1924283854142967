"""Entering and leaving a pool: on chain where there is one, at the inviter's word where not.

On chain an invite counts when the pool's inviter sent and signed it for this node; where the pool
is open to all, when its creator sent it. Without a chain the first inviter is believed (and nobody
is paid).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from chain.errors import ChainError
from node.context import NodeContext
from node.onchain.receipt_domain import chain_refusals
from node.wire.messages.work import Invite
from p2p.errors import Refused
from proofs.encoding.signing import recover
from proofs.errors import ProofError

if TYPE_CHECKING:
    from chain.client import ChainClient


class PoolRegister(Protocol):
    """Who is in which pool."""

    async def join(self, invite: Invite, sender: str, left: int | None) -> None:
        """Enter the pool that `sender` (an address) invites to, and leave pool `left`. Raises
        `Refused` for an invite that does not count."""
        ...

    async def leave(self, pool_id: int) -> None:
        """Leave a pool, as far as that is possible now."""
        ...


class ChainPools:
    """The register is the pool contract."""

    def __init__(self, context: NodeContext, chain: ChainClient) -> None:
        self._context = context
        self._chain = chain

    async def join(self, invite: Invite, sender: str, left: int | None) -> None:
        """Check the invite and join on chain. Raises `Refused`."""
        if invite.deadline <= self._context.wall():
            raise Refused("expired", "the invite's deadline has passed")
        with chain_refusals():
            await self._check(invite, sender)
            if left is not None and left != invite.pool_id:
                await self._chain.pools.leave(left)
            await self._chain.pools.join(invite.pool_id, invite.signature, invite.deadline)

    async def leave(self, pool_id: int) -> None:
        """Leave on chain; a chain that does not answer is only logged."""
        try:
            await self._chain.pools.leave(pool_id)
        except ChainError as exc:
            self._context.log.warning("not left on chain", reason=str(exc))

    async def _check(self, invite: Invite, sender: str) -> None:
        pool = await self._chain.pools.info(invite.pool_id)
        if pool.inviter is None:
            if sender != pool.creator:
                raise Refused("bad_invite", f"pool {invite.pool_id} belongs to {pool.creator}")
            return
        digest = await self._chain.pools.invite_digest(
            invite.pool_id, self._context.address, invite.deadline
        )
        try:
            signer = recover(digest, invite.signature)
        except ProofError as exc:
            raise Refused("bad_invite", str(exc)) from exc
        if signer != pool.inviter or signer != sender:
            raise Refused("bad_invite", f"signed by {signer}, the pool's is {pool.inviter}")


class ChainlessPools:
    """There is no register: every invite counts."""

    async def join(self, invite: Invite, sender: str, left: int | None) -> None:
        """Nothing to check."""

    async def leave(self, pool_id: int) -> None:
        """Nothing to leave."""
