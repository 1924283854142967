"""EIP-712 digests equal eth-account's, for every message and any field values."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from proofs.encoding.eip712 import Domain, EncodingError, unword, word
from proofs.encoding.receipts import (
    Conviction,
    EpochRoot,
    NodeRegistration,
    PoolInvite,
    Receipt,
    TypedMessage,
)
from proofs.encoding.signing import SigningError, address_of, checksum_address, keccak256

KEY = b"\x07" * 32
DOMAIN = Domain(chain_id=31337, verifying_contract=checksum_address(b"\xcc" * 20))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "address": st.binary(min_size=20, max_size=20).map(checksum_address),
    "bytes32": st.binary(min_size=32, max_size=32),
    "uint32": st.integers(0, 2**32 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "uint128": st.integers(0, 2**128 - 1),
    "uint256": st.integers(0, 2**256 - 1),
}
MESSAGES: list[type[TypedMessage]] = [Receipt, EpochRoot, Conviction, NodeRegistration, PoolInvite]


@st.composite
def any_message(draw: st.DrawFn) -> TypedMessage:
    cls = draw(st.sampled_from(MESSAGES))
    kinds = [kind for kind, _ in cls.STRUCT.fields]
    return cls(**{n: draw(VALUES[k]) for n, k in zip(cls.model_fields, kinds, strict=True)})


def reference_digest(message: TypedMessage, domain: Domain) -> bytes:
    struct = message.STRUCT
    encoded = encode_typed_data(
        {
            "name": "PrimeNode",
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.verifying_contract,
        },
        {struct.name: [{"name": name, "type": kind} for kind, name in struct.fields]},
        {
            n: getattr(message, f)
            for (_, n), f in zip(struct.fields, message.model_dump(), strict=True)
        },
    )
    return keccak256(b"\x19" + encoded.version + encoded.header + encoded.body)


@settings(max_examples=60, deadline=None)
@given(any_message(), st.integers(0, 2**63), VALUES["address"])
def test_digests_equal_eth_account(message: TypedMessage, chain_id: int, contract: str) -> None:
    domain = Domain(chain_id, contract)
    assert message.digest(domain) == reference_digest(message, domain)


@given(any_message())
def test_bytes_round_trip(message: TypedMessage) -> None:
    assert type(message).from_bytes(message.to_bytes()) == message


def test_field_names_are_the_contracts_in_snake_case() -> None:
    for cls in MESSAGES:
        camel = [name for _, name in cls.STRUCT.fields]
        snake = ["".join(f"_{c.lower()}" if c.isupper() else c for c in name) for name in camel]
        assert snake == list(cls.model_fields)
    assert Receipt.STRUCT.type_string == (
        "Receipt(bytes32 jobId,address worker,uint256 poolId,uint32 stage,uint32 seq,"
        "address counterparty,uint64 epoch,uint128 units,bytes32 commitment)"
    )
    assert EpochRoot.STRUCT.type_string == (
        "EpochRoot(uint256 poolId,uint64 epoch,bytes32 receiptsRoot,bytes32 payoutsRoot,"
        "uint64 receiptCount,uint128 totalUnits,uint128 rate,uint128 totalPayout,bytes32 dataHash)"
    )


def test_eth_account_signs_what_we_verify_and_the_reverse() -> None:
    invite = PoolInvite(pool_id=3, node=address_of(KEY), nonce=0, deadline=2_000_000_000)
    theirs = bytes(Account.from_key(KEY).unsafe_sign_hash(invite.digest(DOMAIN)).signature)
    assert invite.sign(KEY, DOMAIN) == theirs
    assert invite.signed_by(address_of(KEY), DOMAIN, theirs)
    elsewhere = Domain(chain_id=1, verifying_contract=DOMAIN.verifying_contract)
    assert not invite.signed_by(address_of(KEY), elsewhere, theirs)
    assert not invite.signed_by(address_of(KEY), DOMAIN, b"")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pool_id", -1),
        ("pool_id", 2**256),
        ("pool_id", True),
        ("node", "0x" + "a" * 40),
        ("node", b"\x00" * 20),
        ("deadline", "5"),
        ("extra", 1),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    good = {"pool_id": 1, "node": address_of(KEY), "nonce": 0, "deadline": 1}
    with pytest.raises(ValidationError):
        PoolInvite.model_validate(good | {field: value})


@given(any_message(), st.data())
def test_changed_bytes_are_another_message_or_refused(
    message: TypedMessage, data: st.DataObject
) -> None:
    raw = bytearray(message.to_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(EncodingError):
        assert type(message).from_bytes(bytes(raw)).digest(DOMAIN) != message.digest(DOMAIN)


def test_words_of_the_wrong_kind_are_refused() -> None:
    bad_values: list[tuple[str, Any]] = [
        ("bytes32", b"short"), ("uint32", 2**32), ("uint32", "1"), ("address", 5), ("string", "x"),
    ]  # fmt: skip
    for kind, value in bad_values:
        with pytest.raises(EncodingError):
            word(kind, value)
    with pytest.raises(SigningError):
        word("address", "0x00")
    with pytest.raises(EncodingError):
        unword("uint32", b"\xff" * 32)
    with pytest.raises(EncodingError):
        unword("address", b"\xff" * 32)
    with pytest.raises(EncodingError):
        Receipt.from_bytes(b"")
