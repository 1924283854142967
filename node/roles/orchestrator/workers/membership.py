"""Who belongs to the pool and who may judge its work: as the chain says, or everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from node.onchain.registry import ChainRegistry
from node.wire.methods import INVITE
from p2p.admission.standing import Standing

if TYPE_CHECKING:
    from chain.client import ChainClient


OPEN_PATIENCE = 10.0
"""Seconds in which a worker answers an invite that costs it nothing to accept."""


class Membership(Protocol):
    """Who gets into the pool, and who is put out of it. All methods raise `ChainError` where a
    chain does not answer.

    Workers of less than `least` standing are not invited. An invite has lapsed after `patience`
    seconds without an answer.
    """

    least: Standing
    patience: float

    async def provider_of(self, peer_id: str) -> str:
        """The provider whose stake a worker is backed by, before it is invited; "" where none has
        to be. Raises `NotBacked`."""
        ...

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

    async def wait_changed(self, version: int) -> int:
        """Wait until somebody's stake is news since `version`; returns the new version."""
        ...


class NotBacked(Exception):
    """A worker that is not registered on chain, or whose provider has not the stake for it."""


class ChainMembership:
    """Membership in the pool `pool_id` of the chain, which this node owns."""

    least = Standing.STAKED
    patience = INVITE.timeout

    def __init__(self, chain: ChainClient, registry: ChainRegistry, pool_id: int) -> None:
        self._chain = chain
        self._registry = registry
        self._pool_id = pool_id

    async def provider_of(self, peer_id: str) -> str:
        """As the registry says; the pool contract would not let others in."""
        provider = await self._registry.confirm(peer_id)
        if not provider:
            raise NotBacked("it is not registered on chain, or has not the stake for it")
        return provider

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

    async def wait_changed(self, version: int) -> int:
        """As the registry learns of it."""
        return await self._registry.wait_changed(version)


class OpenMembership:
    """Without a chain: every worker that accepts is a member, and every announced validator may
    judge. Where workers come from and how long they have been here decides who is invited first."""

    least = Standing.STRANGER
    patience = OPEN_PATIENCE

    async def provider_of(self, peer_id: str) -> str:
        """Nobody has to be."""
        return ""

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

    async def wait_changed(self, version: int) -> int:
        """There are no stakes: wait for ever."""
        await trio.sleep_forever()
        raise AssertionError("unreachable")
