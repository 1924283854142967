"""Signatures equal eth-account's, and only one form of each is accepted."""

from __future__ import annotations

import contextlib

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_keys import keys
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.encoding.signing import (
    ORDER,
    SignatureError,
    SigningError,
    address_bytes,
    address_of,
    checksum_address,
    public_key_address,
    recover,
    sign_digest,
    sign_message,
    tagged_hash,
    verify_message,
)

private_keys = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
digests = st.binary(min_size=32, max_size=32)
KEY = b"\x01" * 32


@settings(max_examples=20, deadline=None)
@given(private_keys, digests)
def test_addresses_and_signatures_equal_eth_account(key: bytes, digest: bytes) -> None:
    account = Account.from_key(key)
    assert address_of(key) == account.address
    assert sign_digest(key, digest) == bytes(account.unsafe_sign_hash(digest).signature)
    assert recover(digest, sign_digest(key, digest)) == account.address


def test_both_public_key_forms_give_the_address() -> None:
    public = PrivateKey(KEY).public_key
    assert public_key_address(public.format(compressed=True)) == address_of(KEY)
    assert public_key_address(public.format(compressed=False)) == address_of(KEY)
    assert address_of(KEY) == keys.PrivateKey(KEY).public_key.to_checksum_address()
    for bad in (b"", bytes(33), bytes(65), b"\x02" * 32):
        with pytest.raises(SigningError):
            public_key_address(bad)


@given(st.binary(min_size=20, max_size=20))
def test_addresses_have_one_text(raw: bytes) -> None:
    text = checksum_address(raw)
    assert address_bytes(text) == raw
    for other in (text.swapcase(), text[2:], text + "00", " " + text):
        with pytest.raises(SigningError):
            address_bytes(other)


def test_addresses_that_are_no_hex_are_refused() -> None:
    for bad in ("", "0x", "0x" + "g" * 40, "é" * 42):
        with pytest.raises(SigningError):
            address_bytes(bad)
    with pytest.raises(SigningError):
        checksum_address(b"short")


@given(digests, st.integers(0, 64), st.integers(1, 255))
def test_a_changed_signature_never_recovers_the_signer(
    digest: bytes, place: int, flip: int
) -> None:
    changed = bytearray(sign_digest(KEY, digest))
    changed[place] ^= flip
    with contextlib.suppress(SignatureError):
        assert recover(digest, bytes(changed)) != address_of(KEY)


def test_the_upper_s_twin_is_refused() -> None:
    signature = sign_digest(KEY, bytes(32))
    s = ORDER - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])
    assert keys.Signature(twin[:64] + bytes([twin[64] - 27])).recover_public_key_from_msg_hash(
        bytes(32)
    ).to_checksum_address() == address_of(KEY)  # a valid signature elsewhere
    with pytest.raises(SignatureError, match="upper half"):
        recover(bytes(32), twin)


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (b"", "65 bytes"),
        (bytes(66), "65 bytes"),
        (b"\x01" * 64 + b"\x00", "27 or 28"),
        (b"\x01" * 64 + b"\x1d", "27 or 28"),
        (bytes(32) + b"\x01" * 32 + b"\x1b", "outside"),
        (b"\x01" * 32 + bytes(32) + b"\x1b", "outside"),
        (b"\xff" * 32 + b"\x01" * 32 + b"\x1b", "outside"),
        ((5).to_bytes(32, "big") + b"\x01" * 32 + b"\x1b", "no key"),
    ],
)
def test_malformed_signatures_are_refused(signature: bytes, reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        recover(bytes(32), signature)


def test_unusable_keys_and_digests_are_refused() -> None:
    for key in (b"", bytes(32), b"\xff" * 32, b"\x01" * 31):
        with pytest.raises(SigningError, match="private key"):
            sign_digest(key, bytes(32))
    with pytest.raises(SigningError, match="digest"):
        sign_digest(KEY, b"short")
    with pytest.raises(SigningError, match="digest"):
        recover(b"short", bytes(65))


def test_messages_are_bound_to_domain_payload_and_signer() -> None:
    signature = sign_message(KEY, "hop/1", b"payload")
    assert verify_message(address_of(KEY), "hop/1", b"payload", signature)
    assert not verify_message(address_of(KEY), "hop/2", b"payload", signature)
    assert not verify_message(address_of(KEY), "hop/1", b"payloae", signature)
    assert not verify_message(address_of(b"\x02" * 32), "hop/1", b"payload", signature)
    assert not verify_message(address_of(KEY), "hop/1", b"payload", b"garbage")
    assert tagged_hash("a", b"bc") != tagged_hash("ab", b"c")
