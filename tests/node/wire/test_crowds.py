"""Thousands of free identities neither slow look-ups by address nor stand before proven peers."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace
from typing import Any

from node.wire.blobs import MAX_PEERS, by_standing
from node.wire.peer_addresses import ADDRESSES_KEPT, address_of_peer, peers_by_address
from p2p.admission.standing import Standing
from p2p.identity import peer_id_of
from proofs.encoding.signing import address_of


def test_an_address_is_worked_out_once() -> None:
    keys = [sha256(b"crowd %d" % n).digest() for n in range(50)]
    records = [SimpleNamespace(peer_id=peer_id_of(key)) for key in keys]
    network: Any = SimpleNamespace(records=SimpleNamespace(all=lambda: records))
    found = peers_by_address(network)
    assert {address_of(key): peer_id_of(key) for key in keys} == found
    before = address_of_peer.cache_info().misses
    for _ in range(10):
        assert peers_by_address(network) == found
    assert address_of_peer.cache_info().misses == before
    assert address_of_peer.cache_info().maxsize == ADDRESSES_KEPT


def test_proven_peers_are_asked_before_a_crowd_of_new_ones() -> None:
    known = {"staked": Standing.STAKED, "proven": Standing.PROVEN}
    peers = [f"sybil {n}" for n in range(4096)] + list(known)
    asked = by_standing(peers, lambda peer: known.get(peer, Standing.STRANGER))[:MAX_PEERS]
    assert asked[:2] == ["staked", "proven"]
    assert sorted(by_standing(peers, lambda _peer: 0)) == sorted(peers)
    assert by_standing(peers, lambda _peer: 0) != peers
