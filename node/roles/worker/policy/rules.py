"""The operator's rules about a single offer, whatever else goes on.

They are asked twice: with what the invite itself says, before the chain is read for a stranger,
and again with the price that the chain knows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from node.roles.worker.policy.decline import Decline
from node.roles.worker.policy.hours import Window, clock, is_open, minutes_until_change


@dataclass(frozen=True)
class Offer:
    """What an invite offers. `price` is wei of the token for one layer and one token, None where
    the pool pays nobody for work."""

    pool_id: int
    model_id: bytes
    price: int | None = None


def not_stored(model_id: bytes, name: str) -> Decline:
    """A model that is not here cannot be served: to join its pool would cost gas for nothing."""
    said = f"model {model_id.hex()[:12]} is not in the store; prime-node model get {name}"
    return Decline("no_model", said, waits=True)


@dataclass(frozen=True)
class Rules:
    """`pools` and `models` None means any; models are ids. `min_price` as `Offer.price`; `disk` in
    bytes, 0 for no bound; `hours` as `policy.hours` has them."""

    pools: frozenset[int] | None = None
    refused_pools: frozenset[int] = frozenset()
    models: frozenset[bytes] | None = None
    min_price: int = 0
    disk: int = 0
    hours: Sequence[Window] = ()

    def before_the_chain(self, offer: Offer, minute: int) -> Decline | None:
        """What can be said of an invite without asking anybody. `minute` of the local day."""
        if not self.allows_pool(offer.pool_id):
            return Decline("policy_pool", f"the operator does not serve pool {offer.pool_id}")
        if self.models is not None and offer.model_id not in self.models:
            named = offer.model_id.hex()[:12]
            return Decline("policy_model", f"the operator does not serve model {named}")
        return self.closed(minute)

    def price(self, offer: Offer) -> Decline | None:
        """Whether the offer pays what the operator asks."""
        if self.min_price == 0:
            return None
        if offer.price is None:
            said = "it does not pay for work"
        elif offer.price < self.min_price:
            said = f"it pays {offer.price} wei for a layer and token"
        else:
            return None
        return Decline("policy_price", f"{said}, the operator asks for {self.min_price}")

    def room(self, used: int) -> Decline | None:
        """Whether there is room on the disk that the operator lends, of which `used` bytes are."""
        if self.disk and used >= self.disk:
            said = f"{used} bytes are used of the {self.disk} that the operator lends"
            return Decline("policy_disk", said, waits=True)
        return None

    def closed(self, minute: int) -> Decline | None:
        """Whether the node works at this minute of the local day."""
        if is_open(self.hours, minute):
            return None
        again = minute + (minutes_until_change(self.hours, minute) or 0)
        return Decline("policy_hours", f"this node works again from {clock(again)}", waits=True)

    def allows_pool(self, pool_id: int) -> bool:
        """Whether the operator serves that pool at all."""
        allowed: Collection[int] = (pool_id,) if self.pools is None else self.pools
        return pool_id in allowed and pool_id not in self.refused_pools
