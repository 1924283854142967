from __future__ import annotations

import json

import pytest

from p2p.errors import ConfigError
from p2p.identity import peer_id_of
from p2p.peering.addresses import (
    MAX_PEERS,
    AddressBook,
    announced,
    interface_addresses,
    parse_address,
    split_peer_address,
)


@pytest.fixture
def peer(key):
    return peer_id_of(key(0))


def test_a_peer_address_is_split(peer):
    assert split_peer_address(f"/ip4/10.0.0.1/tcp/4001/p2p/{peer}") == (
        peer,
        parse_address("/ip4/10.0.0.1/tcp/4001"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.1:4001",
        "/ip4/300.0.0.1/tcp/1",
        "/ip4/10.0.0.1/tcp/4001",
        "/ip4/1/" + "x" * 300,
        "/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
    ],
)
def test_other_texts_are_refused_with_advice(text):
    with pytest.raises(ConfigError):
        split_peer_address(text)


def test_the_book_survives_on_disk(tmp_path, peer):
    path = tmp_path / "deep" / "peers.json"
    address = f"/ip4/10.0.0.1/tcp/4001/p2p/{peer}"
    book = AddressBook(path)
    book.remember(peer, (address,))
    book.save()
    assert AddressBook(path).addresses(peer) == (address,)
    assert [p.name for p in path.parent.iterdir()] == ["peers.json"]


def test_an_address_that_names_another_peer_is_not_kept(tmp_path, peer, key):
    book = AddressBook(None)
    book.remember(peer, (f"/ip4/10.0.0.1/tcp/4001/p2p/{peer_id_of(key(1))}", "/ip4/1.2.3.4/tcp/1"))
    assert book.peers() == ()
    book.save()


def test_records_of_strangers_do_not_flush_the_peers_that_were_reached(tmp_path, key, peer):
    path = tmp_path / "peers.json"
    book = AddressBook(path)
    book.remember(peer, (f"/ip4/10.0.0.1/tcp/1/p2p/{peer}",), reached=True)
    for number in range(1, 2 * MAX_PEERS):
        sybil = peer_id_of(key(number))
        book.remember(sybil, (f"/ip4/203.0.113.9/tcp/9/p2p/{sybil}",))
    assert len(book.peers()) == MAX_PEERS
    assert book.peers()[0] == peer
    book.save()
    assert AddressBook(path).peers()[0] == peer


def test_the_newest_peers_push_out_the_oldest(key):
    book = AddressBook(None)
    ids = [peer_id_of(key(number)) for number in range(MAX_PEERS + 3)]
    for peer_id in ids:
        book.remember(peer_id, (f"/ip4/10.0.0.1/tcp/4001/p2p/{peer_id}",))
    assert len(book.peers()) == MAX_PEERS
    assert book.peers()[0] == ids[-1]
    assert ids[2] not in book.peers()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", '{"x": ["/ip4/1.2.3.4/tcp/1"]}', '{"x": 7}', json.dumps({"x": [1]})],
)
def test_a_damaged_book_is_an_empty_one(tmp_path, content):
    path = tmp_path / "peers.json"
    path.write_text(content)
    assert AddressBook(path).peers() == ()


INTERFACES = ["127.0.0.1", "10.0.0.5", "::1", "fe80::1", "2001:db8::7"]


@pytest.mark.parametrize(
    ("listening", "external", "told"),
    [
        (["/ip4/127.0.0.1/tcp/1"], [], ["/ip4/127.0.0.1/tcp/1"]),
        (["/ip4/0.0.0.0/tcp/1"], [], ["/ip4/10.0.0.5/tcp/1", "/ip4/127.0.0.1/tcp/1"]),
        (["/ip6/::/tcp/1"], [], ["/ip6/2001:db8::7/tcp/1", "/ip6/::1/tcp/1"]),
        (["/ip4/0.0.0.0/tcp/1"], ["/ip4/1.2.3.4/tcp/9"], ["/ip4/1.2.3.4/tcp/9"]),
        (["/ip4/10.0.0.5/tcp/1", "/ip4/10.0.0.5/tcp/1"], [], ["/ip4/10.0.0.5/tcp/1"]),
    ],
)
def test_others_are_told_addresses_that_lead_here(listening, external, told):
    bound, configured = ([parse_address(a) for a in texts] for texts in (listening, external))
    assert [str(a) for a in announced(bound, configured, INTERFACES)] == told


def test_this_machine_has_a_loopback_address():
    assert {"127.0.0.1", "::1"} & set(interface_addresses())
