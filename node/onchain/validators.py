"""Whether a peer validates on chain: what is asked before anything of its request is read.

Anybody can make this node ask the chain, so few questions run at a time, one for a peer, and a
validator's good answer is remembered for a while: strangers who ask keep no validator waiting that
was here lately.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.onchain.receipt_domain import chain_refusals
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused

if TYPE_CHECKING:
    from chain.client import ChainClient


@dataclass(frozen=True)
class LookupLimits:
    """`at_once` questions run at a time; that a peer is a validator holds for `seconds`, of the
    newest `known`."""

    at_once: int = 8
    seconds: float = 60.0
    known: int = 1024


class ValidatorsOnly:
    """Lets validators in. `now` gives monotonic seconds."""

    def __init__(
        self, chain: ChainClient, now: Callable[[], float], limits: LookupLimits | None = None
    ) -> None:
        self._chain = chain
        self._now = now
        self._limits = limits or LookupLimits()
        self._until: dict[str, float] = {}
        self._asking: set[str] = set()

    async def require(self, peer_id: str) -> None:
        """Raise `Refused` unless the peer has a validator's weight."""
        if self._until.get(peer_id, 0.0) > self._now():
            return
        if peer_id in self._asking or len(self._asking) >= self._limits.at_once:
            raise Refused("busy", "the chain is being asked about others; ask again")
        address = address_of_peer(peer_id)
        self._asking.add(peer_id)
        try:
            with chain_refusals():
                weight = await self._chain.validators.weight_of(address) if address else 0
        finally:
            self._asking.discard(peer_id)
        self._until.pop(peer_id, None)
        if not weight:
            raise Refused("not_a_validator", f"{address or peer_id} does not validate on chain")
        self._until[peer_id] = self._now() + self._limits.seconds
        while len(self._until) > self._limits.known:
            del self._until[next(iter(self._until))]
