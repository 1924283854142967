"""The pool on chain, as its owner sees it: invites, membership, ejection, and who may judge.

Without a chain every worker that accepts is a member, every announced validator may judge, and
nothing is settled.
"""

from __future__ import annotations

from node.context import NodeContext
from node.onchain.receipt_domain import chain_refusals
from node.roles.orchestrator.coordinator.events import Event, PeerDeclined, PeerJoined
from node.wire.protocol import INVITE, Invite
from node.wire.rpc import call
from p2p.errors import P2PError, Refused
from p2p.identity import peer_public_key
from proofs.encoding.signing import public_key_address

INVITE_SECONDS = 600


class Inviter:
    """Invites workers into the pool `pool_id` (0 without a chain)."""

    def __init__(
        self, context: NodeContext, pool_id: int, model_id: bytes, model_name: str
    ) -> None:
        self._context = context
        self._pool_id = pool_id
        self._model_id = model_id
        self._model_name = model_name

    async def invite(self, peer_id: str) -> Event:
        """Invite one worker; `PeerJoined` once it is a member, else `PeerDeclined`."""
        from chain.errors import ChainError

        try:
            address = public_key_address(peer_public_key(peer_id))
            invite = await self._signed_invite(address)
            joined = await call(self._context, peer_id, INVITE, invite)
            if joined.address != address:
                return PeerDeclined(peer_id, f"answered with another address {joined.address}")
            chain = self._context.chain
            if chain is not None and not await chain.is_member(self._pool_id, address):
                return PeerDeclined(peer_id, "it is not a member on chain")
        except (P2PError, ChainError) as exc:
            return PeerDeclined(peer_id, str(exc))
        return PeerJoined(peer_id, joined.address, joined.provider)

    async def eject(self, peer_id: str) -> None:
        """Put a convicted worker out of the pool on chain."""
        from chain.errors import ChainError

        if self._context.chain is None:
            return
        address = public_key_address(peer_public_key(peer_id))
        try:
            await self._context.chain.eject_node(self._pool_id, address)
        except ChainError as exc:
            self._context.log.warning("not ejected on chain", peer=peer_id, reason=str(exc))

    async def require_validator(self, peer_id: str, address: str) -> None:
        """Raise `Refused` unless `peer_id` signs as `address` and may judge on chain."""
        if public_key_address(peer_public_key(peer_id)) != address:
            raise Refused("bad_verdict", "signed by another node than the one that sends it")
        chain = self._context.chain
        if chain is None:
            return
        with chain_refusals():
            known = await chain.is_validator(address)
        if not known:
            raise Refused("not_a_validator", f"{address} has no validator role on chain")

    async def _signed_invite(self, address: str) -> Invite:
        deadline = int(self._context.wall()) + INVITE_SECONDS
        signature = b""
        chain = self._context.chain
        if chain is not None:
            signature = await chain.sign_invite(self._pool_id, address, deadline)
        return Invite(
            pool_id=self._pool_id,
            model_id=self._model_id,
            model_name=self._model_name,
            deadline=deadline,
            signature=signature,
        )
