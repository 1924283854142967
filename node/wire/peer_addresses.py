"""A peer's address: both follow from the same secp256k1 key.

This is the one way from a peer id to an address. The way back goes through node records, since an
address is a hash of the key.
"""

from __future__ import annotations

from functools import lru_cache

from p2p.errors import InvalidPeerId
from p2p.identity import peer_public_key
from p2p.network import Network
from proofs.encoding.signing import public_key_address

ADDRESSES_KEPT = 16_384
"""Addresses that are remembered. A key's address takes about 0.1 ms to find, a full table of
records holds thousands, and look-ups go through all of them."""


@lru_cache(maxsize=ADDRESSES_KEPT)
def address_of_peer(peer_id: str) -> str:
    """The address of a peer id's key, "" for what is no secp256k1 peer id."""
    try:
        return public_key_address(peer_public_key(peer_id))
    except InvalidPeerId:
        return ""


def peers_by_address(network: Network) -> dict[str, str]:
    """Peer ids by address, of all nodes whose records are here."""
    return {address_of_peer(record.peer_id): record.peer_id for record in network.records.all()}
