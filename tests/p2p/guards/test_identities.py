"""Every libp2p key type, and every offence up to a ban: only secp256k1 gets in, nothing ends."""

from __future__ import annotations

import time

import pytest
import trio
from libp2p.crypto.ecc import create_new_key_pair as ecdsa
from libp2p.crypto.ed25519 import create_new_key_pair as ed25519
from libp2p.crypto.rsa import create_new_key_pair as rsa
from libp2p.crypto.secp256k1 import create_new_key_pair as secp256k1
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from p2p.admission.budgets import Budgets
from p2p.guards.host import GuardedHost
from p2p.guards.upgrader import GuardedUpgrader
from p2p.host import running_host
from p2p.identity import is_peer_id
from p2p.network import NetworkConfig, open_network
from p2p.peering.addresses import peer_id_object
from p2p.peering.scores import Offence

KEYS = {
    "ed25519": ed25519,
    "rsa": lambda: rsa(2048),
    "ecdsa": lambda: ecdsa("P-256"),
    "secp256k1": secp256k1,
}
ABLE_TO_CONNECT = ["ed25519", "rsa"]  # the library cannot sign a handshake with its ECDSA keys


def host_of(pair) -> GuardedHost:
    return GuardedHost(
        pair,
        admits=lambda peer: True,
        on_fault=lambda *fault: None,
        announce=lambda all: list(all),
        budgets=Budgets(clock=time.monotonic),
    )


@pytest.mark.parametrize("kind", ABLE_TO_CONNECT)
async def test_other_identities_are_refused_at_the_handshake(key, kind):
    async with open_network(NetworkConfig(), key(0)) as node:
        stranger = host_of(KEYS[kind]())
        async with running_host(stranger, (Multiaddr("/ip4/127.0.0.1/tcp/0"),)):
            bare = Multiaddr(node.addresses[0].rpartition("/p2p/")[0])
            with trio.fail_after(60), pytest.raises(SwarmException):
                await stranger.get_network().dial_peer(peer_id_object(node.peer_id), [bare])
            assert node.peers() == ()


@pytest.mark.parametrize("kind", KEYS)
async def test_every_offence_up_to_a_ban_ends_nothing(key, kind):
    """Whoever it is charged to, even an id that never could have connected."""
    peer_id = str(ID.from_pubkey(KEYS[kind]().public_key))
    assert is_peer_id(peer_id) is (kind == "secp256k1")
    async with open_network(NetworkConfig(), key(0)) as node:
        for offence in Offence:
            for _ in range(12):
                node._peers.offend(peer_id, offence, "test")
                await trio.testing.wait_all_tasks_blocked(0.001)
        assert not node._peers.admits(peer_id)
        await node.disconnect(peer_id)
        assert node.rtt(peer_id) is None
        assert not node.connected(peer_id)
        assert node.troubles == ()


@pytest.mark.parametrize("offence", Offence)
async def test_a_connected_peer_offends_until_it_is_banned(key, offence):
    async with (
        open_network(NetworkConfig(), key(0)) as node,
        open_network(NetworkConfig(), key(1)) as rogue,
    ):
        await rogue.connect(node.addresses[0])
        events = rogue.peer_events()
        while node._peers.admits(rogue.peer_id):
            node._peers.offend(rogue.peer_id, offence, "test")
        with trio.fail_after(60):
            assert (await events.receive()).peer_id == node.peer_id
        assert node.troubles == ()


def test_the_upgrader_is_ours(key):
    assert isinstance(host_of(secp256k1(key(0))).get_network().upgrader, GuardedUpgrader)
