"""Whether a peer is a staked validator, without asking the chain for whoever asks.

The list of validators is read at most once in `seconds`, whoever asks and however often, and so is
the stake of each of them. So a stranger's request costs nothing, and a new validator is turned away
for a few seconds at most. Where the chain does not answer, what it said last counts for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from chain.errors import ChainError
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused

if TYPE_CHECKING:
    from chain.client import ChainClient


class StakedPeers:
    """`now` gives monotonic seconds. An answer holds for `seconds`, and for `stale` where the chain
    gives no other."""

    def __init__(
        self,
        chain: ChainClient,
        now: Callable[[], float],
        seconds: float = 5.0,
        stale: float = 60.0,
    ) -> None:
        self._chain = chain
        self._now = now
        self._seconds = seconds
        self._stale = stale
        self._reading = trio.Lock()
        self._asked = float("-inf")
        self._read = float("-inf")
        self._weights: dict[str, int | None] = {}
        """By address of every validator; None until it was asked for."""

    async def require(self, peer_id: str) -> str:
        """The validator's address. Raises `Refused` for a peer that is none, or where the chain
        does not tell."""
        address = address_of_peer(peer_id)
        if not address:
            raise Refused("not_a_validator", "that peer id is not of a secp256k1 key")
        async with self._reading:
            await self._read_list()
            if address not in self._weights:
                raise Refused("not_a_validator", f"{address} does not validate on chain")
            weight = self._weights[address]
            if weight is None:
                weight = self._weights[address] = await self._ask_weight(address)
        if not weight:
            raise Refused("not_a_validator", f"{address} does not validate on chain")
        return address

    async def _read_list(self) -> None:
        now = self._now()
        if now - self._asked < self._seconds:
            if now - self._read >= self._stale:
                raise Refused("chain", "the chain does not say who validates; ask again")
            return
        self._asked = now
        try:
            addresses = await self._chain.validators.addresses()
        except ChainError as exc:
            if now - self._read >= self._stale:
                raise Refused("chain", str(exc)) from exc
            return
        self._read = self._now()
        self._weights = dict.fromkeys(addresses)

    async def _ask_weight(self, address: str) -> int:
        try:
            return await self._chain.validators.weight_of(address)
        except ChainError as exc:
            raise Refused("chain", str(exc)) from exc
