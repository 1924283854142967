"""Workers are invited into the pool, and put out of it; validators are let in to judge.

Whether a worker may be a member at all is asked before anything is spent on it: before an invite is
signed, and before it is asked to spend gas itself.
"""

from __future__ import annotations

import trio

from chain.errors import ChainError
from node.context import NodeContext
from node.onchain.receipt_domain import chain_refusals
from node.roles.orchestrator.coordinator.events import PeerDeclined, PeerJoined
from node.roles.orchestrator.workers.membership import Membership, NotBacked
from node.wire.messages.work import Invite
from node.wire.methods import INVITE
from node.wire.peer_addresses import address_of_peer
from node.wire.rpc import call
from p2p.errors import P2PError, Refused

INVITE_SECONDS = 600
"""How long an invite's signature is good for."""
MOST_READING = 16
"""Invites for which the chain is read at a time."""


class Inviter:
    """Invites workers into the pool `pool_id` (0 without a chain)."""

    def __init__(
        self,
        context: NodeContext,
        membership: Membership,
        *,
        pool_id: int,
        model_id: bytes,
        model_name: str,
    ) -> None:
        self._context = context
        self._membership = membership
        self._pool_id = pool_id
        self._model_id = model_id
        self._model_name = model_name
        self._reading = trio.CapacityLimiter(MOST_READING)

    async def invite(self, peer_id: str) -> PeerJoined | PeerDeclined:
        """Invite one worker; `PeerJoined` once it is a member, else `PeerDeclined`."""
        address = address_of_peer(peer_id)
        try:
            async with self._reading:
                provider = await self._membership.provider_of(peer_id)
                invite = await self._signed_invite(address)
        except (NotBacked, ChainError) as exc:
            return PeerDeclined(peer_id, str(exc))
        asked_at = self._context.now()
        try:
            joined = await call(
                self._context, peer_id, INVITE, invite, timeout=self._membership.patience
            )
        except P2PError as exc:
            return PeerDeclined(peer_id, str(exc), self._context.now() - asked_at)
        took = self._context.now() - asked_at
        if joined.address != address:
            reason = f"answered with another address {joined.address}"
            return PeerDeclined(peer_id, reason, took)
        if provider and joined.provider != provider:
            reason = f"works for {joined.provider}, it says; the chain says {provider}"
            return PeerDeclined(peer_id, reason, took)
        try:
            async with self._reading:
                is_member = await self._membership.is_member(address)
        except ChainError as exc:
            return PeerDeclined(peer_id, str(exc))
        if not is_member:
            return PeerDeclined(peer_id, "it is not a member on chain", took)
        return PeerJoined(peer_id, joined.address, joined.provider)

    async def eject(self, peer_id: str) -> None:
        """Put a convicted worker out of the pool; a failure is logged."""
        try:
            await self._membership.eject(address_of_peer(peer_id))
        except ChainError as exc:
            self._context.log.warning("not ejected on chain", peer=peer_id, reason=str(exc))

    async def require_validator(self, peer_id: str, address: str) -> None:
        """Raise `Refused` unless `peer_id` signs as `address` and may judge."""
        if address_of_peer(peer_id) != address:
            raise Refused("bad_verdict", "signed by another node than the one that sends it")
        with chain_refusals():
            known = await self._membership.may_judge(address)
        if not known:
            raise Refused("not_a_validator", f"{address} has no validator role on chain")

    async def _signed_invite(self, address: str) -> Invite:
        deadline = int(self._context.wall()) + INVITE_SECONDS
        return Invite(
            pool_id=self._pool_id,
            model_id=self._model_id,
            model_name=self._model_name,
            deadline=deadline,
            signature=await self._membership.sign_invite(address, deadline),
        )
