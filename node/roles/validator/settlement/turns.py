"""Whose turn it is: an order of validators that all of them compute alike.

Honest validators often want to do the very same thing: post an epoch, dispute a root, convict a
node. They need not agree on who does it, for the order follows from public facts alone, and each
waits a little longer than those before it, in case they are gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from proofs.encoding.signing import keccak256


def turn_of(address: str, validators: Sequence[str], pool_id: int, epoch: int) -> int:
    """How many of the `validators` go before `address` in this epoch of the pool; all of them where
    it is none of them."""

    def rank(validator: str) -> bytes:
        seed = f"prime-node/proposer/1:{pool_id}:{epoch}:{validator.lower()}"
        return keccak256(seed.encode())

    order = sorted(validators, key=rank)
    return order.index(address) if address in order else len(order)
