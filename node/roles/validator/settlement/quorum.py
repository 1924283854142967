"""Gathering validators' signatures on one digest until their stake carries the quorum."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from chain.errors import ChainError
from node.context import NodeContext
from node.errors import InputError
from node.wire.peer_addresses import peers_by_address
from p2p.errors import P2PError
from proofs.encoding.signing import recover, sign_digest
from proofs.errors import ProofError

if TYPE_CHECKING:
    from chain.client import ChainClient

Ask = Callable[[str], Awaitable[bytes]]
"""Asks the validator with this peer id for its signature; b"" where it gives none."""


class NotEnough(Exception):
    """The signatures do not carry the quorum."""

    def __init__(self, weight: int, needed: int) -> None:
        super().__init__(f"signatures carry {weight} of the {needed} stake that is needed")


async def collect(
    context: NodeContext, chain: ChainClient, digest: bytes, ask: Ask
) -> dict[str, bytes]:
    """Signatures by address, this node's own among them.

    All other validators whose records are here are asked at once, and nobody is waited for once the
    quorum is there. Raises `NotEnough`, `InputError` if this node is no staked validator, and
    `ChainError`.
    """
    quorum = (await chain.settlement.terms()).quorum
    needed = -(-await chain.validators.total_weight() * quorum // 10_000)
    own = await chain.validators.weight_of(context.address)
    if not own:
        raise InputError(
            f"{context.address} is no staked validator",
            "a federator grants the role; its provider stakes",
        )
    signatures = {context.address: sign_digest(context.key, digest)}
    weights = {context.address: own}
    peers = peers_by_address(context.network)

    async def ask_one(address: str, enough: trio.CancelScope) -> None:
        try:
            signature = await ask(peers[address])
            if signature and recover(digest, signature) == address:
                weights[address] = await chain.validators.weight_of(address)
                signatures[address] = signature
        except (P2PError, ProofError, ChainError) as exc:
            context.log.info("not cosigned", validator=address, reason=str(exc))
        if sum(weights.values()) >= needed:
            enough.cancel()

    if own < needed:
        others = [
            v for v in await chain.validators.addresses() if v in peers and v != context.address
        ]
        async with trio.open_nursery() as nursery:
            for address in others:
                nursery.start_soon(ask_one, address, nursery.cancel_scope)
    if sum(weights.values()) < needed:
        raise NotEnough(sum(weights.values()), needed)
    return signatures
