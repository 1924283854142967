from __future__ import annotations

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.peer.id import ID

from p2p.errors import ConfigError, InvalidPeerId
from p2p.identity import peer_id_from_public_key, peer_id_of, peer_public_key, public_key_of


@given(st.binary(min_size=32, max_size=32).filter(lambda k: 0 < int.from_bytes(k) < 2**255))
def test_a_peer_id_is_libp2ps_and_gives_the_key_back(private):
    peer_id = peer_id_of(private)
    assert peer_id == str(ID.from_pubkey(create_new_key_pair(private).public_key))
    assert peer_public_key(peer_id) == public_key_of(private)
    assert peer_public_key(peer_id) == coincurve.PrivateKey(private).public_key.format()


def test_a_known_peer_id():
    # The generator point: private key 1.
    one = (1).to_bytes(32, "big")
    assert peer_public_key(peer_id_of(one)).hex() == (
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0OIl",
        "16Uiu2HAm",
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",  # Ed25519
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",  # RSA, hashed
        "1" * 64,
        "1" * 100_000,
    ],
)
def test_other_ids_are_refused(text):
    with pytest.raises(InvalidPeerId):
        peer_public_key(text)


def test_an_id_whose_key_is_off_the_curve_is_refused():
    with pytest.raises(InvalidPeerId, match="curve"):
        peer_public_key(peer_id_from_public_key(b"\x02" + b"\xff" * 32))


@given(st.text(max_size=70))
def test_no_text_raises_anything_else(text):
    try:
        peer_public_key(text)
    except InvalidPeerId:
        return
    assert len(text) == 53


@pytest.mark.parametrize("private", [b"", bytes(31), bytes(32), b"\xff" * 32, bytes(33)])
def test_bad_private_keys_are_refused(private):
    with pytest.raises(ConfigError):
        peer_id_of(private)
