"""Who belongs to the pool and who may judge its work: as the chain says, or everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from node.wire.methods import INVITE

if TYPE_CHECKING:
    from chain.client import ChainClient


class Membership(Protocol):
    """Who gets into the pool, and who is put out of it. All methods raise `ChainError` where a
    chain does not answer. An invite is answered within `patience` seconds, or it has lapsed."""

    patience: float

    async def sign_invite(self, address: str, deadline: int) -> bytes:
        """The inviter's signature that lets `address` in until `deadline` (unix seconds)."""
        ...

    async def is_member(self, address: str) -> bool:
        """Whether a worker that accepted its invite really is in."""
        ...

    async def eject(self, address: str) -> None:
        """Put a convicted worker out."""
        ...

    async def may_judge(self, address: str) -> bool:
        """Whether this address may sign verdicts."""
        ...


class ChainMembership:
    """Membership in the pool `pool_id` of the chain, which this node owns. Joining takes a worker
    two transactions."""

    patience = INVITE.timeout

    def __init__(self, chain: ChainClient, pool_id: int) -> None:
        self._chain = chain
        self._pool_id = pool_id

    async def sign_invite(self, address: str, deadline: int) -> bytes:
        """The pool contract checks this signature when the worker joins."""
        return await self._chain.pools.sign_invite(self._pool_id, address, deadline)

    async def is_member(self, address: str) -> bool:
        """Whether the pool contract has it."""
        return await self._chain.pools.is_member(self._pool_id, address)

    async def eject(self, address: str) -> None:
        """By a transaction; returns once it is final."""
        await self._chain.pools.eject(self._pool_id, address)

    async def may_judge(self, address: str) -> bool:
        """Whether it has the validator role."""
        return await self._chain.validators.is_admitted(address)


class OpenMembership:
    """Without a chain: every worker that accepts is a member, and every announced validator may
    judge. Joining costs a worker nothing, and no time."""

    patience = 10.0

    async def sign_invite(self, address: str, deadline: int) -> bytes:
        """Nobody checks one."""
        return b""

    async def is_member(self, address: str) -> bool:
        """It accepted; that is all there is."""
        return True

    async def eject(self, address: str) -> None:
        """The ban in this node's own tables is all there is."""

    async def may_judge(self, address: str) -> bool:
        """Everybody may."""
        return True
